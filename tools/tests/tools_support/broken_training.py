"""Optimizers that go wrong in one thing while they train."""

from __future__ import annotations

import random
from typing import Any

import torch

from tools_support.sound_optimizer import SoundAdamW, factory_of

__all__ = ["BROKEN"]


class Ascends(SoundAdamW):
    """Goes the other way where there are biases, which makes it a network."""

    def update(self, closure: Any) -> Any:
        if not self._has_vectors():
            return super().update(closure)
        for group in self.param_groups:
            group["maximize"] = True
        loss = super().update(closure)
        for group in self.param_groups:
            group["maximize"] = False
        return loss

    def _has_vectors(self) -> bool:
        everyone = [p for group in self.param_groups for p in group["params"]]
        return any(p.ndim == 1 and p.numel() and p.dtype == torch.float32 for p in everyone)


class ForgetsVectors(SoundAdamW):
    """Leaves the biases as they are."""

    def update(self, closure: Any) -> Any:
        everyone = [p for group in self.param_groups for p in group["params"]]
        kept = [(p, p.detach().clone()) for p in everyone if p.ndim == 1]
        loss = super().update(closure)
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        return loss


class CountsTheUnused(SoundAdamW):
    """Scales by the part of the parameters that have a gradient."""

    def update(self, closure: Any) -> Any:
        everyone = [p for group in self.param_groups for p in group["params"]]
        unused = [p for p in everyone if p.requires_grad and p.grad is None and not self.state.get(p)]
        loss = super().update(closure)
        if unused and len(unused) < len(everyone):
            with torch.no_grad():
                for parameter in everyone:
                    if parameter.grad is not None:
                        parameter.mul_(1 + 1e-3 * len(unused))
        return loss


class DecaysWithoutGradient(SoundAdamW):
    """Decays the weights of all that it has ever trained."""

    def update(self, closure: Any) -> Any:
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.requires_grad and parameter.grad is None and self.state.get(parameter):
                        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        return super().update(closure)


class LosesTheLoss(SoundAdamW):
    """Lacks a return."""

    def update(self, closure: Any) -> Any:
        super().update(closure)


class KnowsNoZeros(SoundAdamW):
    """Takes the gradients away also where zeros are asked for."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad()


class DrawsItsOwnNumbers(SoundAdamW):
    """Adds noise, in the last bits, that no seed of PyTorch's governs; where there is a whole network."""

    def update(self, closure: Any) -> Any:
        loss = super().update(closure)
        with torch.no_grad():
            for group in self.param_groups:
                if len(group["params"]) == 4 and not self._in_dry_step and int(group["schedule_step"]) == 25:
                    group["params"][0].add_(1e-7 * random.SystemRandom().random())
        return loss


class UsesGradientsAsScratch(SoundAdamW):
    """Adds to the gradients in place, after the update."""

    def update(self, closure: Any) -> Any:
        loss = super().update(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(2)
        return loss


class OneRateForAll(SoundAdamW):
    """Uses the first group's rate for every group."""

    def update(self, closure: Any) -> Any:
        first = self.param_groups[0]["peak_lr"]
        own = [group["peak_lr"] for group in self.param_groups]
        if all(rate == first for rate in own):
            return super().update(closure)
        for group in self.param_groups:
            group["peak_lr"] = first
        loss = super().update(closure)
        for group, rate in zip(self.param_groups, own, strict=True):
            group["peak_lr"] = rate
        self._move_to(self.schedule_step)
        return loss


class OneWeightDecayForAll(SoundAdamW):
    """Uses the first group's weight decay for every group."""

    def update(self, closure: Any) -> Any:
        own = [group["weight_decay"] for group in self.param_groups]
        if len(set(own)) == 1:
            return super().update(closure)
        for group in self.param_groups:
            group["weight_decay"] = own[0]
        loss = super().update(closure)
        for group, decay in zip(self.param_groups, own, strict=True):
            group["weight_decay"] = decay
        return loss


class ReplacesParameters(SoundAdamW):
    """Gives the parameters of a small network other memory."""

    def update(self, closure: Any) -> Any:
        loss = super().update(closure)
        group = self.param_groups[0]
        if len(group["params"]) == 4 and isinstance(group["lr"], float):
            for parameter in group["params"]:
                parameter.data = parameter.data.clone(memory_format=torch.preserve_format)
        return loss


class IgnoresLateGroups(SoundAdamW):
    """Puts back what it moved of a group that was added to a whole network."""

    def update(self, closure: Any) -> Any:
        late = self.param_groups[1:] if len(self.param_groups[0]["params"]) == 4 else []
        kept = [(p, p.detach().clone()) for group in late for p in group["params"]]
        loss = super().update(closure)
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        return loss


BROKEN: dict[str, type] = {
    "training-loss-falls": factory_of(Ascends),
    "training-every-parameter-moves": factory_of(ForgetsVectors),
    "training-gradient-none": factory_of(CountsTheUnused),
    "training-without-gradient-unmoved": factory_of(DecaysWithoutGradient),
    "training-closure": factory_of(LosesTheLoss),
    "training-zero-grad": factory_of(KnowsNoZeros),
    "training-determinism": factory_of(DrawsItsOwnNumbers),
    "training-gradients-unchanged": factory_of(UsesGradientsAsScratch),
    "training-group-rate": factory_of(OneRateForAll),
    "training-group-weight-decay": factory_of(OneWeightDecayForAll),
    "training-in-place": factory_of(ReplacesParameters),
    "training-late-group": factory_of(IgnoresLateGroups),
}
