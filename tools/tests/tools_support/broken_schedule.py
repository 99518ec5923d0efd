"""Optimizers whose schedule goes wrong in one thing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch

from optim_core import WarmupCosine
from tools_support.sound_optimizer import SoundAdamW, SoundFactory, factory_of

__all__ = ["BROKEN"]


class AppliesTheNextRate(SoundAdamW):
    """Moves on by what the next rate would have been, once there is one above zero."""

    def update(self, closure: Any) -> Any:
        kept = [(group, p, p.detach().clone()) for group in self.param_groups for p in group["params"]]
        rates = [group["lr"] for group in self.param_groups]
        loss = super().update(closure)
        factors = {
            id(group): group["lr"] / rate
            for group, rate in zip(self.param_groups, rates, strict=True)
            if isinstance(rate, float) and rate > 0 and sum(len(g["params"]) for g in self.param_groups) == 1
        }
        with torch.no_grad():
            for group, parameter, before in kept:
                if id(group) in factors:
                    parameter.copy_(before + (parameter - before) * factors[id(group)])
        return loss


class LooksAtGradients(SoundAdamW):
    """Goes back in its schedule where gradients are large."""

    def update(self, closure: Any) -> Any:
        everyone = [p for group in self.param_groups for p in group["params"]]
        loss = super().update(closure)
        if any(p.grad is not None and float(p.grad.abs().max()) > 20 for p in everyone if p.numel()):
            self._move_to(max(0, self.schedule_step - 1))
        return loss


class StandsStillWithoutGradients(SoundAdamW):
    """Counts steps that have a gradient."""

    def update(self, closure: Any) -> Any:
        loss = super().update(closure)
        everyone = [p for group in self.param_groups for p in group["params"]]
        if closure is None and all(p.grad is None for p in everyone) and len(everyone) == 1:
            self._move_to(max(0, self.schedule_step - 1))
        return loss


@dataclasses.dataclass(frozen=True)
class ClimbsAgain(WarmupCosine):
    """A cosine that knows no end."""

    def options_at(self, step: int, peak: float) -> Mapping[str, Any]:
        if step <= self.total_steps:
            return super().options_at(step, peak)
        return {"lr": peak * (1 - math.cos(math.pi * (step - self.total_steps) / self.total_steps)) / 2}


class ClimbsAgainFactory(SoundFactory):
    """On a schedule that knows no end."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        schedule = ClimbsAgain(peak_lr=self.peak_lr, total_steps=self.total_steps, warmup_steps=self.warmup_steps)
        return SoundAdamW(params, schedule=schedule, capturable=self.capturable, fused=self.fused)


class BeginsAnewForLateGroups(SoundAdamW):
    """Adds a group at the beginning of its own schedule."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        if len(self.param_groups) > 1 and self.schedule_step:
            self.param_groups[-1]["schedule_step"] = 0
            self._write_options()


class OneCurveForAll(SoundAdamW):
    """Takes no notice of a group with half the rate."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["peak_lr"] == self.defaults["lr"] / 2:
            group["peak_lr"] = self.defaults["lr"]
            self._write_options()


BROKEN: dict[str, type] = {
    "schedule-rate-visible": factory_of(AppliesTheNextRate),
    "schedule-pure-function": factory_of(LooksAtGradients),
    "schedule-horizon-in-updates": factory_of(StandsStillWithoutGradients),
    "schedule-held-past-end": ClimbsAgainFactory,
    "schedule-late-group": factory_of(BeginsAnewForLateGroups),
    "schedule-group-peak": factory_of(OneCurveForAll),
}
