"""A small network, and optimizers over it whose rate is a tensor that falls in a straight line."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from core_support.scheduled_optimizers import ScheduledAdamW

TOTAL = 10


@dataclasses.dataclass(frozen=True)
class Falling:
    """Falls in a straight line while the first beta rises."""

    peak_lr: float = 0.1
    total_steps: int = TOTAL

    def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
        left = 1 - min(step, self.total_steps) / self.total_steps
        return {"lr": peak_lr * left, "betas": (0.95 - 0.1 * left, None)}


def rate(step: int, peak: float = 0.1) -> float:
    return peak * (1 - min(step, TOTAL) / TOTAL)


def beta(step: int) -> float:
    return 0.95 - 0.1 * (1 - min(step, TOTAL) / TOTAL)


def linear() -> torch.nn.Linear:
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-1, 1, 6).reshape(2, 3))
        model.bias.fill_(0.5)
    return model


def loss_of(model: torch.nn.Module) -> torch.Tensor:
    inputs = torch.linspace(0, 1, 12, device=next(model.parameters()).device).reshape(4, 3)
    return (model(inputs) - inputs[:, :2].cos()).square().mean()


def update(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


def adamw(model: torch.nn.Module, **options: Any) -> ScheduledAdamW:
    options = {"lr": torch.tensor(0.1), "schedule": Falling(), **options}
    return ScheduledAdamW(model.parameters(), **options)
