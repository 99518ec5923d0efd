"""From a configuration to the constructed factory of each component, before there is any model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optim_core.configuration import ComponentSpec, Configuration
from optim_core.errors import (
    ConfigurationError,
    DuplicateOptimizerError,
    FactoryLoadError,
    InvalidArgumentsError,
    InvalidFactoryError,
    Problem,
    UnknownOptimizerError,
)
from optim_core.factory import OptimizerFactory, construct_factory, effective_params
from optim_core.registry import OptimizerRegistry

__all__ = ["ComponentFactories", "component_factories", "configuration_error"]


@dataclass(frozen=True)
class ComponentFactories:
    """What a configuration's components come to.

    Attributes:
        factories: by component, where type and params are right.
        params: the same components' params, converted and with the defaults of those left out.
        problems: what is wrong with the types and params of the others.
    """

    factories: Mapping[str, OptimizerFactory]
    params: Mapping[str, Mapping[str, Any]]
    problems: tuple[Problem, ...]


def component_factories(configuration: Configuration, registry: OptimizerRegistry) -> ComponentFactories:
    """Look up every component's type and construct its factory; imports just those plugins."""
    factories: dict[str, OptimizerFactory] = {}
    params: dict[str, Mapping[str, Any]] = {}
    problems: list[Problem] = []
    for name, spec in configuration.specs.items():
        factory = _factory_of(spec, registry, configuration)
        if isinstance(factory, list):
            problems += factory
        else:
            factories[name] = factory
            params[name] = effective_params(registry.get(spec.type), spec.params)
    return ComponentFactories(factories, params, tuple(problems))


def configuration_error(configuration: Configuration, problems: list[Problem]) -> ConfigurationError:
    """The one error for all problems of a configuration, in the order of its lines."""
    in_order = sorted(problems, key=lambda problem: problem.line or 0)
    error = ConfigurationError(configuration.source, in_order)
    error.__cause__ = next((problem.cause for problem in in_order if problem.cause), None)
    return error


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
