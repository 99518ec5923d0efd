"""The module of a factory around an optimizer class."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from optim_tools.scaffolding.names import PluginNames
from optim_tools.scaffolding.source_text import WIDTH, import_of, list_of, text_of, value_source
from optim_tools.scaffolding.templates import render
from optim_tools.scaffolding.wrapping import Findings, Wrapping

__all__ = ["factory_source"]

_QUANTITIES = ("Beta", "LearningRate", "NonNegative", "PeakLearningRate")
_NOTHING_KNOWN = "# No type is known: any value is passed on."
_TODAY = "seen when this was generated: "


def factory_source(names: PluginNames, wrapping: Wrapping) -> str:
    """The text of `factory.py`."""
    return render(
        "wrapped/factory.py.txt",
        {
            "factory": names.factory,
            "wrapped": wrapping.path,
            "imports": _imports(names, wrapping),
            "docstring": "\n".join(_docstring(wrapping)),
            "claims": _claims(wrapping.findings),
            "example": value_source(_with_tuples(wrapping.example)) or "{}",
            "fields": "".join(f"{line}\n" for line in _fields(wrapping)),
            "build": "\n".join(_build(wrapping)),
        },
    )


def _with_tuples(value: Any) -> Any:
    # YAML gives lists, where classes have tuples.
    if isinstance(value, Mapping):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, (list, tuple)) else value


def _imports(names: PluginNames, wrapping: Wrapping) -> str:
    source = " ".join(f"{option.annotation} = {option.default}" for option in wrapping.options)
    used = set(re.findall(r"[A-Za-z_.]+", re.sub(r'"[^"]*"', "", source)))
    standard = ["import math"] if {"math.inf", "math.nan"} & used else []
    fields = {"field"} if "field" in used else set()
    typing_names = {"TYPE_CHECKING", "Any", "ClassVar"} | ({"Annotated", "Literal"} & used)
    typing_names |= {"cast"} if wrapping.narrow else set()
    standard += [
        import_of("dataclasses", {"dataclass", *fields, *({"asdict"} if wrapping.options else ())}),
        import_of("typing", typing_names),
    ]
    limits = {"Ge", "Gt", "Le", "Lt"} & used
    others = {"optim_core": {"Claims", "validate_fields", *(used & set(_QUANTITIES))}}
    if limits:
        others["annotated_types"] = limits
    own = wrapping.module.partition(".")[0] == names.package
    if not own:
        others.setdefault(wrapping.module, set()).add(wrapping.top_name)
    blocks = [standard, [import_of(module, others[module]) for module in sorted(others, key=str.lower)]]
    if own:
        blocks.append([import_of(wrapping.module, [wrapping.top_name])])
    return "\n\n".join("\n".join(block) for block in blocks)


def _docstring(wrapping: Wrapping) -> Iterator[str]:
    yield from textwrap.wrap(_escaped(wrapping.summary), WIDTH - len('    """'), break_long_words=False)[:1]
    if wrapping.options:
        yield ""
        yield "    Args:"
    for option in wrapping.options:
        meaning = option.meaning or f"see `{wrapping.path}`."
        yield from textwrap.wrap(
            _escaped(f"{option.name}: {meaning}"),
            WIDTH,
            initial_indent=" " * 8,
            subsequent_indent=" " * 12,
            break_on_hyphens=False,
        )
    yield ""
    yield "    Raises:"
    yield "        InvalidArgumentsError: (a ValueError) with every argument that breaks a rule."


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', "'''")


def _claims(findings: Findings | None) -> str:
    findings = findings or Findings()
    comment = "    # What the optimizer can and can't; `optim verify` and the tests hold it to that.\n"
    flags = [f"{name}={value}" for name, value in findings.flags.items()]
    head = "CLAIMS: ClassVar[Claims] = Claims("
    if not findings.failures:
        return comment + list_of(head, flags, ")", indent=4)
    lines = [f"    {head}", *(f"        {flag}," for flag in flags), "        expected_failures={"]
    for identifier, seen in findings.failures.items():
        lines += _failure(identifier, seen)
    return comment + "\n".join([*lines, "        },", "    )"])


def _failure(identifier: str, seen: str) -> Iterator[str]:
    """One entry of `expected_failures`; a text that is too long for its line goes over several."""
    text = _TODAY + seen
    line = f"            {text_of(identifier)}: {text_of(text)},"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"            {text_of(identifier)}: ("
    # A formatter would put pieces together that fit into one line.
    fits = len(text_of(text)) <= WIDTH - 16
    pieces = [text] if fits else textwrap.wrap(text, WIDTH - 24, drop_whitespace=False, break_on_hyphens=False)
    yield from (f"                {text_of(piece)}" for piece in pieces)
    yield "            ),"


def _fields(wrapping: Wrapping) -> Iterator[str]:
    for option in wrapping.options:
        if option.annotation == "Any":
            yield f"    {_NOTHING_KNOWN}"
        default = "" if option.default is None else f" = {option.default}"
        line = f"    {option.name}: {option.annotation}{default}"
        # A formatter would fold it, each version in its own way.
        yield line if len(line) <= WIDTH else f"{line}  # fmt: skip # noqa: E501"
    for name, reason in wrapping.left_out.items():
        remark = f"{name} keeps the default of {wrapping.path}: {reason}."
        yield from textwrap.wrap(remark, WIDTH, initial_indent="    # ", subsequent_indent="    # ")
    if wrapping.options or wrapping.left_out:
        yield ""  # before the methods


def _build(wrapping: Wrapping) -> Iterator[str]:
    params = "params"
    if wrapping.narrow:
        yield "        # Its annotations admit less than PyTorch's own classes take."
        params = 'cast("Any", params)'
    positional = [option.name for option in wrapping.options if option.positional]
    if positional:
        yield "        options = asdict(self)"
        given = [*(f"options.pop({text_of(name)})" for name in positional), "**options"]
    else:
        given = ["**asdict(self)"] if wrapping.options else []
    yield list_of(f"return {wrapping.path}(", [params, *given], ")", indent=8)
