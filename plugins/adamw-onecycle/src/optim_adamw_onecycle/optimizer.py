"""`AdamWWithOneCycle`: `torch.optim.AdamW` on a `OneCycle` schedule."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge

from optim_adamw_onecycle.schedule import (
    ONE_STEP_RISE,
    Divisor,
    Fraction,
    Momentum,
    OneCycle,
    rises_in_one_step,
)
from optim_core import (
    Beta,
    LearningRate,
    NonNegative,
    OnMismatch,
    PeakLearningRateOrTensor,
    Rule,
    ScheduledAdamW,
    StepCount,
    check_arguments,
)

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

__all__ = ["AdamWWithOneCycle", "LastEpoch"]

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

LastEpoch = Annotated[int, Ge(-1)]

_log = logging.getLogger(__name__)


# Many components have the same, and one serves all: it can't be changed.
_schedule = lru_cache(maxsize=64, typed=True)(OneCycle)


class AdamWWithOneCycle(ScheduledAdamW):
    """`torch.optim.AdamW` on the one-cycle schedule of `torch.optim.lr_scheduler.OneCycleLR`.

    Args:
        params: parameters or parameter groups; a group's own `lr` is the peak of its curve.
        max_lr: the highest learning rate, absolute; above zero. A tensor of one element gives each
            group tensors of its own for `lr` and the beta that moves, filled in place, for compiled
            training steps.
        total_steps: horizon in optimizer updates. May be left out where `epochs` and
            `steps_per_epoch` are given, and is used where all three are.
        epochs: number of epochs to train for.
        steps_per_epoch: optimizer updates in each.
        pct_start: fraction of the horizon in which the rate rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: let the first beta move against the rate, between `base_momentum` and
            `max_momentum`; the first of `betas` is not used then, as in PyTorch.
        base_momentum: the first beta at the peak.
        max_momentum: the first beta at both ends.
        div_factor: `max_lr` over the rate at the start.
        final_div_factor: the rate at the start over that at the end.
        three_phase: fall back to the start first, and then to the end.
        last_epoch: number of the last update made before, or -1 to start at the beginning.
        lr: not used, as in PyTorch: the cycle starts at `max_lr / div_factor`. Where the two differ
            a log line says so.
        betas: see `torch.optim.AdamW`, as for all that follow.
        eps: added to the denominator.
        weight_decay: decoupled weight decay.
        amsgrad: use the AMSGrad variant.
        maximize: ascend instead of descend.
        foreach: use the multi-tensor implementation. Where neither this nor `fused` is given, for the
            optimizer or a group, `ScheduledAdamW` chooses the fastest one.
        capturable: make the step fit for capture in a CUDA graph, with `lr` and the beta that moves
            tensors on the device of the group's parameters.
        differentiable: let gradients flow through the step.
        fused: use the fused kernel.
        on_mismatch: whose schedule holds where a loaded state has another; see `ScheduledAdamW`.

    Raises:
        InvalidArgumentsError: (a ValueError) with every argument that breaks a rule.
    """

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("total_steps", "epochs", "steps_per_epoch"),
            lambda total, epochs, per_epoch: total is not None or (epochs is not None and per_epoch is not None),
            "must be given, or both epochs and steps_per_epoch",
        ),
        Rule(
            ("pct_start", "total_steps", "epochs", "steps_per_epoch"),
            lambda fraction, *horizon: not rises_in_one_step(fraction, horizon_of(*horizon)),
            ONE_STEP_RISE,
        ),
        Rule(("fused", "foreach"), lambda f, e: not (f and e), "can't be true together with foreach"),
        Rule(("fused", "differentiable"), lambda f, d: not (f and d), "can't be true together with differentiable"),
    )
    """The rules across arguments."""

    def __init__(
        self,
        params: ParamsT,
        max_lr: PeakLearningRateOrTensor,
        total_steps: StepCount | None = None,
        epochs: StepCount | None = None,
        steps_per_epoch: StepCount | None = None,
        *,
        pct_start: Fraction = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: Momentum = 0.85,
        max_momentum: Momentum = 0.95,
        div_factor: Divisor = 25.0,
        final_div_factor: Divisor = 1e4,
        three_phase: bool = False,
        last_epoch: LastEpoch = -1,
        lr: LearningRate | None = None,
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
        horizon = {"total_steps": total_steps, "epochs": epochs, "steps_per_epoch": steps_per_epoch}
        shape = {
            "pct_start": pct_start,
            "anneal_strategy": anneal_strategy,
            "cycle_momentum": cycle_momentum,
            "base_momentum": base_momentum,
            "max_momentum": max_momentum,
            "div_factor": div_factor,
            "final_div_factor": final_div_factor,
            "three_phase": three_phase,
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
        rest = {"max_lr": max_lr, "last_epoch": last_epoch, "lr": lr}
        checked = check_arguments(AdamWWithOneCycle, horizon | shape | options | rest)
        schedule = _schedule(
            peak_lr=checked["max_lr"],
            total_steps=horizon_of(*(checked[name] for name in horizon)),
            **{name: checked[name] for name in shape},
        )
        super().__init__(
            params,
            lr=max_lr if isinstance(max_lr, torch.Tensor) else checked["max_lr"],
            schedule=schedule,
            on_mismatch=on_mismatch,
            initial_step=checked["last_epoch"] + 1,
            **{name: checked[name] for name in options},
        )
        first = schedule.peak_lr / schedule.div_factor
        if checked["lr"] is not None and checked["lr"] != first:
            _log.warning(
                "lr=%g is not used: as in PyTorch's OneCycleLR, the cycle starts at max_lr / div_factor = %g",
                checked["lr"],
                first,
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
                param_group = {**param_group, **check_arguments(AdamWWithOneCycle, options, partial=True)}
        super().add_param_group(param_group)


def horizon_of(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    """The number of updates that the arguments stand for; 0 where they don't say."""
    return total_steps or (epochs or 0) * (steps_per_epoch or 0)
