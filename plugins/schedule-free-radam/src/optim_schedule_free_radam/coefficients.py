"""The numbers of one update of schedule-free RAdam, from the counters and options of a parameter group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Coefficients", "coefficients_of"]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What an update does to every element of a group, and what it leaves in the group.

    Attributes:
        beta2: coefficient of the running average of the squared gradient.
        bias_correction: what that average is divided by, as it began at zero.
        eps: added to the denominator.
        adaptive: whether the gradient is divided by the average's root yet.
        weight_decay: times the training weights, added to the direction.
        average: how far the training weights move towards `z`: the weight of this update among all.
        weights_rate: what the direction is multiplied by for the training weights; zero or less.
        rate: what it is multiplied by for `z`.
        counters: the group's counters after the update.
    """

    beta2: float
    bias_correction: float
    eps: float
    adaptive: bool
    weight_decay: float
    average: float
    weights_rate: float
    rate: float
    counters: Mapping[str, float]
    _on_devices: dict[torch.device, Tensor] = field(default_factory=dict)

    def on(self, device: torch.device) -> Tensor:
        """The nine numbers that compiled code takes: as data, since for constants it would be made anew."""
        if device not in self._on_devices:
            values = (
                self.beta2,
                # The difference in double precision: in single precision it would have five digits less.
                1 - self.beta2,
                self.bias_correction,
                self.eps,
                float(self.adaptive),
                self.weight_decay,
                self.average,
                self.weights_rate,
                self.rate,
            )
            self._on_devices[device] = torch.tensor(values, dtype=torch.float64, device="cpu").to(
                device, non_blocking=True
            )
        return self._on_devices[device]


def coefficients_of(group: Mapping[str, Any]) -> Coefficients:
    """The numbers of a group's next update; the group is not changed.

    The rectification is RAdam's ("On the Variance of the Adaptive Learning Rate and Beyond", Liu et al.
    2020, algorithm 2), the averaging that of "The Road Less Scheduled" (Defazio et al. 2024), both in the
    order of operations of `schedulefree.RAdamScheduleFree` 1.4, so that rounding is the same.
    """
    beta1, beta2 = group["betas"]
    step = group["k"] + 1
    power = beta2**step
    bias_correction = 1 - power
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * power / bias_correction
    adaptive = length > 4.0
    if adaptive:
        tractable = (length - 4) * (length - 2) * longest
        rectification = (tractable / ((longest - 4) * (longest - 2) * length)) ** 0.5
    else:
        rectification = 0.0 if group["silent_sgd_phase"] else 1.0
    rate = group["lr"] * rectification
    highest = max(rate, group["lr_max"])
    weight = (step ** group["r"]) * (highest ** group["weight_lr_power"])
    total = group["weight_sum"] + weight
    average = weight / total if total else 0.0
    return Coefficients(
        beta2=beta2,
        bias_correction=bias_correction,
        eps=group["eps"],
        adaptive=adaptive,
        weight_decay=group["weight_decay"],
        average=average,
        weights_rate=rate * (beta1 * (1 - average) - 1),
        rate=rate,
        counters={"scheduled_lr": rate, "lr_max": highest, "weight_sum": total, "k": step},
    )
