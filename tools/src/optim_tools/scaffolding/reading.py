"""Reading an optimizer class: its arguments, their meanings and limits, and params with which it builds."""

from __future__ import annotations

import contextlib
import io
import keyword
import logging
import re
import sys
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from optim_core.for_tools import signature_of, type_adapter
from optim_tools.inspection.docstrings import Documentation, documentation_of
from optim_tools.inspection.example import example_params, refusal
from optim_tools.scaffolding.annotations import UNKNOWN, annotation_source, inferred_source
from optim_tools.scaffolding.constructor import (
    ConstructorArgument,
    NotWrappableError,
    constructor_arguments,
    require_optimizer_class,
)
from optim_tools.scaffolding.factory_source import factory_source
from optim_tools.scaffolding.findings import differing
from optim_tools.scaffolding.limits import with_limits
from optim_tools.scaffolding.names import PluginNames
from optim_tools.scaffolding.provider import source_of
from optim_tools.scaffolding.source_text import value_source
from optim_tools.scaffolding.stepping import ways_of_stepping
from optim_tools.scaffolding.wrapping import Findings, Option, Wrapping

__all__ = ["read_class"]

# Attributes that a factory has on its own account.
_TAKEN = {"build", "example_params", "params"}
_LONGEST_MEANING = 240
_SENTENCE_END = re.compile(r"(?<=[a-z0-9)`][.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!cf\.)\s")
# `(default: 0.1)`, `(default: (0.9, 0.999))`, `Default: 1e-3`
_DEFAULT_VALUE = r"[Dd]efaults?( value)?( is|:| to| =)? *"
_SHOWN_DEFAULT = re.compile(rf" *(\({_DEFAULT_VALUE}([^()]|\([^()]*\))*\)|\b{_DEFAULT_VALUE}[-\w.+\[\](), ]*$)")


def read_class(target: object, module: ModuleType, path: str, names: PluginNames) -> Wrapping:
    """Read a class, and try it: it is built several times over a small parameter.

    Args:
        target: the class.
        module: where it was found.
        path: its name in there.
        names: of the plugin that is to wrap it.

    Raises:
        NotWrappableError: with the reason.
    """
    optimizer_class = require_optimizer_class(target)
    if path.startswith("Test"):
        raise NotWrappableError(
            "has a name that begins with Test, and the tests of the plugin, which import it, would be told by pytest "
            "that it is none; give it another name in its module"
        )
    params, arguments = constructor_arguments(optimizer_class)
    source = source_of(module)
    documentation = documentation_of(optimizer_class)
    options, left_out = _options(arguments, documentation.meanings)
    summary = _summary(optimizer_class, documentation, source.requirement)
    narrow = params.annotation not in (Any, ParamsT)
    wrapping = Wrapping(module.__name__, path, summary, tuple(options), left_out, narrow=narrow, source=source)
    with _quiet():
        wrapping = _that_builds(wrapping, {a.name for a in arguments if a.forwarded}, names, optimizer_class)
        factory = _factory(wrapping, names)
        limited = with_limits(wrapping.options, lambda changes: not refusal(factory, {**wrapping.example, **changes}))
        flags = ways_of_stepping(factory(**wrapping.example).build)
    return replace(wrapping, options=limited, findings=Findings(differing(flags)))


def _options(
    arguments: Sequence[ConstructorArgument], meanings: Mapping[str, str]
) -> tuple[list[Option], dict[str, str]]:
    options: list[Option] = []
    left_out: dict[str, str] = {}
    for argument in arguments:
        found = _option(argument, _short(meanings.get(argument.name, "")))
        if isinstance(found, Option):
            options.append(found)
        elif argument.required:
            raise NotWrappableError(f"needs the argument {argument.name}, but {found}")
        elif not argument.forwarded:
            left_out[argument.name] = found
    return options, left_out


def _option(argument: ConstructorArgument, meaning: str) -> Option | str:
    """The option, or why there is none."""
    name = argument.name
    if name.startswith("_") or name in _TAKEN or keyword.iskeyword(name):
        return "its name is none for a configuration's key"
    annotation = annotation_source(argument.annotation)
    if argument.required:
        if annotation is None:
            return f"no YAML can give a {_name_of(argument.annotation)}"
        if annotation == UNKNOWN:
            # By its name it may be a number.
            annotation = (inferred_source(name, None) or UNKNOWN).removesuffix(" | None")
        return Option(name, annotation, None, meaning, argument.positional)
    default = value_source(argument.default)
    if default is None or (annotation is None and argument.default is None):
        kind = type(argument.default) if default is None else argument.annotation
        return f"no YAML can give a {_name_of(kind)}"
    inferred = inferred_source(name, argument.default) or UNKNOWN
    if annotation in (None, UNKNOWN):
        annotation = inferred
    elif not _admits(annotation, argument.default):
        # It was annotated in haste: None for a float, say.
        annotation = f"{annotation} | {'None' if argument.default is None else inferred}"
    if isinstance(argument.default, (list, dict)):
        kind = type(argument.default).__name__
        default = f"field(default_factory={f'lambda: {default}' if argument.default else kind})"
    return Option(name, annotation, default, meaning, argument.positional)


def _admits(annotation: str, value: Any) -> bool:
    kind = eval(annotation, {"Any": Any, "Literal": typing.Literal})
    try:
        # A whole number is a real one, too.
        type_adapter(kind).validate_python(value, strict=not isinstance(value, int))
    except ValueError:
        return False
    return True


def _name_of(kind: Any) -> str:
    return str(kind) if typing.get_args(kind) else getattr(kind, "__name__", str(kind))


def _short(meaning: str) -> str:
    """The first sentence, without the default, which stands beside it anyway."""
    sentence = _SENTENCE_END.split(_balanced(_SHOWN_DEFAULT.sub("", meaning)).strip())[0].strip(" ,;.")
    if not any(character.isalpha() for character in sentence):
        return ""
    if len(sentence) > _LONGEST_MEANING:
        sentence = f"{sentence[:_LONGEST_MEANING].rsplit(' ', 1)[0]} ..."
    return sentence if sentence[-1] in ".!?" else f"{sentence}."


def _balanced(text: str) -> str:
    """Without what stands before a bracket that nothing opens, and from one on that nothing closes."""
    while text.count(")") > text.count("("):
        text = text.partition(")")[2]
    return text.rpartition("(")[0] if text.count("(") > text.count(")") else text


def _summary(target: type, documentation: Documentation, requirement: str | None) -> str:
    own = target.__dict__.get("__doc__")
    sentence = _SENTENCE_END.split(documentation.summary)[0].strip() if isinstance(own, str) and own.strip() else ""
    if not sentence or len(sentence) > 100 or not sentence[0].isalpha():
        provider = f" of {re.split('[<>=]', requirement)[0]}" if requirement else ""
        return f"{target.__name__}{provider}."
    return sentence if sentence[-1] in ".!?" else f"{sentence}."


def _that_builds(wrapping: Wrapping, forwarded: set[str], names: PluginNames, target: type[Optimizer]) -> Wrapping:
    """With params that work, and without what base classes take but aren't given."""
    given = replace(wrapping, options=tuple(o for o in wrapping.options if o.name not in forwarded))
    factory = _factory(given, names)
    required = [option.name for option in given.options if option.default is None]
    example = example_params(factory) if required else {}
    problems = refusal(factory, example or {})
    if problems and not required:
        raise NotWrappableError(_why_it_fails(target, " ".join(str(problems[0]).split())))
    if example is None:
        raise NotWrappableError(f"needs the arguments {', '.join(required)}, for which no values are known that work")
    given = replace(given, example=example)
    if not required:
        rate = next((o for o in given.options if o.name == "lr" and o.default not in (None, "None")), None)
        given = replace(given, example={} if rate is None else {"lr": float(str(rate.default))})
    reached = [option for option in wrapping.options if option.name in forwarded]
    for option in reached:
        more = replace(given, options=(*given.options, option))
        if not refusal(_factory(more, names), given.example):
            given = more
    return given


def _why_it_fails(target: type[Optimizer], said: str) -> str:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    if not _takes(target, [weight]) and _takes(target, [("weight", weight)]):
        return f"needs parameters with their names, and a factory is given parameters only (without them: {said})"
    return f"can't be built over parameters: {said}"


def _takes(target: type[Optimizer], params: Any) -> bool:
    try:
        target(params)  # type: ignore[call-arg]
    except Exception:
        # Whatever it raises: only whether it does is asked here.
        return False
    return True


def _factory(wrapping: Wrapping, names: PluginNames) -> type:
    """The class that the generated module would have."""
    module = ModuleType(f"_{names.package}_factory")
    # A dataclass looks there for what the names in its annotations mean.
    sys.modules[module.__name__] = module
    try:
        exec(compile(factory_source(names, wrapping), f"<factory of {names.key}>", "exec"), vars(module))
        factory: type = vars(module)[names.factory]
        # Asked for once, they are known from then on.
        signature_of(factory)
    finally:
        del sys.modules[module.__name__]
    return factory


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what optimizers say while they are built, again and again."""
    quiet = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(quiet)
