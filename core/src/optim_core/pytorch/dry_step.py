"""The dry step by which torch.distributed.checkpoint makes an optimizer create its state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from optim_core.pytorch.sharding import is_sharded

__all__ = ["is_dry_step"]


def is_dry_step(optimizer: torch.optim.Optimizer, own_rates: Iterable[object] = ()) -> bool:
    """Whether a `step()` without a closure, made now, is that dry step.

    To save or load an optimizer without state, torch.distributed.checkpoint puts a zero in place of
    every rate and of every gradient, and steps. Nothing may come of it but the state's existence. An
    optimizer whose parameters are all frozen has no state after it either: it is stepped each time.

    Args:
        optimizer: about to step.
        own_rates: the very objects that the optimizer itself put into its groups' `"lr"`, which may
            well be zero in a real step; none of them is there in a dry one.
    """
    if optimizer.state:
        return False
    rates = [group["lr"] for group in optimizer.param_groups]
    if any(rate is own for rate, own in zip(rates, own_rates, strict=False)) or any(float(rate) != 0 for rate in rates):
        return False
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        # Frozen parameters are given none.
        return not any(p.requires_grad for p in parameters)
    return all(_is_zero(gradient) for gradient in gradients)


def _is_zero(gradient: Tensor) -> bool:
    if gradient.is_sparse:
        return False
    # A sharded gradient (DTensor) is asked for its own part: no communication here.
    local: Any = gradient
    if is_sharded(gradient):
        local = local.to_local()
    return not bool(torch.count_nonzero(local))
