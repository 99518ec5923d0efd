"""Values, lists and imports as Python source, laid out as a formatter would have them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["WIDTH", "import_of", "list_of", "sorted_names", "text_of", "value_source"]

WIDTH = 120
"""Columns of a line, as the generated `[tool.ruff]` has it."""

_QUOTE_OR_ESCAPE = re.compile(r"\\.|\"")


def text_of(text: str) -> str:
    """A text as a literal: in double quotes, unless it has more of them than of single ones."""
    # With a double quote in it, repr() takes single quotes.
    single = repr(f'"{text}')[2:-1]
    if text.count('"') > text.count("'"):
        return f"'{single}'"
    changed = {"\\'": "'", '"': '\\"'}
    return f'"{_QUOTE_OR_ESCAPE.sub(lambda found: changed.get(found[0], found[0]), single)}"'


def value_source(value: object) -> str | None:
    """The literal that gives an equal value; None for what has none: a function, a tensor, a type.

    `math.inf` and `math.nan` are the only names in it.
    """
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, float):
        return _float_source(float(value))
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        items = [value_source(item) for item in value]
        if None in items:
            return None
        joined = ", ".join(filter(None, items))
        if isinstance(value, list):
            return f"[{joined}]"
        return f"({joined},)" if len(value) == 1 else f"({joined})"
    if isinstance(value, Mapping) and type(value) is dict:
        pairs = [(value_source(key), value_source(item)) for key, item in value.items()]
        if any(None in pair for pair in pairs):
            return None
        return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
    return None


def _float_source(value: float) -> str:
    if math.isnan(value):
        return "math.nan"
    if math.isinf(value):
        return "math.inf" if value > 0 else "-math.inf"
    return repr(value)


def sorted_names(names: Iterable[str]) -> list[str]:
    """Names in the order that linters have them in: constants, classes, functions."""

    def rank(name: str) -> int:
        if name.isupper() and len(name) > 1:
            return 0
        return 1 if name[:1].isupper() else 2

    return sorted(set(names), key=lambda name: (rank(name), name))


def list_of(opening: str, items: Sequence[str], closing: str, *, indent: int = 0) -> str:
    """Items between brackets: on one line where they fit, else one a line."""
    margin = " " * indent
    line = f"{margin}{opening}{', '.join(items)}{closing}"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    return "\n".join([f"{margin}{opening}", *(f"{margin}    {item}," for item in items), f"{margin}{closing}"])


def import_of(module: str, names: Iterable[str]) -> str:
    """`from module import names`."""
    chosen = sorted_names(names)
    line = f"from {module} import {', '.join(chosen)}"
    return line if len(line) <= WIDTH else list_of(f"from {module} import (", chosen, ")")
