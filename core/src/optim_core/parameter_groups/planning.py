"""From a component's rules and policies to the parameter groups that its factory is given."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pluggy
from torch import Tensor
from torch.optim import Optimizer

from optim_core.components.lookup import Component
from optim_core.configuration.specifications import ComponentSpec
from optim_core.errors import Problem
from optim_core.factories.factory import OptimizerFactory, problems_of_build
from optim_core.optimizer.group_options import own_copy, plain_number, rate_option_of
from optim_core.optimizer.parameter_names import PARAM_NAMES
from optim_core.parameter_groups.matching import Places
from optim_core.parameter_groups.options import comparable, converted_options, same_option
from optim_core.parameter_groups.rule_effects import Setting, settings_of, settings_of_rules
from optim_core.parameter_groups.trial_build import Case, GroupTrial, driven_by, kind_of, tried_groups

__all__ = [
    "ChosenGroups",
    "GroupPlan",
    "chosen_groups",
    "lost_options",
    "option_notes",
    "option_problems",
    "plan_groups",
]


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

    def copied_params(self) -> list[Any]:
        """What to give a factory: optimizers make the very dictionaries their own."""
        return [dict(entry) if isinstance(entry, dict) else entry for entry in self.params]


@dataclass(frozen=True)
class ChosenGroups:
    """What a hook or the core has chosen for a component.

    Attributes:
        groups: groups with "params", which are tensors, and options.
        plain: whether it was parameters only, and no groups.
        names: those that parameters were given with, by `id`.
    """

    groups: Sequence[dict[str, Any]]
    plain: bool
    names: Mapping[int, str]


def chosen_groups(given: Iterable[Any]) -> ChosenGroups:
    """What `torch.optim.Optimizer` takes, as groups of tensors.

    Raises:
        ValueError: a group has no "params", or has them in no order.
    """
    entries = list(given)
    plain = not (entries and isinstance(entries[0], Mapping))
    groups = [{"params": entries}] if plain else [dict(group) for group in entries]
    names: dict[int, str] = {}
    for group in groups:
        params = group.get("params")
        if params is None or isinstance(params, (set, frozenset)):
            raise ValueError(f"a group must have a list of 'params', not {type(params).__name__}")
        listed = [params] if isinstance(params, Tensor) else list(params)
        own = group.pop(PARAM_NAMES, None) or [item[0] if isinstance(item, tuple) else None for item in listed]
        group["params"] = [item[1] if isinstance(item, tuple) else item for item in listed]
        pairs = zip(group["params"], own, strict=True)
        names.update((id(parameter), name) for parameter, name in pairs if name is not None)
    return ChosenGroups(groups, plain, names)


def plan_groups(
    component: Component,
    spec: ComponentSpec,
    factory: OptimizerFactory | None,
    chosen: ChosenGroups,
    manager: pluggy.PluginManager,
) -> tuple[GroupPlan | None, list[Problem]]:
    """Apply a component's rules and policies to the parameters that its factory would be given without them.

    The first rule that matches a parameter is its rule. Policies add to that: of what several entries set, the first
    in the list holds, and scales of the rate are multiplied. Groups with the same options are one.

    Args:
        component: whose parameters they are.
        spec: with the entries.
        factory: constructed from the component's params; None where these are wrong.
        chosen: what the factory would be given.
        manager: of the hooks, for policies.

    Returns:
        The plan, where nothing is wrong, and every problem; paths begin with `param_groups`, or with `params` where
        the optimizer can't be built.
    """
    places = Places(component)
    settings, problems = settings_of(spec, places, manager)
    if factory is None:
        return None, problems
    base = chosen.groups
    if not any(group["params"] for group in base):
        # There is nothing to build an optimizer over.
        return (None if problems else GroupPlan(base, {}, ())), problems
    try:
        trial = tried_groups(factory, base, chosen.names, plain=chosen.plain)
    except (ValueError, TypeError) as error:
        return None, [*problems, *(problem.below("params") for problem in problems_of_build(error))]
    case_of = {id(p): (index, kind_of(p)) for index, group in enumerate(base) for p in group["params"]}

    def cases_of(setting: Setting) -> Collection[Case]:
        own = dict.fromkeys(case_of[id(p)] for p in setting.params if id(p) in case_of)
        # What the factory leaves out is none of a rule's business.
        return [case for case in own if trial.options[case]] or [case for case, found in trial.options.items() if found]

    options, wrong = converted_options(settings, trial, type(factory), cases_of)
    if problems or wrong:
        return None, [*problems, *wrong]
    return _planned(chosen, places, settings, options, trial), []


def option_problems(
    spec: ComponentSpec, factory: OptimizerFactory, samples: Sequence[Tensor], fewer: Sequence[Tensor]
) -> list[Problem]:
    """What is wrong with the options of a component's rules, as far as that can be told without a model.

    Args:
        spec: with the rules.
        factory: constructed from the component's params.
        samples: parameters of several kinds.
        fewer: parameters that the factory can build over, where it can't over those.
    """
    try:
        trial = tried_groups(factory, [{"params": samples}], {}, plain=True)
    except Exception:
        # Whatever a stranger's build raises: of these others it is known that it doesn't.
        trial = tried_groups(factory, [{"params": fewer}], {}, plain=True)
    problems: list[Problem] = []
    for setting in settings_of_rules(spec):
        # It may be for parameters of one kind only, which will be told with a model.
        found = [_wrong_for(case, setting, trial, type(factory)) for case in trial.options]
        problems += sorted(found, key=len)[0] if found else []
    return list(dict.fromkeys(problems))


def option_notes(spec: ComponentSpec, optimizer: Optimizer) -> list[Problem]:
    """What is of no effect in the rules of a component, though it is right, by an optimizer of its kind."""
    driven = driven_by(optimizer)
    notes = []
    for setting in settings_of_rules(spec):
        for name in (name for name in setting.options if name in driven):
            values = driven[name] if isinstance(driven[name], tuple) else (driven[name],)
            written = [f"{name}[{index}]" for index, value in enumerate(values) if value is not None]
            what = " and ".join(written) if len(written) < len(values) else name
            notes.append(Problem(f"{setting.path}.{name}", f"{what} is of no effect: the schedule drives it"))
    return notes


def _wrong_for(case: Case, setting: Setting, trial: GroupTrial, factory: type) -> list[Problem]:
    return converted_options([setting], trial, factory, lambda _: [case])[1]


def lost_options(plan: GroupPlan, optimizer: Optimizer) -> str | None:
    """What an optimizer has other in its groups than it was given, in words; None where it has everything."""
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    driven = driven_by(optimizer)
    for planned in plan.params:
        if not isinstance(planned, Mapping):
            continue
        wanted = {n: v for n, v in planned.items() if n != "params" and n not in driven}
        tensors = (item[1] if isinstance(item, tuple) else item for item in planned["params"])
        groups = {id(g): g for p in tensors if (g := group_of.get(id(p))) is not None}
        for group in groups.values():
            for name, value in wanted.items():
                found = rate_option_of(group) if name == "lr" else group.get(name)
                if not _is_about(found, value):
                    return f"{name} = {value!r} was given for a group, which has {found!r}"
    return None


def _is_about(found: Any, wanted: Any) -> bool:
    found, wanted = plain_number(found), plain_number(wanted)
    if isinstance(found, (tuple, list)) and isinstance(wanted, (tuple, list)) and len(found) == len(wanted):
        return all(map(_is_about, found, wanted))
    if isinstance(found, (int, float)) and isinstance(wanted, (int, float)):
        return math.isclose(found, wanted, rel_tol=1e-6)
    # None leaves it to the optimizer.
    return wanted is None or isinstance(wanted, Tensor) or bool(found == wanted)


def _planned(
    chosen: ChosenGroups,
    places: Places,
    settings: Sequence[Setting],
    options: Sequence[Mapping[str, Any]],
    trial: GroupTrial,
) -> GroupPlan:
    of_parameter: dict[int, tuple[int, ...]] = {}
    for number, setting in enumerate(settings):
        for parameter in setting.params:
            of_parameter[id(parameter)] = (*of_parameter.get(id(parameter), ()), number)
    # By base group, kind and settings: the options to give a group, and all that it then has.
    made: dict[tuple[int, Hashable, tuple[int, ...]], tuple[dict[str, Any], Hashable]] = {}
    groups: dict[Hashable, dict[str, Any]] = {}
    for index, group in enumerate(chosen.groups):
        own = {name: value for name, value in group.items() if name != "params"}
        for parameter in group["params"]:
            numbers = of_parameter.get(id(parameter), ())
            case = (index, kind_of(parameter), numbers)
            if case not in made:
                unchanged = trial.options[case[:2]] or next(filter(None, trial.options.values()), {})
                mine, given = [settings[n] for n in numbers], [options[n] for n in numbers]
                changed = _together(mine, given, unchanged, trial.driven)
                whole = {name: comparable(value) for name, value in {**own, **unchanged, **changed}.items()}
                made[case] = own | changed, tuple(sorted(whole.items()))
                groups.setdefault(made[case][1], {"params": []})
                # Of another kind, or base group, may have by itself what this one has to be given.
                groups[made[case][1]].update(made[case][0])
            named = chosen.names.get(id(parameter))
            groups[made[case][1]]["params"].append(parameter if named is None else (named, parameter))
    # First what has the configured rate: the first group's is the one that is logged.
    ordered = sorted(groups.values(), key=lambda group: (len(group) > 1, "lr" in group))
    params: Sequence[Any] = ordered
    if chosen.plain and len(ordered) == 1 and len(ordered[0]) == 1:
        params = ordered[0]["params"]
    labels = {numbers: " + ".join(settings[n].label for n in numbers) for numbers in set(of_parameter.values())}
    rules = {name: labels[of_parameter[id(p)]] for name, p in places.named.items() if id(p) in of_parameter}
    # As of all that entries set, the first in the list holds.
    decided: dict[int, tuple[Tensor, bool]] = {}
    for setting in settings:
        if setting.freeze is not None:
            for parameter in setting.params:
                decided.setdefault(id(parameter), (parameter, setting.freeze))
    return GroupPlan(params, rules, [parameter for parameter, freeze in decided.values() if freeze])


def _left_alone(value: Any, unchanged: Any, driven: Any) -> Any:
    """A value of an option that a schedule drives, of which counts what the schedule leaves alone."""
    if isinstance(driven, tuple) and isinstance(value, (tuple, list)) and isinstance(unchanged, (tuple, list)):
        return tuple(_left_alone(*each) for each in zip(value, unchanged, driven, strict=True))
    return value if driven is None else unchanged


def _together(
    settings: Sequence[Setting],
    options: Sequence[Mapping[str, Any]],
    unchanged: Mapping[str, Any],
    driven: Mapping[str, Any],
) -> dict[str, Any]:
    """The options that some settings come to, without those that a group has anyway."""
    together: dict[str, Any] = {}
    for each in options:
        together = {**each, **together}
    for name in together.keys() & driven.keys():
        together[name] = _left_alone(together[name], unchanged.get(name), driven[name])
    scale = math.prod(setting.lr_scale for setting in settings)
    rate = together.get("lr", unchanged.get("lr"))
    if scale != 1 and rate is not None:
        together["lr"] = rate * scale
    elif "lr" in together:
        together["lr"] = own_copy(together["lr"])
    return {name: value for name, value in together.items() if not same_option(value, unchanged.get(name))}
