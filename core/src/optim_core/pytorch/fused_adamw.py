"""One update of a group by PyTorch's fused AdamW."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

__all__ = ["TensorLists", "update_fused"]

TensorLists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]
"""Parameters, gradients, averages of gradients, of their squares, the highest of these, and counts of updates."""

_is_on_cpu = attrgetter("is_cpu")


@functools.cache
def _one() -> Tensor:
    return torch.ones((), dtype=torch.float32, device="cpu")


def update_fused(
    tensors: TensorLists, group: Mapping[str, Any], grad_scale: Tensor | None, found_inf: Tensor | None
) -> None:
    """Update a group's parameters and state; without gradients of its own, under `torch.no_grad()`.

    Args:
        tensors: of the parameters that have a gradient.
        group: with AdamW's options.
        grad_scale: what a gradient scaler has scaled the gradients by, if there is one.
        found_inf: whether it found them infinite, so that there is no update.
    """
    beta1, beta2 = group["betas"]
    options = {
        "amsgrad": group["amsgrad"],
        "lr": group["lr"],
        "beta1": beta1,
        "beta2": beta2,
        "weight_decay": group["weight_decay"],
        "eps": group["eps"],
        "maximize": group["maximize"],
    }
    numbers = type(group["lr"]) is float and type(beta1) is float and grad_scale is None and found_inf is None
    if numbers and tensors[0] and all(map(_is_on_cpu, tensors[0])) and all(map(torch.is_tensor, tensors[5])):
        # What the function below comes to, in two thirds of the time for small tensors: it sorts them by
        # device and type, where on a CPU each is taken by its own type, and adds a number to each count,
        # which is made a tensor each time. PyTorch has no public name for the kernel.
        torch._foreach_add_(tensors[5], _one())
        torch._fused_adamw_(*tensors, **options)
        return
    adamw(
        *tensors,
        foreach=False,
        capturable=group["capturable"],
        fused=True,
        grad_scale=grad_scale,
        found_inf=found_inf,
        **options,
    )
