"""From a configuration to the constructed factory of each component, before there is any model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optim_core.arguments.signatures import defaults_of
from optim_core.configuration.group_rules import KEY as GROUPS
from optim_core.configuration.specifications import Configuration
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import (
    DuplicateOptimizerError,
    FactoryLoadError,
    InvalidArgumentsError,
    InvalidFactoryError,
    Problem,
    UnknownOptimizerError,
)
from optim_core.factories.factory import OptimizerFactory, construct_checked, converted_params

__all__ = ["ComponentFactories", "component_factories"]


@dataclass(frozen=True)
class ComponentFactories:
    """What a configuration's components come to.

    Attributes:
        factories: by component, where type and params are right.
        params: the same components' params, converted and with the defaults of those left out.
        problems: what is wrong with the types and params of each of the others.
    """

    factories: Mapping[str, OptimizerFactory]
    params: Mapping[str, Mapping[str, Any]]
    problems: Mapping[str, Sequence[Problem]]

    @property
    def all_problems(self) -> list[Problem]:
        """The problems of all components."""
        return [problem for found in self.problems.values() for problem in found]


def component_factories(configuration: Configuration, registry: OptimizerRegistry) -> ComponentFactories:
    """Look up every component's type and construct its factory; imports just those plugins."""
    factories: dict[str, OptimizerFactory] = {}
    params: dict[str, Mapping[str, Any]] = {}
    problems: dict[str, Sequence[Problem]] = {}
    checked: dict[Hashable, dict[str, Any]] = {}
    for name, spec in configuration.specs.items():
        try:
            target = registry.get(spec.type)
        except (UnknownOptimizerError, DuplicateOptimizerError, FactoryLoadError, InvalidFactoryError) as error:
            problems[name] = [configuration.locate(Problem("type", str(error), cause=error), spec)]
            continue
        try:
            converted = _converted(target, spec.params, checked)
            factories[name] = construct_checked(target, spec.params, converted)
        except InvalidArgumentsError as error:
            problems[name] = [configuration.locate(_misplaced(problem), spec, "params") for problem in error.problems]
        else:
            params[name] = {**defaults_of(target), **converted}
    return ComponentFactories(factories, params, problems)


def _misplaced(problem: Problem) -> Problem:
    """A problem with the arguments of a factory, with a hint at what is no argument of any."""
    return replace(problem, hint="It belongs beside 'params', not into it") if problem.path == GROUPS else problem


_PLAIN = frozenset({bool, int, float, str, type(None)})


def _converted(target: type, params: Mapping[str, Any], checked: dict[Hashable, dict[str, Any]]) -> dict[str, Any]:
    """The converted params; of plain values that another component has too, as they were found right for that."""
    # As they are written: 1, 1.0 and True are equal.
    key = (target, repr(params)) if _PLAIN.issuperset(map(type, params.values())) else None
    if key not in checked:
        converted = converted_params(target, params)
        if key is None or not _PLAIN.issuperset(map(type, converted.values())):
            return converted
        checked[key] = converted
    return dict(checked[key])
