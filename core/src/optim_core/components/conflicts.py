"""What keeps components of one configuration from standing beside each other: parameters that two of them have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch.optim import Optimizer

from optim_core.components.lookup import Component
from optim_core.configuration.specifications import Configuration
from optim_core.errors import Problem

__all__ = ["claimed_twice", "overlaps", "shared_parameters"]


def overlaps(pairs: Iterable[tuple[str, str]], configuration: Configuration) -> list[Problem]:
    """A problem for each component that lies within another."""
    hint = "A part of a component gets a rate or options of its own by a rule in its param_groups"
    return [
        configuration.locate(Problem("", f"is a part of component {outer!r}", hint), configuration.specs[inner])
        for outer, inner in pairs
    ]


def shared_parameters(
    components: Mapping[str, Component], configuration: Configuration, told: Collection[tuple[str, str]]
) -> list[Problem]:
    """A problem for each pair of components with a parameter in common, unless one is all frozen.

    Args:
        components: by name.
        configuration: where they stand.
        told: pairs of which that is said already.
    """
    owners: dict[int, tuple[str, str]] = {}
    pairs: dict[tuple[str, str], list[str]] = {}
    for name, component in components.items():
        if component.is_frozen:
            continue
        for parameter_name, parameter in component.parameters.items():
            owner, owned_as = owners.setdefault(id(parameter), (name, parameter_name))
            if owner != name:
                pairs.setdefault((owner, name), []).append(f"{parameter_name!r} (there {owned_as!r})")
    problems = []
    for (first, second), names in pairs.items():
        if (first, second) in told or (second, first) in told:
            continue
        listing = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        message = f"shares parameters with component {first!r}: {listing}"
        hint = "A parameter can have one optimizer only: make the two one component, or untie their weights"
        problems.append(configuration.locate(Problem("", message, hint), configuration.specs[second]))
    return problems


def claimed_twice(optimizers: Mapping[str, Optimizer], configuration: Configuration) -> list[Problem]:
    """A problem for each optimizer that a hook gave parameters that another before it has."""
    owners: dict[int, str] = {}
    problems = []
    hint = "An implementation of the hook optim_param_groups must keep to the component's own"
    for name, optimizer in optimizers.items():
        given = (parameter for group in optimizer.param_groups for parameter in group["params"])
        others = {owners.setdefault(id(parameter), name) for parameter in given} - {name}
        if others:
            message = f"was given parameters that component {', '.join(map(repr, sorted(others)))} has"
            problems.append(configuration.locate(Problem("", message, hint), configuration.specs[name]))
    return problems
