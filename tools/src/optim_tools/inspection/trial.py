"""An optimizer over dummy parameters: what can be told of a factory before there is a model."""

from __future__ import annotations

import torch

from optim_core import OptimizerFactory

__all__ = ["trial_optimizer"]

# Some optimizers take matrices only; others have parts, each of which wants something to do.
_SHAPES = (((2, 2),), ((2, 2), (2,)))


def trial_optimizer(factory: OptimizerFactory) -> torch.optim.Optimizer:
    """Build over a dummy parameter, a matrix; or where that won't do, over a matrix and a vector.

    Raises:
        TypeError: `build` returned something else than an optimizer.
        RuntimeError: `build` would end Python.
        Exception: whatever `build` raises over the matrix.
    """
    failures: list[Exception] = []
    for shapes in _SHAPES:
        try:
            optimizer = factory.build([torch.nn.Parameter(torch.ones(shape)) for shape in shapes])
        except SystemExit as error:
            raise RuntimeError(f"build() ends Python: {error!r}") from error
        except Exception as error:
            # Whatever a stranger's build raises; it counts where the other try fails as well.
            failures.append(error)
            continue
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"build() returned a {type(optimizer).__name__}, not a torch.optim.Optimizer")
        return optimizer
    raise failures[0]
