"""The factory behind the key `adamw_cosine_schedule`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from optim_adamw_onecycle.optimizer import AdamWWithOneCycle, LastEpoch
from optim_adamw_onecycle.schedule import Divisor, Fraction, Momentum
from optim_core import (
    Beta,
    Claims,
    LearningRate,
    NonNegative,
    Note,
    PeakLearningRateOrTensor,
    Rule,
    StepCount,
    validate_fields,
)

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

__all__ = ["AdamWOneCycleFactory"]


@dataclass(frozen=True, kw_only=True)
class AdamWOneCycleFactory:
    """AdamW on the one-cycle schedule of learning rate and momentum.

    Args:
        max_lr: the highest learning rate, absolute; above zero.
        total_steps: horizon in optimizer updates; may be left out where `epochs` and
            `steps_per_epoch` are given.
        epochs: number of epochs to train for.
        steps_per_epoch: optimizer updates in each.
        pct_start: fraction of the horizon in which the rate rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: let the first beta move against the rate; the first of `betas` is not used
            then.
        base_momentum: the first beta at the peak.
        max_momentum: the first beta at both ends.
        div_factor: `max_lr` over the rate at the start.
        final_div_factor: the rate at the start over that at the end.
        three_phase: fall back to the start first, and then to the end.
        last_epoch: number of the last update made before, or -1 to start at the beginning.
        lr: not used, as in PyTorch: the cycle starts at `max_lr / div_factor`.
        betas: coefficients of AdamW's running averages of the gradient and of its square.
        eps: added to AdamW's denominator.
        weight_decay: AdamW's decoupled weight decay.
        amsgrad: use the AMSGrad variant.
        maximize: ascend instead of descend.
        foreach: use the multi-tensor implementation; the fastest is chosen if neither this nor fused is given.
        capturable: make the step fit for capture in a CUDA graph, and `lr` a tensor.
        differentiable: let gradients flow through the step.
        fused: use the fused kernel.

    Raises:
        InvalidArgumentsError: (a ValueError) with every argument that breaks a rule.
    """

    RULES: ClassVar[tuple[Rule, ...]] = AdamWWithOneCycle.RULES
    NOTES: ClassVar[tuple[Note, ...]] = (
        Note(("lr",), lambda lr: lr is not None, "is not used: the cycle starts at max_lr / div_factor"),
        Note(
            ("betas", "cycle_momentum"),
            lambda _, cycles: cycles,
            "the first is not used: it moves between base_momentum and max_momentum while cycle_momentum is true",
        ),
        Note(("base_momentum", "cycle_momentum"), lambda _, cycles: not cycles, "is not used without cycle_momentum"),
        Note(("max_momentum", "cycle_momentum"), lambda _, cycles: not cycles, "is not used without cycle_momentum"),
        Note(("epochs", "total_steps"), lambda _, total: total is not None, "is not used where total_steps is given"),
        Note(
            ("steps_per_epoch", "total_steps"),
            lambda _, total: total is not None,
            "is not used where total_steps is given",
        ),
    )
    CLAIMS: ClassVar[Claims] = Claims(complex=True)
    example_params: ClassVar[dict[str, Any]] = {"max_lr": 1e-3, "total_steps": 1000}

    max_lr: PeakLearningRateOrTensor
    total_steps: StepCount | None = None
    epochs: StepCount | None = None
    steps_per_epoch: StepCount | None = None
    pct_start: Fraction = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = True
    base_momentum: Momentum = 0.85
    max_momentum: Momentum = 0.95
    div_factor: Divisor = 25.0
    final_div_factor: Divisor = 1e4
    three_phase: bool = False
    last_epoch: LastEpoch = -1
    lr: LearningRate | None = None
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 1e-2
    amsgrad: bool = False
    maximize: bool = False
    foreach: bool | None = None
    capturable: bool = False
    differentiable: bool = False
    fused: bool | None = None

    def __post_init__(self) -> None:
        given = self.max_lr
        validate_fields(self)
        if isinstance(given, torch.Tensor):
            # Checked as a number, and kept: the optimizer makes its rate a tensor too.
            object.__setattr__(self, "max_lr", given)

    def build(self, params: ParamsT) -> AdamWWithOneCycle:
        """Make the optimizer over parameters or parameter groups."""
        return AdamWWithOneCycle(params, **vars(self))
