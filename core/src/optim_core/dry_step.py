"""The dry step by which torch.distributed.checkpoint makes an optimizer create its state."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["is_dry_step"]


def is_dry_step(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a `step()` without a closure, made now, is that dry step.

    To save or load an optimizer without state, torch.distributed.checkpoint sets every rate to zero,
    every gradient to zeros, and steps. Nothing may come of it but the state's existence.
    """
    if optimizer.state or any(float(group["lr"]) != 0 for group in optimizer.param_groups):
        return False
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return bool(gradients) and all(_is_zero(gradient) for gradient in gradients)


def _is_zero(gradient: Tensor) -> bool:
    if gradient.is_sparse:
        return False
    # A sharded gradient (DTensor) is asked for its own part: no communication here.
    local = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return not bool(torch.count_nonzero(local))
