"""The factory behind the key `muon_adamw_warmup_cosine`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from optim_core import (
    Beta,
    Claims,
    InvalidArgumentsError,
    LearningRate,
    NonNegative,
    Note,
    PeakLearningRate,
    PeakLearningRateOrTensor,
    Problem,
    Rule,
    StepCount,
    Steps,
    WarmupCosine,
    validate_fields,
)

from optim_muon.optimizer import AdjustLR, MuonAdamWWithWarmupCosine, NewtonSchulzSteps

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

__all__ = ["KEY", "MuonAdamWFactory"]

KEY = "muon_adamw_warmup_cosine"


@dataclass(frozen=True, kw_only=True)
class MuonAdamWFactory:
    """Muon for hidden matrices, AdamW for all else, with linear warmup and cosine decay of the rates.

    Args:
        peak_lr: absolute learning rate at step `warmup_steps`; above zero.
        total_steps: horizon in optimizer updates, warmup included.
        warmup_steps: updates before the peak; less than `total_steps`.
        start_lr: absolute learning rate of the first update where there is a warmup.
        end_lr: absolute learning rate at step `total_steps - 1` and after.
        weight_decay: Muon's decoupled weight decay.
        momentum: coefficient of Muon's running average of the gradient.
        nesterov: look ahead with Muon's momentum.
        ns_steps: Newton-Schulz iterations of a Muon update.
        adjust_lr_fn: how Muon's rate goes with the shape of a matrix: match_rms_adamw, for rates as AdamW's, or
            original, for rates of about 0.02.
        adamw_peak_lr: AdamW's own peak, its curve scaled as a whole; peak_lr if none.
        adamw_betas: coefficients of AdamW's running averages of the gradient and of its square.
        adamw_eps: added to AdamW's denominator.
        adamw_weight_decay: AdamW's decoupled weight decay.
        adamw_names: patterns of names of parameters that are for AdamW, such as head.*; by default the last linear
            layer is taken to be the output, and is for AdamW.
        capturable: make `lr` a tensor, for compiled training steps.

    Raises:
        InvalidArgumentsError: (a ValueError) with every argument that breaks a rule.
    """

    RULES: ClassVar[tuple[Rule, ...]] = MuonAdamWWithWarmupCosine.RULES
    NOTES: ClassVar[tuple[Note, ...]] = WarmupCosine.NOTES
    CLAIMS: ClassVar[Claims] = Claims(complex=True)
    example_params: ClassVar[dict[str, Any]] = {"peak_lr": 1e-3, "total_steps": 1000, "warmup_steps": 100}

    peak_lr: PeakLearningRateOrTensor
    total_steps: StepCount
    warmup_steps: Steps = 0
    start_lr: LearningRate = 0.0
    end_lr: LearningRate = 0.0
    weight_decay: NonNegative = 0.1
    momentum: Beta = 0.95
    nesterov: bool = True
    ns_steps: NewtonSchulzSteps = 5
    adjust_lr_fn: AdjustLR = "match_rms_adamw"
    adamw_peak_lr: PeakLearningRate | None = None
    adamw_betas: tuple[Beta, Beta] = (0.9, 0.95)
    adamw_eps: NonNegative = 1e-8
    adamw_weight_decay: NonNegative = 0.0
    adamw_names: tuple[str, ...] | None = None
    capturable: bool = False

    def __post_init__(self) -> None:
        given = self.peak_lr
        validate_fields(self)
        if isinstance(given, torch.Tensor):
            # Checked as a number, and kept: the optimizer makes its rate a tensor too.
            object.__setattr__(self, "peak_lr", given)

    def build(self, params: ParamsT) -> MuonAdamWWithWarmupCosine:
        """Make the optimizer over parameters or parameter groups.

        Raises:
            InvalidArgumentsError: there are `adamw_names`, and the groups don't say which algorithm they are for.
        """
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        if options.pop("adamw_names") is not None:
            groups: list[Any] = list(params)
            if not all(isinstance(group, dict) and "algorithm" in group for group in groups):
                hint = "Build with optim_core.build_optimizers, or give groups by optim_muon.parameter_groups"
                problem = Problem("adamw_names", "the parameters to choose from have come without their names", hint)
                raise InvalidArgumentsError(type(self).__name__, [problem])
            params = groups
        return MuonAdamWWithWarmupCosine(params, **options)
