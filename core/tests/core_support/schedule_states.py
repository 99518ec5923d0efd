"""Training with an AdamW on a schedule whose state is saved and loaded, and how states are compared."""

from __future__ import annotations

from typing import Any

import torch

from core_support.scheduled_optimizers import SHAPE, ScheduledAdamW, parameters
from optim_core import ScheduledOptimizer


def train(optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        params = [p for group in optimizer.param_groups for p in group["params"]]
        sum((p - 0.3).cos().sum() for p in params).backward()  # type: ignore[union-attr]
        optimizer.step()


def adamw(params: Any = None, **options: Any) -> ScheduledAdamW:
    return ScheduledAdamW(parameters(torch.float32) if params is None else params, **{"schedule": SHAPE, **options})


def trained(steps: int, params: Any = None, **options: Any) -> ScheduledAdamW:
    optimizer = adamw(params, **options)
    train(optimizer, steps)
    return optimizer


def curve(optimizer: ScheduledOptimizer, steps: int, group: int = 0) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(float(optimizer.param_groups[group]["lr"]))
        optimizer.step()
    return seen


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def two_groups(own_lr: float | torch.Tensor) -> list[dict[str, Any]]:
    first, second = parameters(torch.float32)
    return [{"params": [first]}, {"params": [second], "lr": own_lr}]
