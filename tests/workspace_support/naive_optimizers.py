"""The obvious ways to write the built-ins, which the tests must be able to tell from the right ones.

Each overrides `step()`, holds a torch scheduler, and adds the scheduler's state to its own.
"""

from __future__ import annotations

import math
from typing import Any

import schedulefree
import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

__all__ = ["NaiveOneCycle", "NaiveScheduleFree", "NaiveScheduleFreeInTraining", "NaiveWarmupCosine"]


class _HoldsScheduler(torch.optim.AdamW):
    scheduler: LRScheduler

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.scheduler.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.scheduler.load_state_dict(state_dict["scheduler"])


class NaiveWarmupCosine(_HoldsScheduler):
    """AdamW with a `LambdaLR` for linear warmup and cosine decay."""

    def __init__(
        self, params: Any, peak_lr: Any, total_steps: int, warmup_steps: int = 0, end_lr: float = 0.0, **options: Any
    ) -> None:
        super().__init__(params, lr=peak_lr, **options)
        floor = end_lr / float(peak_lr)

        def factor(step: int) -> float:
            if step < warmup_steps:
                return step / warmup_steps
            progress = min(1, (step - warmup_steps) / (total_steps - 1 - warmup_steps))
            return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

        self.scheduler = LambdaLR(self, factor)


class NaiveOneCycle(_HoldsScheduler):
    """AdamW with a `OneCycleLR`."""

    def __init__(self, params: Any, max_lr: Any, total_steps: int, pct_start: float = 0.3, **options: Any) -> None:
        super().__init__(params, lr=max_lr, **options)
        self.scheduler = OneCycleLR(self, float(max_lr), total_steps, pct_start=pct_start)


class NaiveScheduleFree(schedulefree.RAdamScheduleFree):  # type: ignore[misc]
    """The library's own class, as a factory would hand it out."""


class NaiveScheduleFreeInTraining(NaiveScheduleFree):
    """The same after the call of `train()` that the library asks for first."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.train()
