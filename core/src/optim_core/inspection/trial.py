"""An optimizer over dummy parameters: what can be told of a factory before there is a model."""

from __future__ import annotations

import torch

from optim_core.factory import OptimizerFactory

__all__ = ["trial_optimizer"]


def trial_optimizer(factory: OptimizerFactory) -> torch.optim.Optimizer:
    """Build over dummy parameters: one matrix, or where that won't do, a matrix and a vector.

    Some optimizers take matrices only; others have parts, each of which wants something to do.

    Raises:
        TypeError: `build` returned something else than an optimizer.
        Exception: whatever `build` raises over the matrix.
    """
    try:
        optimizer = factory.build([torch.nn.Parameter(torch.ones(2, 2))])
    except Exception as error:
        # Whatever a stranger's build raises: it is raised again where the second try fails as well.
        try:
            optimizer = factory.build([torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))])
        except Exception:
            raise error from None
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"build() returned a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    return optimizer
