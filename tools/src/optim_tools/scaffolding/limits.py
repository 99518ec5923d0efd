"""The limits of real numbers that a class itself refuses to go beyond, found by trying."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from optim_tools.scaffolding.wrapping import Option

__all__ = ["with_limits"]

_TUPLE = re.compile(r"tuple\[float(, float)*\]")


def with_limits(options: tuple[Option, ...], is_accepted: Callable[[Mapping[str, Any]], bool]) -> tuple[Option, ...]:
    """The options with narrower types, where the class refuses negative numbers, zero, or one.

    So a wrong number is refused with the argument's name, before there is a model, and not by the class.

    Args:
        options: those of the class.
        is_accepted: whether an optimizer can be built with these options in place of the defaults.
    """
    return tuple(_limited(option, is_accepted) for option in options)


def _limited(option: Option, is_accepted: Callable[[Mapping[str, Any]], bool]) -> Option:
    if option.annotation == "float" and option.default is not None:
        found = _limits(option.name, option.default, lambda value: is_accepted({option.name: value}))
        return replace(option, annotation=found)
    if _TUPLE.fullmatch(option.annotation) and option.default is not None and "math" not in option.default:
        return replace(option, annotation=f"tuple[{', '.join(_items(option, is_accepted))}]")
    return option


def _items(option: Option, is_accepted: Callable[[Mapping[str, Any]], bool]) -> list[str]:
    default = list(ast.literal_eval(str(option.default)))

    def accepts(index: int, value: float) -> bool:
        return is_accepted({option.name: [*default[:index], value, *default[index + 1 :]]})

    return [
        _limits("", repr(value), lambda changed, index=index: accepts(index, changed))  # type: ignore[misc]
        for index, value in enumerate(default)
    ]


def _limits(name: str, default: str, accepts: Callable[[float], bool]) -> str:
    if accepts(-0.1):
        return "float"
    below_one = default not in ("math.inf", "1.0", "1") and accepts(0.5) and not accepts(1.0)
    if not accepts(0.0):
        return "Annotated[float, Gt(0), Lt(1)]" if below_one else "Annotated[float, Gt(0)]"
    if below_one:
        return "Beta"
    if default == "math.inf":
        return "Annotated[float, Ge(0)]"
    return "LearningRate" if name == "lr" else "NonNegative"
