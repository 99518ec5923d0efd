"""`ScheduleFreeRAdam`: `schedulefree.RAdamScheduleFree` with its modes made safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import schedulefree
import torch

from optim_core import OptimError, check_arguments, without_hooks
from optim_core.arguments import Beta, LearningRate, NonNegative

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

__all__ = ["EvaluationModeError", "ScheduleFreeRAdam"]


class EvaluationModeError(OptimError, RuntimeError):
    """`step()` was called while the model holds the evaluation weights; nothing was changed."""


class ScheduleFreeRAdam(schedulefree.RAdamScheduleFree):  # type: ignore[misc]
    """Schedule-free RAdam: neither a warmup nor a schedule, and no horizon to know beforehand.

    The updates are those of `schedulefree.RAdamScheduleFree` ("The Road Less Scheduled", Defazio et
    al. 2024). The parameters are the training weights, or, between `eval()` and `train()`, the
    averaged ones to evaluate and publish. The optimizer starts in training mode; a group added
    later joins in the current mode.

    Args:
        params: parameters or parameter groups.
        lr: absolute learning rate, zero or more.
        betas: coefficients of the interpolation and of the running average of the squared gradient;
            the first is above zero.
        eps: added to the denominator.
        weight_decay: weight decay, calculated at the training weights.
        r: power of the polynomial weighting in the average.
        weight_lr_power: power of the learning rate in the weighting.
        foreach: use the multi-tensor implementation.
        silent_sgd_phase: do not move the parameters in the first few steps, where RAdam's variance
            is not yet tractable, instead of taking plain gradient steps.

    Raises:
        InvalidArgumentsError: (a ValueError) with every argument that breaks a rule.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 0.0025,
        betas: tuple[Beta, Beta] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
        weight_decay: NonNegative = 0.0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = True,
        silent_sgd_phase: bool = True,
    ) -> None:
        checked = check_arguments(
            ScheduleFreeRAdam,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "r": r,
                "weight_lr_power": weight_lr_power,
                "foreach": foreach,
                "silent_sgd_phase": silent_sgd_phase,
            },
        )
        super().__init__(params, **checked)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group in the mode that the optimizer is in; the dictionary is not changed.

        In evaluation mode its weights count as evaluation weights, as all others do.
        """
        if isinstance(param_group, dict):
            mode = self.param_groups[0]["train_mode"] if self.param_groups else True
            param_group = {**param_group, "train_mode": mode}
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update.

        Args:
            closure: reevaluates the model and returns the loss.

        Returns:
            The closure's loss, or None without one.

        Raises:
            EvaluationModeError: the optimizer is in evaluation mode.
        """
        if not all(group["train_mode"] for group in self.param_groups):
            raise EvaluationModeError(
                f"{type(self).__name__}.step() was called in evaluation mode, where the parameters are the averaged "
                "weights. Call train() on the optimizer (or on the ComponentOptimizers) after an evaluation, or "
                "evaluate inside ComponentOptimizers.eval_mode()"
            )
        loss: float | None = without_hooks(super().step)(self, closure)
        return loss

    def train(self) -> None:
        """Switch the parameters to the training weights, if they aren't."""
        super().train()
        self._drop_empty_state()

    def eval(self) -> None:
        """Switch the parameters to the evaluation weights, if they aren't."""
        super().eval()
        self._drop_empty_state()

    def _drop_empty_state(self) -> None:
        # The library looks a parameter up in a defaultdict, which leaves an entry where there was
        # none; whoever looks next believes that the state exists.
        for parameter in [p for p, state in self.state.items() if isinstance(p, torch.Tensor) and not state]:
            del self.state[parameter]
