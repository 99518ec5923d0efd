"""From a configuration to the constructed factory of each component, before there is any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optim_core.configuration import ComponentSpec, Configuration
from optim_core.errors import (
    DuplicateOptimizerError,
    FactoryLoadError,
    InvalidArgumentsError,
    InvalidFactoryError,
    Problem,
    UnknownOptimizerError,
)
from optim_core.factory import OptimizerFactory, construct_factory, effective_params
from optim_core.registry import OptimizerRegistry

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
    for name, spec in configuration.specs.items():
        factory = _factory_of(spec, registry, configuration)
        if isinstance(factory, list):
            problems[name] = factory
        else:
            factories[name] = factory
            params[name] = effective_params(registry.get(spec.type), spec.params)
    return ComponentFactories(factories, params, problems)


def _factory_of(
    spec: ComponentSpec, registry: OptimizerRegistry, configuration: Configuration
) -> OptimizerFactory | list[Problem]:
    try:
        target = registry.get(spec.type)
    except (UnknownOptimizerError, DuplicateOptimizerError, FactoryLoadError, InvalidFactoryError) as error:
        return [configuration.locate(Problem("type", str(error), cause=error), spec)]
    try:
        return construct_factory(target, spec.params)
    except InvalidArgumentsError as error:
        return [configuration.locate(problem, spec, "params") for problem in error.problems]
