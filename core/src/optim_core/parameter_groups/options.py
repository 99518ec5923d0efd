"""Options of parameter groups as they are written in a configuration, checked and converted for an optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from optim_core.arguments import convert_arguments
from optim_core.errors import Problem
from optim_core.group_options import plain_number
from optim_core.parameter_groups.rules import EFFECTS, number_in
from optim_core.parameter_groups.settings import Setting
from optim_core.parameter_groups.trial import GroupTrial
from optim_core.schedule_state import PEAK, STEP
from optim_core.signatures import signature_of
from optim_core.spelling import nearest

__all__ = ["converted_options", "same_option"]

_OF_SCHEDULES = (STEP, "initial_lr")


def converted_options(
    settings: Iterable[Setting], trial: GroupTrial, factory: type
) -> tuple[list[Mapping[str, Any]], list[Problem]]:
    """The options of each setting as an optimizer's groups have them, and what is wrong with them.

    Args:
        settings: what entries set.
        trial: what the optimizer's groups have.
        factory: the class of the factory, whose arguments of these names say what is right.

    Returns:
        The options, in the settings' order, and problems, whose paths are those of the entries.
    """
    results: list[Mapping[str, Any]] = []
    problems: list[Problem] = []
    tried: list[tuple[str, Mapping[str, Any]]] = []
    for setting in settings:
        converted, found = _converted(setting, trial, factory)
        results.append(converted)
        written = (setting.path, setting.options)
        if setting.lr_scale != 1 and "lr" not in trial.names:
            found.append(Problem("lr_scale", "the optimizer's groups have no rate ('lr') to be scaled"))
        if converted and not found and trial.refusal is None and written not in tried:
            tried.append(written)
            found = trial.problems_of(converted)
        problems += [problem.below(setting.path) for problem in found]
    unique = list(dict.fromkeys(problems))
    needed = [setting for setting in settings if setting.options or setting.lr_scale != 1]
    if trial.refusal is not None and needed:
        message = f"the optimizer takes no parameter groups: {trial.refusal}"
        unique.append(Problem("param_groups", message, "Only 'freeze' can be used with it, or another optimizer"))
    return results, unique


def same_option(first: Any, second: Any) -> bool:
    """Whether two values of an option are the same to an optimizer."""
    first, second = plain_number(first), plain_number(second)
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return first is second
    if isinstance(first, bool) is not isinstance(second, bool):
        return False
    return bool(first == second)


def _converted(setting: Setting, trial: GroupTrial, factory: type) -> tuple[dict[str, Any], list[Problem]]:
    converted: dict[str, Any] = {}
    problems: list[Problem] = []
    for written, value in setting.options.items():
        name = "lr" if written == PEAK and PEAK not in trial.names else written
        if name not in trial.names or name in _OF_SCHEDULES:
            problems.append(_unknown(written, trial))
            continue
        value, found = _value(name, value, trial, factory)
        problems += [problem if written == name else problem.below(written) for problem in found]
        converted[name] = value
    return converted, problems


def _unknown(name: str, trial: GroupTrial) -> Problem:
    known = [known for known in trial.names if known not in _OF_SCHEDULES]
    near = nearest(name, [*known, *EFFECTS])
    hint = "Did you mean " + " or ".join(map(repr, near)) + "?" if near else f"Its groups have {', '.join(known)}"
    if "lr" in known and name.endswith("_lr"):
        hint = "A group's own rate is its 'lr', the peak where there is a schedule; 'lr_scale' multiplies it"
    return Problem(name, "the optimizer's groups have no such option", hint)


def _value(name: str, value: Any, trial: GroupTrial, factory: type) -> tuple[Any, list[Problem]]:
    if name == "lr":
        rate = number_in(plain_number(value))
        if rate is None or not 0 <= rate < math.inf:
            return value, [Problem(name, f"= {value!r}: must be a finite number, zero or more")]
        return rate, []
    default = next(options[name] for options in trial.options.values() if name in options)
    if name in signature_of(factory).validators:
        converted, problems = convert_arguments(factory, {name: value})
        return converted.get(name, value), problems
    return _like(name, value, default)


def _like(name: str, value: Any, default: Any) -> tuple[Any, list[Problem]]:
    """A value of an option of which nothing is known but its default."""
    default = plain_number(default)
    if isinstance(default, bool):
        fits = isinstance(value, bool)
        return value, [] if fits else [Problem(name, f"= {value!r}: must be true or false")]
    if isinstance(default, (int, float)):
        number = number_in(value)
        if number is None or math.isnan(number):
            return value, [Problem(name, f"= {value!r}: must be a number")]
        return value if isinstance(value, (int, float)) else number, []
    if isinstance(default, (tuple, list)):
        if not isinstance(value, (tuple, list)) or len(value) != len(default):
            return value, [Problem(name, f"= {value!r}: must be a list of {len(default)}")]
        pairs = [_like(f"{name}[{i}]", v, d) for i, (v, d) in enumerate(zip(value, default, strict=True))]
        return type(default)(item for item, _ in pairs), [problem for _, found in pairs for problem in found]
    if isinstance(default, str) and not isinstance(value, str):
        return value, [Problem(name, f"= {value!r}: must be a string")]
    return value, []
