"""The factory behind the key `schedule_free_radam`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from optim_core import Beta, Claims, Finite, LearningRate, NonNegative, validate_fields
from optim_schedule_free_radam.optimizer import InterpolationBeta, ScheduleFreeRAdam

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

__all__ = ["ScheduleFreeRAdamFactory"]


@dataclass(frozen=True, kw_only=True)
class ScheduleFreeRAdamFactory:
    """RAdam without a schedule: averaged weights take the place of a decaying learning rate.

    Args:
        lr: absolute learning rate, zero or more.
        betas: coefficients of the interpolation and of the running average of the squared gradient;
            the first is above zero.
        eps: added to the denominator.
        weight_decay: weight decay, calculated at the training weights.
        r: power of the polynomial weighting in the average.
        weight_lr_power: power of the learning rate in the weighting; zero or more.
        foreach: use the multi-tensor implementation.
        silent_sgd_phase: do not move the parameters in the first few steps.
        fused: make each update in one pass over memory, with compiled code; leaves gradients as they are.

    Raises:
        InvalidArgumentsError: (a ValueError) with every argument that breaks a rule.
    """

    # The library uses the gradients as scratch.
    CLAIMS: ClassVar[Claims] = Claims(unchanged_gradients=False)
    example_params: ClassVar[dict[str, Any]] = {"lr": 2.5e-3}

    lr: LearningRate = 0.0025
    betas: tuple[InterpolationBeta, Beta] = (0.9, 0.999)
    eps: NonNegative = 1e-8
    weight_decay: NonNegative = 0.0
    r: Finite = 0.0
    weight_lr_power: NonNegative = 2.0
    foreach: bool | None = True
    silent_sgd_phase: bool = True
    fused: bool = False

    def __post_init__(self) -> None:
        validate_fields(self)

    def build(self, params: ParamsT) -> ScheduleFreeRAdam:
        """Make the optimizer over parameters or parameter groups."""
        return ScheduleFreeRAdam(params, **vars(self))
