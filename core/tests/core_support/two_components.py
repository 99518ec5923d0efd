"""The optimizers of two components, gradients for them, and their weights to compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from optim_core.component_optimizers.component_optimizers import ComponentOptimizers


def make(models: Mapping[str, nn.Linear], **kwargs: Any) -> ComponentOptimizers:
    return ComponentOptimizers(
        {
            "backbone": torch.optim.Adam(models["backbone"].parameters(), lr=0.01),
            "head": torch.optim.SGD(models["head"].parameters(), lr=0.1, momentum=0.9),
        },
        **kwargs,
    )


def backward(models: Mapping[str, nn.Linear]) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    models["head"](models["backbone"](x)).square().mean().backward()


def weights(models: Mapping[str, nn.Linear]) -> list[torch.Tensor]:
    return [p.detach().clone() for module in models.values() for p in module.parameters()]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
