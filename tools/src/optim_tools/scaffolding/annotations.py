"""The type of a constructor's argument as source that fits into a configuration: what YAML can give."""

from __future__ import annotations

import collections.abc
import inspect
import numbers
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from optim_tools.scaffolding.source_text import text_of

__all__ = ["UNKNOWN", "annotation_source", "inferred_source"]

UNKNOWN = "Any"
"""The type of an argument of which nothing is known."""

_PLAIN = {float: "float", int: "int", bool: "bool", str: "str", type(None): "None", numbers.Real: "float"}
_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_WITHOUT_MEANING = (Any, object, inspect.Parameter.empty)
# Arguments whose names end so are real numbers, even where the default is written as 0 or 1, or isn't there.
_REAL = re.compile(
    r"(^|_)(lr|learning_rate|weight_decay|momentum|dampening|eps\d?|epsilon|beta\d?|alpha|gamma|rho|decay|wd)$"
)


def annotation_source(annotation: Any) -> str | None:
    """An annotation in names that need no import but `Any` and `Literal`; None where YAML can give none of it.

    Of a union what YAML can give is kept: `float | Tensor` is `float`.
    """
    if get_origin(annotation) is typing.Annotated:
        # First, as what follows the type may have no hash, and so the whole hasn't.
        return annotation_source(get_args(annotation)[0])
    if annotation in _WITHOUT_MEANING:
        return UNKNOWN
    if isinstance(annotation, typing.NewType):
        return annotation_source(annotation.__supertype__)
    plain = next((source for kind, source in _PLAIN.items() if annotation is kind), None)
    if plain is not None:
        return plain
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _union_source(arguments)
    if origin is Literal:
        return _literal_source(arguments)
    if origin is tuple or annotation is tuple:
        return _tuple_source(arguments)
    if origin in _LISTS or annotation in _LISTS:
        item = annotation_source(arguments[0]) if arguments else UNKNOWN
        return None if item is None else f"list[{item}]"
    if origin in _MAPPINGS or annotation in _MAPPINGS:
        value = annotation_source(arguments[1]) if arguments else UNKNOWN
        return None if value is None else f"dict[str, {value}]"
    return None


def _union_source(members: Sequence[Any]) -> str | None:
    usable = dict.fromkeys(source for source in map(annotation_source, members) if source is not None)
    if not usable or set(usable) == {"None"}:
        return None
    if UNKNOWN in usable:
        return UNKNOWN
    # None last, as people write it.
    return " | ".join(sorted(usable, key=lambda source: source == "None"))


def _literal_source(values: Sequence[Any]) -> str | None:
    if not all(value is None or isinstance(value, (str, int)) for value in values):
        return None
    shown = (text_of(value) if isinstance(value, str) else repr(value) for value in values)
    return f"Literal[{', '.join(shown)}]"


def _tuple_source(items: Sequence[Any]) -> str | None:
    if not items:
        return f"tuple[{UNKNOWN}, ...]"
    sources = [annotation_source(item) for item in items if item is not Ellipsis]
    if None in sources:
        return None
    joined = ", ".join(filter(None, sources))
    return f"tuple[{joined}, ...]" if Ellipsis in items else f"tuple[{joined}]"


def inferred_source(name: str, default: Any) -> str | None:
    """The type of an argument without annotation, from its default and its name; None where YAML can't give it."""
    if default is None:
        return "float | None" if _REAL.search(name) else UNKNOWN
    if isinstance(default, bool):
        return "bool"
    if isinstance(default, str):
        return "str"
    if isinstance(default, float):
        return "float"
    if isinstance(default, int):
        # A count must not become a real number, and a rate may be one, of which 0 and 1 are the usual whole ones.
        return "float" if _REAL.search(name) and default in (0, 1) else "int | float"
    if isinstance(default, (tuple, list)):
        return _inferred_items(name, default)
    if isinstance(default, Mapping):
        return f"dict[str, {UNKNOWN}]"
    return None


def _inferred_items(name: str, default: Sequence[Any]) -> str | None:
    items = [inferred_source(name, item) for item in default]
    if None in items:
        return None
    numeric = {"int", "float", "int | float"}
    if set(items) <= numeric and any(isinstance(item, float) for item in default):
        items = ["float"] * len(items)
    if isinstance(default, tuple) and items:
        return f"tuple[{', '.join(filter(None, items))}]"
    return f"list[{items[0]}]" if len(set(items)) == 1 else f"list[{UNKNOWN}]"
