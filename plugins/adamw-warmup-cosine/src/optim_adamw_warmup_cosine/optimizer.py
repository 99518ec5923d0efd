"""`AdamWWithWarmupCosine`: `torch.optim.AdamW` on a `WarmupCosine` schedule."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from optim_core import (
    Beta,
    LearningRate,
    NonNegative,
    OnMismatch,
    PeakLearningRateOrTensor,
    Rule,
    ScheduledAdamW,
    StepCount,
    Steps,
    WarmupCosine,
    check_arguments,
)

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

__all__ = ["AdamWWithWarmupCosine"]

_GROUP_OPTIONS = (
    "betas",
    "eps",
    "weight_decay",
    "amsgrad",
    "maximize",
    "foreach",
    "capturable",
    "differentiable",
    "fused",
)

# Many components have the same, and one serves all: it can't be changed.
_schedule = lru_cache(maxsize=64, typed=True)(WarmupCosine)


class AdamWWithWarmupCosine(ScheduledAdamW):
    """`torch.optim.AdamW` with linear warmup and cosine decay of its learning rate.

    Args:
        params: parameters or parameter groups; a group's own `lr` is the peak of its curve.
        peak_lr: absolute learning rate at step `warmup_steps`; above zero. A tensor of one element
            gives each group a tensor `lr` of its own, filled in place, for compiled training steps.
        total_steps: horizon in optimizer updates, warmup included; from its last step on the rate
            is `end_lr`.
        warmup_steps: updates before the peak; less than `total_steps`.
        start_lr: absolute learning rate of the first update where there is a warmup; at most
            `peak_lr`.
        end_lr: absolute learning rate at the end; at most `peak_lr`.
        betas: see `torch.optim.AdamW`, as for all that follow.
        eps: added to the denominator.
        weight_decay: decoupled weight decay.
        amsgrad: use the AMSGrad variant.
        maximize: ascend instead of descend.
        foreach: use the multi-tensor implementation. Where neither this nor `fused` is given, for the
            optimizer or a group, `ScheduledAdamW` chooses the fastest one.
        capturable: make the step fit for capture in a CUDA graph, with `lr` a tensor on the device of
            the group's parameters.
        differentiable: let gradients flow through the step.
        fused: use the fused kernel.
        on_mismatch: whose schedule holds where a loaded state has another; see `ScheduledAdamW`.

    Raises:
        InvalidArgumentsError: (a ValueError) with every argument that breaks a rule.
    """

    RULES: ClassVar[tuple[Rule, ...]] = (
        *WarmupCosine.RULES,
        Rule(("fused", "foreach"), lambda f, e: not (f and e), "can't be true together with foreach"),
        Rule(("fused", "differentiable"), lambda f, d: not (f and d), "can't be true together with differentiable"),
    )
    """The rules across arguments."""

    def __init__(
        self,
        params: ParamsT,
        peak_lr: PeakLearningRateOrTensor,
        total_steps: StepCount,
        warmup_steps: Steps = 0,
        start_lr: LearningRate = 0.0,
        end_lr: LearningRate = 0.0,
        *,
        betas: tuple[Beta, Beta] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
        weight_decay: NonNegative = 1e-2,
        amsgrad: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        on_mismatch: OnMismatch = "config",
    ) -> None:
        shape = {
            "peak_lr": peak_lr,
            "total_steps": total_steps,
            "warmup_steps": warmup_steps,
            "start_lr": start_lr,
            "end_lr": end_lr,
        }
        options = {
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        checked = check_arguments(AdamWWithWarmupCosine, shape | options)
        super().__init__(
            params,
            lr=peak_lr if isinstance(peak_lr, torch.Tensor) else checked["peak_lr"],
            schedule=_schedule(**{name: checked.pop(name) for name in shape}),
            on_mismatch=on_mismatch,
            **checked,
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, which joins the schedule at its current position.

        Args:
            param_group: as for `torch.optim.AdamW`; an `lr` in it is the group's peak. The dictionary
                is not changed.

        Raises:
            InvalidArgumentsError: an option of the group breaks a rule.
        """
        if isinstance(param_group, dict):
            options = {name: param_group[name] for name in _GROUP_OPTIONS if name in param_group}
            if options:
                param_group = {**param_group, **check_arguments(AdamWWithWarmupCosine, options, partial=True)}
        super().add_param_group(param_group)
