"""The factory behind the key `adamw_warmup_cosine_decay`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from optim_adamw_warmup_cosine.optimizer import AdamWWithWarmupCosine
from optim_core import (
    Beta,
    Claims,
    LearningRate,
    NonNegative,
    Note,
    PeakLearningRateOrTensor,
    Rule,
    StepCount,
    Steps,
    WarmupCosine,
    validate_fields,
)

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

__all__ = ["AdamWWarmupCosineFactory"]


@dataclass(frozen=True, kw_only=True)
class AdamWWarmupCosineFactory:
    """AdamW with linear warmup and cosine decay of the learning rate.

    Args:
        peak_lr: absolute learning rate at step `warmup_steps`; above zero.
        total_steps: horizon in optimizer updates, warmup included.
        warmup_steps: updates before the peak; less than `total_steps`.
        start_lr: absolute learning rate of the first update where there is a warmup.
        end_lr: absolute learning rate at step `total_steps - 1` and after.
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

    RULES: ClassVar[tuple[Rule, ...]] = AdamWWithWarmupCosine.RULES
    NOTES: ClassVar[tuple[Note, ...]] = WarmupCosine.NOTES
    CLAIMS: ClassVar[Claims] = Claims(complex=True)
    example_params: ClassVar[dict[str, Any]] = {"peak_lr": 1e-3, "total_steps": 1000, "warmup_steps": 100}

    peak_lr: PeakLearningRateOrTensor
    total_steps: StepCount
    warmup_steps: Steps = 0
    start_lr: LearningRate = 0.0
    end_lr: LearningRate = 0.0
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
        given = self.peak_lr
        validate_fields(self)
        if isinstance(given, torch.Tensor):
            # Checked as a number, and kept: the optimizer makes its rate a tensor too.
            object.__setattr__(self, "peak_lr", given)

    def build(self, params: ParamsT) -> AdamWWithWarmupCosine:
        """Make the optimizer over parameters or parameter groups."""
        return AdamWWithWarmupCosine(params, **vars(self))
