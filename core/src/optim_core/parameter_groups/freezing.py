"""Freezing what rules and policies freeze: when everything else is right, and for good only if the build is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from optim_core.components.lookup import ComponentSource
from optim_core.configuration.specifications import Configuration
from optim_core.errors import Problem
from optim_core.parameter_groups.planning import GroupPlan

__all__ = ["frozen", "to_freeze"]


def to_freeze(plans: Mapping[str, GroupPlan], source: ComponentSource, configuration: Configuration) -> list[Tensor]:
    """The parameters that rules freeze.

    Raises:
        ConfigurationError: a module around them counts on their gradients.
    """
    found = {name: [p for p in plan.frozen if p.requires_grad] for name, plan in plans.items()}
    reduced = source.reduced_by_ddp() if any(found.values()) else set()
    message = "freezes parameters that a DistributedDataParallel is around, which goes on to wait for their gradients"
    hint = "Build the optimizers before the model is wrapped"
    problems = [
        configuration.locate(Problem("param_groups", message, hint), configuration.specs[name])
        for name, params in found.items()
        if not reduced.isdisjoint(map(id, params))
    ]
    if problems:
        raise configuration.error(problems)
    return [parameter for plan in plans.values() for parameter in plan.frozen]


@contextlib.contextmanager
def frozen(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Freeze parameters for good, unless the block raises."""
    before = [(parameter.requires_grad, parameter.grad) for parameter in parameters]
    try:
        for parameter in parameters:
            # Optimizers go by the gradient: one that is left over would be applied at every step.
            parameter.requires_grad_(False).grad = None
        yield
    except BaseException:
        for parameter, (was_trainable, gradient) in zip(parameters, before, strict=True):
            parameter.requires_grad_(was_trainable).grad = gradient
        raise
