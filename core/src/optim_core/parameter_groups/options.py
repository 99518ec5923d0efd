"""Options of parameter groups as they are written in a configuration, checked and converted for an optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from optim_core.arguments.signatures import signature_of
from optim_core.arguments.spelling import nearest
from optim_core.arguments.validation import convert_arguments
from optim_core.configuration.group_rules import EFFECTS, number_in
from optim_core.errors import Problem
from optim_core.optimizer.group_options import plain_number
from optim_core.optimizer.schedule_state import PEAK
from optim_core.parameter_groups.rule_effects import Setting
from optim_core.parameter_groups.trial_build import Case, GroupTrial

__all__ = ["comparable", "converted_options", "same_option"]

CasesOf = Callable[[Setting], Collection[Case]]


def converted_options(
    settings: Iterable[Setting], trial: GroupTrial, factory: type, cases_of: CasesOf
) -> tuple[list[Mapping[str, Any]], list[Problem]]:
    """The options of each setting as an optimizer's groups have them, and what is wrong with them.

    Args:
        settings: what entries set.
        trial: what the optimizer's groups have.
        factory: the class of the factory, whose arguments of these names say what is right.
        cases_of: the cases of the trial that a setting is for.

    Returns:
        The options, in the settings' order, and problems, whose paths are those of the entries.
    """
    results: list[Mapping[str, Any]] = []
    problems: list[Problem] = []
    for setting in settings:
        cases = cases_of(setting)
        converted, found = _converted(setting, trial, factory, cases)
        results.append(converted)
        if setting.lr_scale != 1 and all(trial.options[case].get("lr") is None for case in cases):
            found.append(Problem("lr_scale", "the optimizer's groups have no rate ('lr') to be scaled"))
        if converted and not found and trial.refusal is None:
            found = trial.problems_of(converted, cases)
        problems += [problem.below(setting.path) for problem in found]
    unique = list(dict.fromkeys(problems))
    if trial.refusal is not None and any(setting.options or setting.lr_scale != 1 for setting in settings):
        message = f"the optimizer takes no parameter groups: {trial.refusal}"
        unique.append(Problem("param_groups", message, "Only 'freeze' can be used with it, or another optimizer"))
    return results, unique


def same_option(first: Any, second: Any) -> bool:
    """Whether two values of an option are the same to an optimizer."""
    return comparable(first) == comparable(second)


def comparable(value: Any) -> Hashable:
    """A value of an option so that it is equal to others that are the same to an optimizer: 0 to 0.0, not to False."""
    value = plain_number(value)
    if isinstance(value, (tuple, list)):
        return tuple(map(comparable, value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number", value
    return type(value).__name__, repr(value) if not isinstance(value, Tensor) else str(id(value))


def _converted(
    setting: Setting, trial: GroupTrial, factory: type, cases: Collection[Case]
) -> tuple[dict[str, Any], list[Problem]]:
    converted: dict[str, Any] = {}
    problems: list[Problem] = []
    known = trial.names(cases)
    for written, value in setting.options.items():
        name = "lr" if written == PEAK and trial.has_peak else written
        if name not in known:
            problems.append(_unknown(written, known))
            continue
        default = next(options[name] for case in cases if name in (options := trial.options[case]))
        value, found = _value(name, value, default, factory)
        problems += [replace(problem, path=written) if name != written else problem for problem in found]
        converted[name] = value
    return converted, problems


def _unknown(name: str, known: Sequence[str]) -> Problem:
    near = nearest(name, [*known, *EFFECTS])
    others = " and ".join(map(repr, EFFECTS))
    there = f"Its groups have {', '.join(known)}; a rule has {others} beside these"
    hint = "Did you mean " + " or ".join(map(repr, near)) + "?" if near else there
    if "lr" in known and name.endswith("_lr"):
        hint = "A group's own rate is its 'lr', the peak where there is a schedule; 'lr_scale' multiplies it"
    return Problem(name, "the optimizer's groups have no such option", hint)


def _value(name: str, value: Any, default: Any, factory: type) -> tuple[Any, list[Problem]]:
    if name == "lr":
        rate = number_in(plain_number(value))
        if rate is None or not 0 <= rate < math.inf:
            return value, [Problem(name, f"= {value!r}: must be a finite number, zero or more")]
        # Where rates are tensors, for compiled steps and captured graphs, this one is, too.
        return torch.full_like(default, rate) if isinstance(default, Tensor) else rate, []
    if name in signature_of(factory).validators:
        converted, problems = convert_arguments(factory, {name: value})
        value = converted.get(name, value)
        return _like(name, value, default) if type(value) in (int, float) and not problems else (value, problems)
    return _like(name, value, default)


def _like(name: str, value: Any, default: Any) -> tuple[Any, list[Problem]]:
    """A value of an option of which nothing is known but its default."""
    default = plain_number(default)
    if isinstance(default, bool):
        fits = isinstance(value, bool)
        return value, [] if fits else [Problem(name, f"= {value!r}: must be true or false")]
    if isinstance(default, (int, float)):
        number = number_in(value)
        if number is None or math.isnan(number) or (math.isinf(number) and isinstance(value, int)):
            return value, [Problem(name, f"= {value!r}: must be a number")]
        # Where groups have a whole number for want of a dot, others may have any.
        return value if isinstance(value, int) and isinstance(default, int) else number, []
    if isinstance(default, (tuple, list)):
        if not isinstance(value, (tuple, list)) or len(value) != len(default):
            return value, [Problem(name, f"= {value!r}: must be a list of {len(default)}")]
        pairs = [_like(f"{name}[{i}]", v, d) for i, (v, d) in enumerate(zip(value, default, strict=True))]
        return type(default)(item for item, _ in pairs), [problem for _, found in pairs for problem in found]
    if isinstance(default, str) and not isinstance(value, str):
        return value, [Problem(name, f"= {value!r}: must be a string")]
    return value, []
