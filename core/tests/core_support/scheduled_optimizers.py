"""PyTorch's classes on one schedule, whose formula is written out, and a closure to train with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from optim_core import ScheduledOptimizer, WarmupCosine

SHAPE = WarmupCosine(peak_lr=0.1, total_steps=10, warmup_steps=3, start_lr=0.01, end_lr=0.02)


def formula(step: int, peak: float = 0.1, total: int = 10) -> float:
    """The rate of `SHAPE`, or of it with another peak or horizon, written out."""
    if step < 3:
        return 0.01 + (peak - 0.01) * step / 3
    return 0.02 + (peak - 0.02) * (1 + math.cos(math.pi * (min(step, total - 1) - 3) / (total - 4))) / 2


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    pass


class ScheduledAdamW(ScheduledOptimizer, torch.optim.AdamW):
    pass


def parameters(dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    values = torch.linspace(-1, 1, 10, dtype=dtype)
    return [torch.nn.Parameter(values[:6].reshape(2, 3).clone()), torch.nn.Parameter(values[6:].clone())]


def loss_of(params: list[torch.nn.Parameter]) -> torch.Tensor:
    return sum(((p - 0.3).cos() + p.square() / 4).sum() for p in params)  # type: ignore[return-value]


def closure_of(optimizer: torch.optim.Optimizer) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(optimizer.param_groups[0]["params"])
        loss.backward()
        return loss

    return closure


def sgd_over(params: Any, **options: Any) -> ScheduledSGD:
    return ScheduledSGD(params, **{"schedule": SHAPE, **options})


def sgd(**options: Any) -> ScheduledSGD:
    return sgd_over(parameters(), **options)


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def advance(optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.step()
