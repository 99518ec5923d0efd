"""A sound optimizer with a schedule, which the broken ones of these tests differ from in one thing each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt

from optim_core import Claims, ScheduledOptimizer, WarmupCosine

__all__ = ["SoundAdamW", "SoundFactory", "factory_of"]


class _Sound(ScheduledOptimizer):
    """What a subclass may override, without a second wrapper around `step` once this class has been made."""

    def step(self, closure: Any = None) -> Any:
        return self.update(closure)

    def update(self, closure: Any) -> Any:
        return super().step(closure)


class SoundAdamW(_Sound, torch.optim.AdamW):
    """AdamW on a schedule."""


@dataclass(frozen=True, kw_only=True)
class SoundFactory:
    """AdamW with warmup and cosine decay."""

    CLAIMS: ClassVar[Claims] = Claims(complex=True)
    example_params: ClassVar[dict[str, Any]] = {"peak_lr": 0.02, "total_steps": 60, "warmup_steps": 5}
    optimizer: ClassVar[Any] = SoundAdamW

    peak_lr: Annotated[float, Gt(0)]
    total_steps: Annotated[int, Ge(1)]
    warmup_steps: Annotated[int, Ge(0)] = 0
    capturable: bool = False
    fused: bool | None = None

    def build(self, params: Any) -> torch.optim.Optimizer:
        schedule = WarmupCosine(peak_lr=self.peak_lr, total_steps=self.total_steps, warmup_steps=self.warmup_steps)
        return self.optimizer(params, schedule=schedule, capturable=self.capturable, fused=self.fused)


def factory_of(cls: type[torch.optim.Optimizer], claims: Claims = SoundFactory.CLAIMS) -> type:
    """A factory like the sound one, for another class of optimizer."""
    return type(f"{cls.__name__}Factory", (SoundFactory,), {"optimizer": cls, "CLAIMS": claims})
