"""What each entry of a component's `param_groups` gives which parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pluggy
from torch import Tensor

from optim_core.arguments.spelling import nearest
from optim_core.configuration.group_rules import CONDITIONS, EFFECTS, NO_OPTIONS, GroupRule, PolicyUse, number_in
from optim_core.configuration.specifications import ComponentSpec
from optim_core.discovery.hooks import asking_policy, policies_by_name
from optim_core.errors import InvalidArgumentsError, Problem
from optim_core.parameter_groups.matching import Places

__all__ = ["Setting", "policy_problems", "settings_of", "settings_of_rules"]


@dataclass(frozen=True)
class Setting:
    """What an entry gives some parameters.

    Attributes:
        path: where the entry stands within its component.
        label: a few words for tables.
        options: options of the optimizer's groups.
        lr_scale: what the learning rate is multiplied by.
        freeze: whether the parameters are not to be trained; None leaves that open.
        params: the parameters, in the order of the module.
    """

    path: str
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lr_scale: float = 1.0
    freeze: bool | None = None
    params: Sequence[Tensor] = ()


def settings_of(
    spec: ComponentSpec, places: Places, manager: pluggy.PluginManager
) -> tuple[list[Setting], list[Problem]]:
    """What the entries of a component give its parameters, in their order, and everything that is wrong.

    A parameter is in the setting of one rule at most; a policy may have several settings.
    """
    settings: list[Setting] = []
    problems: list[Problem] = []
    ruled: set[int] = set()
    for entry in spec.param_groups:
        if isinstance(entry, PolicyUse):
            settings += _asked(entry, spec, places, manager, problems)
            continue
        found, problem = places.matching(entry)
        left = [parameter for parameter in found if id(parameter) not in ruled]
        if problem is not None:
            problems.append(problem)
        elif not left:
            message = f"each of the {len(found)} parameters that it matches has a rule before this one"
            problems.append(Problem(entry.path, message, "The first rule that matches a parameter counts"))
        ruled |= {id(parameter) for parameter in left}
        settings.append(_of_rule(entry, left))
    return settings, problems


def settings_of_rules(spec: ComponentSpec) -> list[Setting]:
    """What the rules of a component set, for whatever parameters."""
    return [_of_rule(entry, ()) for entry in spec.param_groups if isinstance(entry, GroupRule)]


def policy_problems(spec: ComponentSpec, manager: pluggy.PluginManager) -> list[Problem]:
    """A problem for each policy that a component names and nobody, or more than one, offers."""
    used = [entry for entry in spec.param_groups if isinstance(entry, PolicyUse)]
    found = [_offered(entry, manager) for entry in used]
    return [problem for problem in found if isinstance(problem, Problem)]


def _of_rule(rule: GroupRule, params: Sequence[Tensor]) -> Setting:
    return Setting(rule.path, rule.label, rule.options, rule.lr_scale, rule.freeze, params)


def _offered(use: PolicyUse, manager: pluggy.PluginManager) -> Any:
    """The plugin that offers a policy, or what is wrong."""
    offered = policies_by_name(manager)
    plugins = offered.get(use.name, ())
    if not plugins:
        near = nearest(use.name, [*offered, *CONDITIONS])
        known = f"The policies are {', '.join(sorted(offered))}; a rule has 'match', 'ndim' or 'type'"
        hint = "Did you mean " + " or ".join(map(repr, near)) + f"? {known}" if near else known
        return Problem(use.path, f"no policy is called {use.name!r}", hint)
    if len(plugins) > 1:
        names = " and by ".join(_name_of(plugin, manager) for plugin in plugins)
        hint = "Uninstall one of them, or block its distribution"
        return Problem(use.path, f"the policy {use.name!r} is offered by {names}", hint)
    return plugins[0]


def _name_of(plugin: object, manager: pluggy.PluginManager) -> str:
    """The name that a plugin is registered by; its class, where that is only a number."""
    name = str(manager.get_name(plugin))
    return type(plugin).__name__ if name.isdigit() else name


def _asked(
    use: PolicyUse, spec: ComponentSpec, places: Places, manager: pluggy.PluginManager, problems: list[Problem]
) -> list[Setting]:
    plugin = _offered(use, manager)
    if isinstance(plugin, Problem):
        problems.append(plugin)
        return []
    try:
        groups = asking_policy(manager, plugin)(
            component=spec.component, module=places.module, spec=spec, policy=use.name, argument=use.argument
        )
    except InvalidArgumentsError as error:
        problems += [problem.below(f"{use.path}.{use.name}") for problem in error.problems]
        return []
    except (ValueError, TypeError) as error:
        problems.append(Problem(f"{use.path}.{use.name}", " ".join(str(error).split()), cause=error))
        return []
    except Exception as error:
        error.add_note(f"raised by the policy {use.name!r} of component {spec.component!r}")
        raise
    listed = _listed(groups)
    wrong = _fault_of(listed, places)
    if wrong:
        problems.append(Problem(use.path, f"the policy {use.name!r} returned {wrong}", "Its author must mend that"))
        return []
    settings = []
    for group in listed:
        options = {name: value for name, value in group.items() if name not in _OWN}
        label = f"{use.name} ({group['label']})" if group.get("label") else use.name
        scale, freeze = float(group.get("lr_scale", 1.0)), group.get("freeze")
        settings.append(Setting(f"{use.path}.{use.name}", label, options, scale, freeze, group["params"]))
    return settings


_OWN = (*NO_OPTIONS, *EFFECTS, "label")


def _listed(groups: Any) -> Any:
    """What a policy has returned, with what can be gone through once only as lists."""
    if not isinstance(groups, Iterable) or isinstance(groups, Mapping):
        return groups
    # One by one: what a group has may not be there any more once the next was asked for.
    return [_listed_group(group) for group in groups]


def _listed_group(group: Any) -> Any:
    params = group.get("params") if isinstance(group, Mapping) else None
    if not isinstance(params, Iterable):
        return group
    return {**group, "params": [params] if isinstance(params, Tensor) else list(params)}


def _fault_of(groups: Any, places: Places) -> str | None:
    """What keeps the result of a policy from being used, in words."""
    if not isinstance(groups, list) or not all(isinstance(group, Mapping) for group in groups):
        return f"{type(groups).__name__}, not a list of dictionaries"
    seen: set[int] = set()
    for group in groups:
        if not isinstance(group.get("params"), list):
            return "a group without a list of 'params'"
        if not all(isinstance(name, str) for name in group):
            return "a group with an option whose name is no string"
        scale = number_in(group.get("lr_scale", 1.0))
        if scale is None or not 0 <= scale < math.inf:
            return f"lr_scale = {group['lr_scale']!r}, which is no finite number of zero or more"
        if not isinstance(group.get("freeze"), (bool, type(None))):
            return f"freeze = {group['freeze']!r}, which is neither True nor False"
        tensors = group["params"]
        if any(id(tensor) not in places.name_of for tensor in tensors):
            return "something that is no parameter of the component"
        ids = {id(tensor) for tensor in tensors}
        if len(ids) < len(tensors) or ids & seen:
            return "a parameter twice"
        seen |= ids
    return None
