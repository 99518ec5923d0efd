"""Factories and optimizers that go wrong in one thing while they are constructed, or over one kind of parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from optim_core import Claims, WarmupCosine
from tools_support.sound_optimizer import SoundAdamW, SoundFactory, factory_of

__all__ = ["BROKEN"]


class BuildsNothingOverSeveral(SoundFactory):
    """Builds over two matrices of one width only what is no optimizer."""

    def build(self, params: Any) -> Any:
        params = list(params)
        if len(params) == 2 and [tuple(p.shape) for p in params if isinstance(p, torch.Tensor)] == [(2, 2), (3, 2)]:
            return [super().build(params)]
        return super().build(params)


@dataclass(frozen=True, kw_only=True)
class NeedsWhatHasADefault(SoundFactory):
    """Its rate has a default that isn't one."""

    peak_lr: float | None = None  # type: ignore[assignment]


class DropsUnknownArguments(SoundFactory):
    """Takes whatever it is given."""

    def __init__(self, peak_lr: float, total_steps: int, warmup_steps: int = 0, **others: Any) -> None:
        known = {name: others[name] for name in ("capturable", "fused") if name in others}
        super().__init__(peak_lr=peak_lr, total_steps=total_steps, warmup_steps=warmup_steps, **known)


@dataclass(frozen=True, kw_only=True)
class TakesAnything(SoundFactory):
    """Its rate has no type."""

    peak_lr: Any


@dataclass(frozen=True, kw_only=True)
class DropsAnArgument(SoundFactory):
    """Has an argument that `build` forgets."""

    weight_decay: float = 0.01


class LeaksIntoGroups(SoundAdamW):
    """Passes on the dictionary that it was given, and writes into it."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        param_group["schedule_step"] = self.param_groups[-1]["schedule_step"]


class SharesState(SoundAdamW):
    """Trains the second optimizer of a process otherwise than the first, as long as that lives."""

    def __init__(self, params: Any, *, schedule: WarmupCosine, others: list[int], **options: Any) -> None:
        super().__init__(params, schedule=schedule, eps=1e-8 * 10 ** (2 * len(others)), **options)
        others.append(1)


class SharesStateFactory(SoundFactory):
    """Counts what it has built."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        built = self.__dict__.setdefault("built", [])
        schedule = WarmupCosine(peak_lr=self.peak_lr, total_steps=self.total_steps, warmup_steps=self.warmup_steps)
        return SharesState(params, schedule=schedule, others=built, capturable=self.capturable, fused=self.fused)


class GoesThroughParametersTwice(SoundFactory):
    """Looks at the parameters before it passes them on, so that a generator is left at its second."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        if not isinstance(params, list):
            next(iter(params))
        return super().build(params)


class LeavesFrozenOut(SoundFactory):
    """Passes on what has a gradient today."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        def trainable(given: Any) -> Any:
            return [p for p in given if not isinstance(p, torch.Tensor) or p.requires_grad]

        return super().build(trainable(params))


class StepsOverScalars(SoundAdamW):
    """Takes scalars for constants."""

    def update(self, closure: Any) -> Any:
        kept = [(p, p.detach().clone()) for group in self.param_groups for p in group["params"] if p.ndim == 0]
        loss = super().update(closure)
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        return loss


class DividesByElements(SoundAdamW):
    """Can't take the mean of nothing."""

    def update(self, closure: Any) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                1 / parameter.numel()
        return super().update(closure)


class WorksOnCopies(SoundAdamW):
    """Updates a contiguous copy of a parameter that isn't contiguous."""

    def update(self, closure: Any) -> Any:
        everyone = [p for group in self.param_groups for p in group["params"]]
        kept = [(p, p.detach().clone()) for p in everyone if not p.is_contiguous()]
        loss = super().update(closure)
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        return loss


class TurnsIntoFloat32(SoundAdamW):
    """Replaces the data of parameters in half precision, of a small network."""

    def update(self, closure: Any) -> Any:
        loss = super().update(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dtype == torch.bfloat16 and len(group["params"]) == 4:
                    parameter.data = parameter.data.float()
        return loss


class KeepsRealPart(SoundAdamW):
    """Drops the imaginary part of a gradient."""

    def update(self, closure: Any) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.is_complex() and parameter.grad is not None:
                    parameter.grad = parameter.grad.real.to(parameter.dtype)
        return super().update(closure)


BROKEN: dict[str, type] = {
    "construction-builds": BuildsNothingOverSeveral,
    "construction-missing-argument": NeedsWhatHasADefault,
    "construction-unknown-argument": DropsUnknownArguments,
    "construction-wrong-type": TakesAnything,
    "construction-every-argument-counts": DropsAnArgument,
    "construction-arguments-unchanged": factory_of(LeaksIntoGroups),
    "construction-independent-builds": SharesStateFactory,
    "construction-ways-of-giving-parameters": GoesThroughParametersTwice,
    "construction-frozen-parameters": LeavesFrozenOut,
    "construction-scalar-parameters": factory_of(StepsOverScalars),
    "construction-empty-parameters": factory_of(DividesByElements),
    "construction-non-contiguous-parameters": factory_of(WorksOnCopies),
    "construction-bfloat16-parameters": factory_of(TurnsIntoFloat32),
    "construction-complex-parameters": factory_of(KeepsRealPart),
    "construction-sparse-gradients": factory_of(SoundAdamW, Claims(complex=True, sparse=True)),
}
