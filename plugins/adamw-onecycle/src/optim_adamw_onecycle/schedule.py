"""`OneCycle`: the values of `torch.optim.lr_scheduler.OneCycleLR` as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from optim_core import Finite, PeakLearningRate, Rule, StepCount, validate_fields

__all__ = ["Divisor", "Fraction", "Momentum", "OneCycle"]

Divisor = Annotated[Finite, Gt(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Momentum = Annotated[float, Ge(0), Lt(1)]


ONE_STEP_RISE = "must not make the rising phase one step long, over which OneCycleLR divides by zero"


def rises_in_one_step(pct_start: float, total_steps: int) -> bool:
    """Whether the rising phase ends where it starts, at step 0."""
    return pct_start * total_steps == 1


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """One cycle: up from `peak_lr / div_factor` to `peak_lr`, and down to far below the start.

    Equal to `torch.optim.lr_scheduler.OneCycleLR` (PyTorch 2.13; Smith & Topin 2018) at every step
    of the horizon, in floating point too; its phase boundaries are fractions of a step, and are kept
    as they are. At step `total_steps - 1` the rate is `peak_lr / div_factor / final_div_factor`, and
    so it is after.

    Args:
        peak_lr: the highest learning rate, PyTorch's `max_lr`.
        total_steps: horizon in optimizer updates.
        pct_start: fraction of the horizon in which the rate rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether AdamW's first beta moves against the rate.
        base_momentum: the first beta at the peak.
        max_momentum: the first beta at both ends.
        div_factor: `peak_lr` over the rate at the start.
        final_div_factor: the rate at the start over that at the end.
        three_phase: fall back to the start first, as steeply as it rose, and then to the end.

    Raises:
        InvalidArgumentsError: a value breaks a rule; all are named.
    """

    peak_lr: PeakLearningRate
    total_steps: StepCount
    pct_start: Fraction = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = True
    base_momentum: Momentum = 0.85
    max_momentum: Momentum = 0.95
    div_factor: Divisor = 25.0
    final_div_factor: Divisor = 1e4
    three_phase: bool = False

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("pct_start", "total_steps"),
            lambda fraction, steps: not rises_in_one_step(fraction, steps),
            ONE_STEP_RISE,
        ),
    )
    """The rules across arguments."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
        """Learning rate, and betas where they cycle, of update `step` for a group with this peak."""
        first_end, second_end, last = self._ends
        step = min(step, last)
        start_lr = peak_lr / self.div_factor
        base, most = self.base_momentum, self.max_momentum
        if step <= first_end:
            begin, end, rates, momenta = 0.0, first_end, (start_lr, peak_lr), (most, base)
        elif not self.three_phase:
            begin, end, rates, momenta = first_end, last, (peak_lr, start_lr / self.final_div_factor), (base, most)
        elif step <= second_end:
            begin, end, rates, momenta = first_end, second_end, (peak_lr, start_lr), (base, most)
        else:
            begin, end, rates, momenta = second_end, last, (start_lr, start_lr / self.final_div_factor), (most, most)
        progress = (step - begin) / (end - begin)
        # The order of operations is PyTorch's, so that rounding is too.
        (first, second), (first_momentum, second_momentum) = rates, momenta
        if self.anneal_strategy == "linear":
            lr = (second - first) * progress + first
            momentum = (second_momentum - first_momentum) * progress + first_momentum
        else:
            left = math.cos(math.pi * progress) + 1
            lr = second + (first - second) / 2.0 * left
            momentum = second_momentum + (first_momentum - second_momentum) / 2.0 * left
        return {"lr": lr, "betas": (momentum, None)} if self.cycle_momentum else {"lr": lr}

    @cached_property
    def _ends(self) -> tuple[float, float, int]:
        """The last step of the first phase, of the second where there are three, and of all."""
        rise = self.pct_start * self.total_steps
        return float(rise) - 1, float(2 * self.pct_start * self.total_steps) - 2, self.total_steps - 1
