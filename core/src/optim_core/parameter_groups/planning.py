"""From a component's rules and policies to the parameter groups that its factory is given."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pluggy
from torch import Tensor
from torch.optim import Optimizer

from optim_core.components import Component
from optim_core.configuration import ComponentSpec
from optim_core.errors import InvalidArgumentsError, Problem
from optim_core.factory import OptimizerFactory
from optim_core.group_options import plain_number
from optim_core.parameter_groups.options import converted_options, same_option
from optim_core.parameter_groups.places import Places
from optim_core.parameter_groups.settings import Setting, settings_of, settings_of_rules
from optim_core.parameter_groups.trial import GroupTrial, kind_of, rate_option_of, tried_groups
from optim_core.scheduled_optimizer import ScheduledOptimizer

__all__ = ["GroupPlan", "lost_options", "option_problems", "plan_groups"]


@dataclass(frozen=True)
class GroupPlan:
    """What a component's factory is given.

    Attributes:
        params: parameter groups, each with "params" and options; or the parameters, where no group has any option.
        rules: what decided about each parameter, by its name within the component; not of those that nothing did.
        frozen: the parameters that are not to be trained.
    """

    params: Sequence[Any]
    rules: Mapping[str, str]
    frozen: Sequence[Tensor]


def plan_groups(
    component: Component,
    spec: ComponentSpec,
    factory: OptimizerFactory | None,
    given: Iterable[Any],
    manager: pluggy.PluginManager,
) -> tuple[GroupPlan | None, list[Problem]]:
    """Apply a component's rules and policies to the parameters that its factory would be given without them.

    The first rule that matches a parameter is its rule. Policies add to that: of what several entries set, the first
    in the list holds, and scales of the rate are multiplied. Groups with the same options are one.

    Args:
        component: whose parameters they are.
        spec: with the entries.
        factory: constructed from the component's params; None where these are wrong.
        given: parameters, or parameter groups.
        manager: of the hooks, for policies.

    Returns:
        The plan, where nothing is wrong, and every problem; paths begin with `param_groups`, or with `params` where
        the optimizer can't be built.
    """
    base, plain = _as_groups(given)
    places = Places(component)
    settings, problems = settings_of(spec, places, manager)
    if factory is None:
        return None, problems
    try:
        trial = tried_groups(factory, base, plain=plain)
    except (ValueError, TypeError) as error:
        return None, [*problems, *_of_the_optimizer(error)]
    options, wrong = converted_options(settings, trial, type(factory))
    if problems or wrong:
        return None, [*problems, *wrong]
    return _planned(base, plain, places, settings, options, trial), []


def option_problems(spec: ComponentSpec, factory: OptimizerFactory, samples: Iterable[Tensor]) -> list[Problem]:
    """What is wrong with the options of a component's rules, as far as that can be told without a model.

    Args:
        spec: with the rules.
        factory: constructed from the component's params.
        samples: parameters that the factory can build over.
    """
    trial = tried_groups(factory, [{"params": list(samples)}], plain=True)
    return converted_options(settings_of_rules(spec), trial, type(factory))[1]


def lost_options(plan: GroupPlan, optimizer: Optimizer) -> str | None:
    """What an optimizer has other in its groups than it was given, in words; None where it has everything."""
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    driven: Collection[str] = ()
    if isinstance(optimizer, ScheduledOptimizer):
        driven = optimizer.schedule.options_at(0, optimizer.schedule.peak_lr).keys() - {"lr"}
    for planned in plan.params:
        if not isinstance(planned, Mapping):
            continue
        wanted = {n: v for n, v in planned.items() if n != "params" and n not in driven}
        groups = {id(g): g for p in planned["params"] if (g := group_of.get(id(p))) is not None}
        for group in groups.values():
            for name, value in wanted.items():
                found = rate_option_of(group) if name == "lr" else group.get(name)
                if not _is_about(found, value):
                    return f"{name} = {value!r} was given for a group, which has {found!r}"
    return None


def _is_about(found: Any, wanted: Any) -> bool:
    found, wanted = plain_number(found), plain_number(wanted)
    if type(found) is float or type(wanted) is float:
        return isinstance(found, (int, float)) and math.isclose(found, wanted, rel_tol=1e-6)
    return isinstance(wanted, Tensor) or bool(found == wanted)


def _of_the_optimizer(error: ValueError | TypeError) -> list[Problem]:
    if isinstance(error, InvalidArgumentsError):
        return [problem.below("params") for problem in error.problems]
    return [Problem("params", f"the optimizer can't be built: {error}", cause=error)]


def _as_groups(given: Iterable[Any]) -> tuple[list[dict[str, Any]], bool]:
    """What a hook or the core has chosen, as groups of tensors; and whether it was parameters only."""
    entries = list(given)
    plain = not (entries and isinstance(entries[0], Mapping))
    groups = [{"params": entries}] if plain else [dict(group) for group in entries]
    for group in groups:
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        group["params"] = [item[1] if isinstance(item, tuple) else item for item in params]
        group.pop("param_names", None)
    return groups, plain


def _planned(
    base: Sequence[Mapping[str, Any]],
    plain: bool,
    places: Places,
    settings: Sequence[Setting],
    options: Sequence[Mapping[str, Any]],
    trial: GroupTrial,
) -> GroupPlan:
    of_parameter: dict[int, tuple[int, ...]] = {}
    for number, setting in enumerate(settings):
        for parameter in setting.params:
            of_parameter[id(parameter)] = (*of_parameter.get(id(parameter), ()), number)
    # By base group, kind and settings: what makes a group one with others, and its options.
    made: dict[tuple[int, Hashable, tuple[int, ...]], tuple[Hashable, dict[str, Any]]] = {}
    groups: dict[Hashable, dict[str, Any]] = {}
    for index, group in enumerate(base):
        own = {name: value for name, value in group.items() if name != "params"}
        for parameter in group["params"]:
            case = (index, kind_of(parameter), of_parameter.get(id(parameter), ()))
            if case not in made:
                mine = [settings[number] for number in case[2]]
                changed = _together(mine, [options[number] for number in case[2]], trial.options[case[:2]])
                same = tuple(sorted((name, repr(plain_number(value))) for name, value in changed.items()))
                made[case] = (index, same), own | changed
            merges_by, whole = made[case]
            groups.setdefault(merges_by, {"params": [], **whole})["params"].append(parameter)
    # First what has the configured rate: the first group's is the one that is logged.
    ordered = sorted(groups.values(), key=lambda group: (len(group) > 1, "lr" in group))
    params: Sequence[Any] = ordered
    if plain and len(ordered) == 1 and len(ordered[0]) == 1:
        params = ordered[0]["params"]
    labels = {numbers: " + ".join(settings[n].label for n in numbers) for numbers in set(of_parameter.values())}
    rules = {name: labels[of_parameter[id(p)]] for name, p in places.named.items() if id(p) in of_parameter}
    frozen = {id(p): p for setting in settings if setting.freeze for p in setting.params}
    return GroupPlan(params, rules, list(frozen.values()))


def _together(
    settings: Sequence[Setting], options: Sequence[Mapping[str, Any]], unchanged: Mapping[str, Any]
) -> dict[str, Any]:
    """The options that some settings come to, without those that a group has anyway."""
    together: dict[str, Any] = {}
    for each in options:
        together = {**each, **together}
    scale = math.prod(setting.lr_scale for setting in settings)
    if scale != 1 and "lr" in unchanged:
        together["lr"] = together.get("lr", unchanged["lr"]) * scale
    return {name: value for name, value in together.items() if not same_option(value, unchanged.get(name))}
