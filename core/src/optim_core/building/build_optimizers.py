"""`build_optimizers`: from models and a configuration to one optimizer for each component."""

from __future__ import annotations

import contextlib
import gc
import logging
import operator
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pluggy import PluginManager
from torch import Tensor
from torch.optim import Optimizer

from optim_core.building.component_factories import ComponentFactories, component_factories
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.components.conflicts import claimed_twice, overlaps, shared_parameters
from optim_core.components.lookup import Component, ComponentSource, FoundComponents, Models
from optim_core.configuration.reading import read_configuration
from optim_core.configuration.specifications import Configuration
from optim_core.discovery.hooks import hook_manager, only_default
from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY, OptimizerRegistry
from optim_core.errors import Problem, UncoveredParametersWarning
from optim_core.factories.factory import OptimizerFactory, problems_of_build
from optim_core.optimizer.parameter_names import PARAM_NAMES
from optim_core.optimizer.state_matching import match_loaded_state, name_parameters
from optim_core.parameter_groups.freezing import frozen, to_freeze
from optim_core.parameter_groups.planning import GroupPlan, chosen_groups, lost_options, plan_groups
from optim_core.pytorch.user_warnings import warn_caller

__all__ = ["build_configured", "build_optimizers"]

_MOST_LISTED = 10
_log = logging.getLogger(__name__)


def build_optimizers(
    models: Models,
    component_optims: Mapping[str, Any] | str | os.PathLike[str],
    *,
    registry: OptimizerRegistry = OPTIMIZER_BUILDER_REGISTRY,
    uncovered: Literal["warn", "error", "ignore"] = "warn",
) -> ComponentOptimizers:
    """Build the optimizer of each configured component.

    Args:
        models: modules by component name (a dictionary, an `nn.ModuleDict`), or one module, whose
            components are submodules by dotted path. Modules wrapped in DistributedDataParallel are
            looked through.
        component_optims: `{component: {type, params}}`, a whole configuration that has it under
            `model.component_optims`, or the path of a YAML file with either.
        registry: where types are looked up.
        uncovered: what to do about trainable parameters that no configured component has.

    Returns:
        The optimizers by component. A component without any trainable parameter is checked like the
        others, but skipped, and logged.

    Raises:
        ConfigurationError: with every problem of the configuration at once; no model has changed.
    """
    if uncovered not in ("warn", "error", "ignore"):
        raise ValueError(f"uncovered = {uncovered!r}: must be 'warn', 'error' or 'ignore'")
    return build_configured(models, read_configuration(component_optims), registry, uncovered)


def build_configured(
    models: Models,
    configuration: Configuration,
    registry: OptimizerRegistry,
    uncovered: str,
    known_problems: Sequence[Problem] = (),
) -> ComponentOptimizers:
    """Build from a configuration that was read before; see `build_optimizers`.

    Args:
        models: as there.
        configuration: as read.
        registry: as there.
        uncovered: as there.
        known_problems: what is known to be wrong already, to be reported with the rest.
    """
    with _without_collections():
        return _built(models, configuration, registry, uncovered, known_problems)


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Let Python's garbage collector rest.

    What is built stays; for every few hundred objects, it would look through all those of the models.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _built(
    models: Models,
    configuration: Configuration,
    registry: OptimizerRegistry,
    uncovered: str,
    known_problems: Sequence[Problem],
) -> ComponentOptimizers:
    source = ComponentSource(models)
    problems = [*configuration.problems, *known_problems]
    constructed = component_factories(configuration, registry)
    found = source.find_all(configuration.specs)
    components = found.components
    for name, spec in configuration.specs.items():
        if name in found.problems:
            problems.append(configuration.locate(found.problems[name], spec))
        problems += constructed.problems.get(name, ())
    problems += overlaps(found.overlapping, configuration)
    if not found.distinct:
        problems += shared_parameters(components, configuration, set(found.overlapping))
    plans, misplanned = _plans(components, constructed.factories, configuration)
    problems += misplanned
    missed: Mapping[str, int] = {}
    if not source.nothing_outside(components.values()):
        missed = source.uncovered({id(p) for c in components.values() for p in c.parameters.values()})
    # What nothing lists can only be told once everything listed is understood.
    understood = not configuration.problems and len(components) == len(configuration.specs)
    unlisted = _describe_uncovered(missed) if missed and understood else None
    if unlisted and uncovered == "error":
        problems.append(Problem("model.component_optims", unlisted))
    if problems:
        raise configuration.error(problems)

    with frozen(to_freeze(plans, source, configuration)):
        return _assembled(source, found, constructed, plans, configuration, uncovered, unlisted)


def _assembled(
    source: ComponentSource,
    found: FoundComponents,
    constructed: ComponentFactories,
    plans: Mapping[str, GroupPlan],
    configuration: Configuration,
    uncovered: str,
    unlisted: str | None,
) -> ComponentOptimizers:
    """The optimizers of components in which nothing is wrong."""
    components, all_distinct = found.components, found.distinct
    trained = {name: component for name, component in components.items() if not component.is_frozen}
    optimizers, as_found = _build(trained, constructed.factories, plans, configuration)
    if not as_found:
        # Once more over what the optimizers really have: a hook may have left some out, or changed the module.
        groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
        missed = source.uncovered({id(parameter) for group in groups for parameter in group["params"]})
        unlisted = _describe_uncovered(missed) if missed else None
        if unlisted and uncovered == "error":
            raise configuration.error([Problem("model.component_optims", unlisted)])
    skipped = [name for name in components if name not in trained]
    for name in skipped:
        _log.info("component %r is skipped: it has no trainable parameter", name)
    parameters: dict[str, Mapping[str, Tensor]] = {
        name: component.parameters if as_found else dict(component.module.named_parameters())
        for name, component in components.items()
    }
    for name, optimizer in optimizers.items():
        component = trained[name]
        if as_found:
            optimizer.param_groups[0].setdefault(PARAM_NAMES, component.parameters.names_of(component.tensors))
        else:
            name_parameters(optimizer, parameters[name])
        match_loaded_state(optimizer)
    built = ComponentOptimizers(
        optimizers,
        specs=configuration.specs,
        params=constructed.params,
        parameters=parameters,
        rules={name: plan.rules for name, plan in plans.items()},
        aliases={} if all_distinct else {name: _aliases_in(component) for name, component in trained.items()},
        skipped=skipped,
        sharding=source.sharding_modules(),
    )
    if unlisted and uncovered == "warn":
        # Last, and here, where what was frozen is thawed again: a warning may be an error.
        warn_caller(unlisted, UncoveredParametersWarning)
    return built


def _aliases_in(component: Component) -> dict[str, str]:
    """The further names of tied parameters, with the first name of each."""
    first = {id(parameter): name for name, parameter in component.module.named_parameters()}
    every = component.module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if id(p) in first and name != first[id(p)]}


def _plans(
    components: Mapping[str, Component], factories: Mapping[str, OptimizerFactory], configuration: Configuration
) -> tuple[dict[str, GroupPlan], list[Problem]]:
    """What the factories of components with rules or policies will be given, and every problem of these."""
    plans: dict[str, GroupPlan] = {}
    problems: list[Problem] = []
    for name, component in components.items():
        spec = configuration.specs[name]
        if not spec.param_groups:
            continue
        manager = hook_manager()
        manager.check_pending()
        try:
            chosen = chosen_groups(_chosen(component, configuration, manager))
        except (ValueError, TypeError) as error:
            what = Problem("param_groups", f"the hook optim_param_groups fails: {error}", cause=error)
            problems.append(configuration.locate(what, spec))
            continue
        except Exception as error:
            error.add_note(f"raised while choosing the parameters of component {name!r} ({spec.type})")
            raise
        try:
            plan, found = plan_groups(component, spec, factories.get(name), chosen, manager)
        except Exception as error:
            error.add_note(f"raised while planning the parameter groups of component {name!r} ({spec.type})")
            raise
        problems += [configuration.locate(problem, spec) for problem in found]
        if plan is not None:
            plans[name] = plan
    return plans, problems


def _chosen(component: Component, configuration: Configuration, manager: PluginManager) -> Iterable[Any]:
    """What a component's factory is given without rules: by the hooks, or all its parameters."""
    # Where nobody else has a say, what the core's own implementation would do: the parameters have been walked
    # already, which takes longer than all else.
    if only_default(manager.hook.optim_param_groups):
        return list(component.tensors)
    spec = configuration.specs[component.name]
    chosen: Iterable[Any] = manager.hook.optim_param_groups(
        component=component.name, module=component.module, spec=spec, policy=None, argument=None
    )
    return chosen


def _build(
    components: Mapping[str, Component],
    factories: Mapping[str, OptimizerFactory],
    plans: Mapping[str, GroupPlan],
    configuration: Configuration,
) -> tuple[dict[str, Optimizer], bool]:
    """The optimizers, and whether each is known to have just the parameters that its component was found with."""
    manager = hook_manager()
    manager.check_pending()
    hooks = manager.hook
    optimizers: dict[str, Optimizer] = {}
    problems: list[Problem] = []
    as_found = True
    for name, component in components.items():
        spec, factory = configuration.specs[name], factories[name]
        try:
            plan = plans.get(name)
            params = _chosen(component, configuration, manager) if plan is None else plan.copied_params()
            as_found = as_found and only_default(hooks.optim_param_groups)
            if only_default(hooks.optim_build):
                optimizer = factory.build(params)
            else:
                as_found = False
                optimizer = hooks.optim_build(component=name, factory=factory, params=params, spec=spec)
        except (ValueError, TypeError) as error:
            problems += [configuration.locate(problem, spec, "params") for problem in problems_of_build(error)]
            continue
        except Exception as error:
            error.add_note(f"raised while building the optimizer of component {name!r} ({spec.type})")
            raise
        if isinstance(optimizer, Optimizer):
            optimizers[name] = optimizer
            as_found = as_found and plan is None and _has_all(optimizer, component.tensors)
            lost = None if plan is None else lost_options(plan, optimizer)
            if lost is not None:
                what = f"the optimizer doesn't take the options of its parameter groups: {lost}"
                problems.append(configuration.locate(Problem("param_groups", what), spec))
            continue
        what = f"{spec.type!r} built a {type(optimizer).__name__}, not a torch.optim.Optimizer"
        problems.append(configuration.locate(Problem("type", what), spec))
    if not as_found:
        problems += claimed_twice(optimizers, configuration)
    if problems:
        raise configuration.error(problems)
    return optimizers, as_found


def _has_all(optimizer: Optimizer, parameters: Collection[Tensor]) -> bool:
    """Whether an optimizer has just these parameters, in one group and in this order."""
    groups = optimizer.param_groups
    # Compared one by one in C; a set of them would take several times as long.
    return (
        len(groups) == 1
        and len(groups[0]["params"]) == len(parameters)
        and all(map(operator.is_, groups[0]["params"], parameters))
    )


def _describe_uncovered(counts: Mapping[str, int]) -> str:
    listed = [f"{name} ({count:,} parameters)" for name, count in counts.items()]
    more = f" and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    parts = ", ".join(listed[:_MOST_LISTED]) + more
    total = sum(counts.values())
    return (
        f"{total:,} trainable parameters have no optimizer and will not be trained: {parts}. List their components in "
        "the configuration, or freeze them with requires_grad_(False)"
    )
