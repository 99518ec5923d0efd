"""What a class's docstrings say: what it is, and what its constructor's arguments mean."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import docstring_parser
import pydantic
from docstring_parser.attrdoc import add_attribute_docstrings
from docstring_parser.common import Docstring

from optim_core.for_tools import signature_of

__all__ = ["Documentation", "documentation_of"]

# Their docstrings say nothing of the classes that inherit from them.
_FOUNDATIONS = ("abc", "builtins", "collections", "enum", "pydantic", "typing", "typing_extensions")
_ROLE = re.compile(r":[a-z][a-z:]*:`[~!]?([^`<]+?)(?: *<[^`]*>)?`")


@dataclass(frozen=True)
class Documentation:
    """What a class's docstrings say.

    Attributes:
        summary: the first sentence or line, on one line; may be empty.
        details: the paragraphs after it, up to the first section; may be empty.
        meanings: what the constructor's arguments mean, on one line each; those of which nothing is
            said are left out.
    """

    summary: str
    details: str
    meanings: Mapping[str, str]


def documentation_of(target: type) -> Documentation:
    """Read the docstrings of a class, of its `__init__`, of its fields, and of the classes it inherits from.

    Docstrings may be in the style of Google, NumPy or Sphinx. What an argument means may also be in
    `pydantic.Field(description=...)` or in the metadata of a dataclass's field.
    """
    parsed = [(cls, _parsed(_own_docstring(cls))) for cls in _documented_classes(target)]
    summary, details = next((_description(d) for _, d in parsed if d.short_description), ("", ""))
    meanings: dict[str, str] = {}
    for name, text in _said_of_arguments(target, parsed):
        tidy = " ".join(_readable(text).split())
        if tidy:
            meanings.setdefault(name, tidy)
    fields = _fields_by_alias(target)
    by_argument = {
        name: meanings.get(name) or meanings.get(fields.get(name, "")) for name in signature_of(target).arguments
    }
    return Documentation(summary, details, {name: text for name, text in by_argument.items() if text})


def _documented_classes(target: type) -> list[type]:
    return [
        cls
        for cls in target.__mro__
        if cls.__module__.partition(".")[0] not in _FOUNDATIONS and not cls.__dict__.get("_is_protocol", False)
    ]


def _own_docstring(cls: type) -> str:
    text = cls.__dict__.get("__doc__")
    if not isinstance(text, str):
        return ""
    made = dataclasses.is_dataclass(cls) or issubclass(cls, tuple)
    # Python gives these a "docstring" that only repeats the signature.
    return "" if made and text.startswith(f"{cls.__name__}(") else text


def _parsed(text: str) -> Docstring:
    try:
        return docstring_parser.parse(text)
    except Exception:
        # Whatever the parser stumbles over in a stranger's text, its first lines can be read.
        short, _, rest = inspect.cleandoc(text).partition("\n")
        plain = Docstring()
        plain.short_description, plain.long_description = short, rest.strip()
        plain.blank_after_short_description = rest.startswith("\n")
        return plain


def _description(docstring: Docstring) -> tuple[str, str]:
    """The summary on one line, which may take several in the docstring, and the rest."""
    summary, rest = docstring.short_description or "", docstring.long_description or ""
    if not docstring.blank_after_short_description and not summary.rstrip().endswith((".", "!", "?", ":")):
        paragraph, *others = re.split(r"\n\s*\n", rest, maxsplit=1)
        summary, rest = f"{summary} {paragraph}", "".join(others)
    return " ".join(_readable(summary).split()), _readable(rest).strip()


def _readable(text: str) -> str:
    """Without the markup of Sphinx, which is of no use in a terminal."""
    return _ROLE.sub(r"`\1`", text).replace("``", "`")


def _said_of_arguments(target: type, parsed: list[tuple[type, Docstring]]) -> Iterator[tuple[str, str]]:
    """Argument by argument, what is said of it where; the nearest first."""
    for cls, docstring in parsed:
        yield from _parameters(docstring)
        initialiser = cls.__dict__.get("__init__")
        if inspect.isfunction(initialiser) and initialiser.__doc__:
            yield from _parameters(_parsed(initialiser.__doc__))
    yield from _declared(target)
    for cls, _ in parsed:
        if "__annotations__" in cls.__dict__ or "__annotate_func__" in cls.__dict__:
            yield from _parameters(_attribute_docstrings(cls))


def _parameters(docstring: Docstring) -> Iterator[tuple[str, str]]:
    for parameter in docstring.params:
        # One entry may be about several, as in "beta1, beta2: ...".
        for name in parameter.arg_name.split(","):
            yield name.strip(" *`"), parameter.description or ""


def _attribute_docstrings(cls: type) -> Docstring:
    """Strings below the fields of a class, which only its source has."""
    found = Docstring()
    try:
        add_attribute_docstrings(cls, found)
    except (OSError, TypeError, ValueError, SyntaxError):
        return Docstring()
    return found


def _declared(target: type) -> Iterator[tuple[str, str]]:
    """Descriptions that are part of the declaration: of pydantic, of PEP 727, of a dataclass's field."""
    if issubclass(target, pydantic.BaseModel):
        for name, field in target.model_fields.items():
            yield name, field.description or ""
    if dataclasses.is_dataclass(target):
        for declared in dataclasses.fields(target):
            for key in ("description", "help", "doc"):
                yield declared.name, _text(declared.metadata.get(key))
    for argument in signature_of(target).arguments.values():
        if typing.get_origin(argument.annotation) is typing.Annotated:
            for note in argument.annotation.__metadata__:
                yield argument.name, _text(getattr(note, "description", None) or getattr(note, "documentation", None))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _fields_by_alias(target: type) -> dict[str, str]:
    """A pydantic model's fields by the names that its constructor has for them, where those differ."""
    if not issubclass(target, pydantic.BaseModel):
        return {}
    return {
        alias: name
        for name, field in target.model_fields.items()
        for alias in (field.alias, field.validation_alias)
        if isinstance(alias, str)
    }
