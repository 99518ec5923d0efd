"""The optimizers that are stepped: this project's, by their keys, and those that they are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import schedulefree
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from benchmarks.row import NotAvailableError
from benchmarks.sizes import Shape
from optim_core import OPTIMIZER_BUILDER_REGISTRY

__all__ = [
    "ADAMW",
    "BY_HAND",
    "FOREACH",
    "FUSED_ADAMW",
    "LOOP",
    "ONE_CYCLE",
    "PARAMS",
    "SCHEDULE_FREE",
    "WARMUP_COSINE",
    "Stepping",
    "parameters_of",
    "stepping",
]

PEAK_LR = 1e-3
# Further than any run comes. The warmup is over before anything counts where steps are short.
TOTAL_STEPS, WARMUP_STEPS = 1_000_000, 100

WARMUP_COSINE = "adamw_warmup_cosine_decay"
ONE_CYCLE = "adamw_cosine_schedule"
SCHEDULE_FREE = "schedule_free_radam, fused"
FUSED_ADAMW = "AdamW(fused=True)"
ADAMW = "AdamW()"
FOREACH = "RAdamScheduleFree(foreach=True)"
LOOP = "RAdamScheduleFree(foreach=False)"

PARAMS: dict[str, dict[str, Any]] = {
    WARMUP_COSINE: {"peak_lr": PEAK_LR, "total_steps": TOTAL_STEPS, "warmup_steps": WARMUP_STEPS},
    ONE_CYCLE: {"max_lr": PEAK_LR, "total_steps": TOTAL_STEPS},
}
"""What a configuration has under `params`, the rest left at its defaults."""

BY_HAND = {WARMUP_COSINE: ("CosineAnnealingLR", "SequentialLR"), ONE_CYCLE: ("OneCycleLR",)}
"""The schedulers of PyTorch that an optimizer with a schedule of its own replaces."""


def _cosine(optimizer: torch.optim.Optimizer) -> LRScheduler:
    return CosineAnnealingLR(optimizer, T_max=TOTAL_STEPS)


def _warmup_and_cosine(optimizer: torch.optim.Optimizer) -> LRScheduler:
    warmup = LinearLR(optimizer, start_factor=0.01, total_iters=WARMUP_STEPS)
    return SequentialLR(
        optimizer, [warmup, CosineAnnealingLR(optimizer, T_max=TOTAL_STEPS - WARMUP_STEPS)], [WARMUP_STEPS]
    )


def _one_cycle(optimizer: torch.optim.Optimizer) -> LRScheduler:
    return OneCycleLR(optimizer, max_lr=PEAK_LR, total_steps=TOTAL_STEPS)


_SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], LRScheduler]] = {
    "CosineAnnealingLR": _cosine,
    "SequentialLR": _warmup_and_cosine,
    "OneCycleLR": _one_cycle,
}


def parameters_of(shapes: Sequence[Shape], device: str = "cpu") -> list[torch.nn.Parameter]:
    """Parameters with gradients, both of ordinary size.

    The same ones at each call: they are random, but from a fixed seed. None of the numbers that an
    optimizer makes of them is denormal, which processors calculate with many times more slowly.
    """
    generator = torch.Generator(device).manual_seed(0)
    parameters = []
    for shape in shapes:
        parameter = torch.nn.Parameter(torch.empty(shape, device=device).normal_(generator=generator))
        parameter.grad = torch.empty(shape, device=device).normal_(generator=generator)
        parameters.append(parameter)
    return parameters


@dataclass(frozen=True)
class Stepping:
    """An optimizer in a training loop, with its scheduler if it needs one.

    Attributes:
        optimizer: the optimizer.
        step: what the loop calls to make an update; a function of its own whatever it calls, so that
            every side has the same call around it.
    """

    optimizer: torch.optim.Optimizer
    step: Callable[[], None]


def stepping(name: str, parameters: Sequence[torch.nn.Parameter], **options: Any) -> Stepping:
    """Build one of the optimizers, ready to be stepped.

    Args:
        name: one of the names in this module; a scheduler's behind " + ", for the bare ones.
        parameters: what it is to update.
        **options: further arguments, of the factory or of the bare class.

    Raises:
        NotAvailableError: there is no such optimizer here.
    """
    base, _, scheduler_name = name.partition(" + ")
    optimizer = _optimizer(base, parameters, options)
    if not scheduler_name:

        def step() -> None:
            optimizer.step()

        return Stepping(optimizer, step)
    scheduler = _SCHEDULERS[scheduler_name](optimizer)

    def step_both() -> None:
        optimizer.step()
        scheduler.step()

    return Stepping(optimizer, step_both)


def _optimizer(name: str, parameters: Sequence[torch.nn.Parameter], options: dict[str, Any]) -> torch.optim.Optimizer:
    if name in PARAMS:
        return _from_key(name, parameters, PARAMS[name] | options)
    if name == SCHEDULE_FREE:
        return _from_key("schedule_free_radam", parameters, {"fused": True} | options)
    if name == FUSED_ADAMW:
        return torch.optim.AdamW(parameters, **{"lr": PEAK_LR, "fused": True} | options)
    if name == ADAMW:
        return torch.optim.AdamW(parameters, **{"lr": PEAK_LR} | options)
    library: Any = schedulefree.RAdamScheduleFree(parameters, foreach={FOREACH: True, LOOP: False}[name], **options)
    library.train()
    optimizer: torch.optim.Optimizer = library
    return optimizer


def _from_key(key: str, parameters: Sequence[torch.nn.Parameter], params: dict[str, Any]) -> torch.optim.Optimizer:
    """What a configuration with this key and these params gives."""
    try:
        factory = OPTIMIZER_BUILDER_REGISTRY[key]
    except KeyError:
        raise NotAvailableError(f"nothing installed provides {key}") from None
    optimizer: torch.optim.Optimizer = factory(**params).build(parameters)
    return optimizer
