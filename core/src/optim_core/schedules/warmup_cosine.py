"""Linear warmup, cosine decay, and a value that holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from optim_core.arguments.number_types import LearningRate, PeakLearningRate, StepCount, Steps
from optim_core.arguments.validation import Note, Rule, validate_fields

__all__ = ["WarmupCosine"]


@dataclass(frozen=True, kw_only=True)
class WarmupCosine:
    """Linear warmup to a peak, cosine decay to an end value, then constant.

    The rate is `start_lr` at step 0, rises linearly to `peak_lr` at step `warmup_steps`, and falls
    to `end_lr` at step `total_steps - 1` along half a cosine (SGDR's annealing, Loshchilov & Hutter
    2017, eq. 5):

        end_lr + (peak_lr - end_lr) * (1 + cos(pi * progress)) / 2

    >>> schedule = WarmupCosine(peak_lr=1.0, total_steps=11, warmup_steps=2, end_lr=0.2)
    >>> [round(schedule.options_at(step, 1.0)["lr"], 3) for step in (0, 1, 2, 6, 10, 99)]
    [0.0, 0.5, 1.0, 0.6, 0.2, 0.2]

    Args:
        peak_lr: absolute learning rate at the end of the warmup.
        total_steps: horizon in optimizer updates, warmup included.
        warmup_steps: number of updates before the peak.
        start_lr: absolute learning rate of the first update of a warmup.
        end_lr: absolute learning rate of the last update and of all after it.

    Raises:
        InvalidArgumentsError: a value breaks the rules above; all of them are named.
    """

    peak_lr: PeakLearningRate
    total_steps: StepCount
    warmup_steps: Steps = 0
    start_lr: LearningRate = 0.0
    end_lr: LearningRate = 0.0

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(("warmup_steps", "total_steps"), lambda w, t: w < t, "must be less than total_steps"),
        Rule(("start_lr", "peak_lr"), lambda s, p: s <= p, "must be at most peak_lr"),
        Rule(("end_lr", "peak_lr"), lambda e, p: e <= p, "must be at most peak_lr"),
    )
    """The rules across arguments; a factory with the same arguments has them as its own."""
    NOTES: ClassVar[tuple[Note, ...]] = (
        Note(("start_lr", "warmup_steps"), lambda s, w: w == 0 and s != 0, "is not used without a warmup"),
    )
    """What is legal, but surprising; a factory with the same arguments has it as its own."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def options_at(self, step: int, peak_lr: float) -> dict[str, float]:
        """The learning rate of update `step`, for a group whose peak is `peak_lr`."""
        rate = self._rate(step)
        return {"lr": rate if peak_lr == self.peak_lr else rate * (peak_lr / self.peak_lr)}

    def _rate(self, step: int) -> float:
        # The named values are returned as they are, not as a formula rounds them.
        if step < self.warmup_steps:
            return self.start_lr + (self.peak_lr - self.start_lr) * (step / self.warmup_steps)
        if step == self.warmup_steps < self.total_steps - 1:
            return self.peak_lr
        if step >= self.total_steps - 1:
            return self.end_lr
        progress = (step - self.warmup_steps) / (self.total_steps - 1 - self.warmup_steps)
        return self.end_lr + (self.peak_lr - self.end_lr) * (1 + math.cos(math.pi * progress)) / 2
