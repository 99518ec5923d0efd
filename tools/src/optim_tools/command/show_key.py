"""`optim show`: what a key is, its parameters, and YAML to paste."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from optim_core import FactoryEntry
from optim_tools.command.key_factory import command_line, key_factory
from optim_tools.inspection.argument_schemas import as_json
from optim_tools.inspection.description import ArgumentDescription, FactoryDescription, describe
from optim_tools.inspection.example import example_params, refusal
from optim_tools.inspection.json_schema import factory_schema
from optim_tools.inspection.yaml_text import configuration_yaml, yaml_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["KeyDescription", "show_key"]

_WIDEST_COLUMN = 24  # of those that are folded
_NARROWEST_MEANING = 30
_GAP = 2


@dataclass(frozen=True)
class KeyDescription:
    """A key: who provides it, what it takes, and a configuration with it.

    `example` is None where no params are known to work; `yaml` then says what has to be filled in.
    """

    entry: FactoryEntry
    factory: FactoryDescription
    defaults: Mapping[str, Any]
    example: Mapping[str, Any] | None
    yaml: str
    only_yaml: bool

    @property
    def status(self) -> int:
        """0: a key that can't be described is a failure instead."""
        return 0

    def document(self) -> dict[str, Any]:
        """Parameters in the order of the constructor; a value that JSON can't hold is the text that YAML has for it."""
        return {
            "key": self.entry.key,
            "distribution": self.entry.distribution or None,
            "version": self.entry.version or None,
            "value": self.entry.value,
            "summary": self.factory.summary,
            "details": self.factory.details,
            "parameters": [
                {**asdict(a), "default": self.defaults.get(a.name, a.default or None)} for a in self.factory.arguments
            ],
            "rules": list(self.factory.rules),
            "yaml": self.yaml,
            "example_params": None if self.example is None else {n: _as_json(v) for n, v in self.example.items()},
        }

    def render(self, console: Console) -> None:
        """Print it for a person; the YAML is flush left, to be pasted."""
        if not self.only_yaml:
            self._render_description(console)
            console.print("\nYAML to paste", style="bold")
        # Not print(), which folds lines.
        console.out(self.yaml, end="")
        if not self.only_yaml:
            # Not folded either: it is to be copied.
            console.print(f"\nNext: {self._next()}", style="dim", soft_wrap=True)

    def _render_description(self, console: Console) -> None:
        console.print(self.entry.key, style="bold")
        console.print(self.factory.summary or "(Its factory has no docstring.)")
        console.print(f"From {self.entry.provider}", style="dim")
        for paragraph in _paragraphs(self.factory.details):
            console.print(f"\n{paragraph}")
        # Sorting keeps the order of the constructor among those required, and among the others.
        arguments = sorted(self.factory.arguments, key=lambda a: not a.required)
        console.print("\nParameters" if arguments else "\nIt takes no parameters.", style="bold")
        if arguments:
            _print_arguments(console, arguments)
        if self.factory.open:
            console.print("It takes any other parameter too, unchecked.")
        if self.factory.rules:
            console.print("\nRules", style="bold")
            for rule in self.factory.rules:
                console.print(Padding(rule, (0, 0, 0, 2)))

    def _next(self) -> str:
        if self.example is None:
            return "optim check config.yaml"
        return f"optim check config.yaml, or {command_line('plot', self.entry.key, self.example)}"


def show_key(key: str, *, only_yaml: bool) -> KeyDescription:
    """Describe a key's factory; imports the plugin that provides it, and builds the example.

    Args:
        key: the registry key.
        only_yaml: print nothing but the YAML.

    Raises:
        CommandError: there is no such key, or its factory can't be used.
    """
    found = key_factory(key)
    example = example_params(found.target)
    factory = describe(found.target)
    remarks = () if example is not None else tuple(_what_to_fill_in(found.target, factory))
    properties = factory_schema(found.target)["properties"]
    return KeyDescription(
        found.entry,
        factory,
        {name: schema["default"] for name, schema in properties.items() if "default" in schema},
        example,
        configuration_yaml(key, example or {}, remarks=remarks),
        only_yaml,
    )


def _what_to_fill_in(target: type, factory: FactoryDescription) -> Iterator[str]:
    required = [argument for argument in factory.arguments if argument.required]
    if required:
        yield "Give these a value; no values are known that work:"
        for argument in required:
            kind = ", ".join(filter(None, (argument.type, argument.constraint)))
            yield f"{argument.name}: # {kind}"
        return
    yield "No params are known that work. Without any, it says:"
    yield from (" ".join(str(problem).split()) for problem in refusal(target, {}))


def _as_json(value: Any) -> Any:
    try:
        return as_json(value)
    except ValueError:
        return yaml_text(value)


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs to be folded anew; those that were laid out, as code or a list, as they are."""
    for paragraph in re.split(r"\n\s*\n", text) if text else ():
        laid_out = re.search(r"^( |>>>|[-*+] |\d+[.)] |\.\. )", paragraph, re.MULTILINE)
        yield paragraph if laid_out else " ".join(paragraph.split())


def _print_arguments(console: Console, arguments: list[ArgumentDescription]) -> None:
    rows = [(a.name, a.type, "required" if a.required else a.default, a.constraint, a.meaning) for a in arguments]
    headings = ("name", "type", "default", "constraint", "meaning")
    kept = [i for i, heading in enumerate(headings) if any(row[i] for row in rows)]
    widths = [min(_WIDEST_COLUMN, max(len(row[i]) for row in rows)) + _GAP for i in kept if headings[i] != "meaning"]
    if console.width < sum(widths) + _NARROWEST_MEANING:
        _print_arguments_below_each_other(console, arguments)
        return
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for i in kept:
        # Columns other than the last keep their natural width where they can.
        ratio = 1 if headings[i] == "meaning" else None
        table.add_column(headings[i], overflow="fold", ratio=ratio, no_wrap=headings[i] == "name")
    for argument, row in zip(arguments, rows, strict=True):
        table.add_row(*(row[i] for i in kept), style="bold" if argument.required else None)
    console.print(table)


def _print_arguments_below_each_other(console: Console, arguments: list[ArgumentDescription]) -> None:
    for argument in arguments:
        default = "required" if argument.required else f"default {argument.default}" if argument.default else ""
        console.print(Text.assemble((argument.name, "bold"), f" ({default})" if default else ""))
        for line in (", ".join(filter(None, (argument.type, argument.constraint))), argument.meaning):
            if line:
                console.print(Padding(line, (0, 0, 0, 4)))
