"""Stepping an optimizer on a dummy parameter, to see what becomes of its learning rate and its betas."""

from __future__ import annotations

import inspect
import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from optim_core.for_tools import has_modes, plain_number

__all__ = ["Record", "Track", "numbers_of", "recorded_steps"]

_WATCHED = ("betas", "momentum", "weight_decay")

Track = Callable[[range, str], Iterable[int]]
"""Goes through the steps of one component, as a progress bar does; takes the component's name."""


class Record:
    """Numbers by name, step by step, of which only the changes are kept."""

    def __init__(self) -> None:
        self._changes: dict[str, tuple[array[int], array[float]]] = {}

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Note what holds at a step, later than all before."""
        for name, number in numbers.items():
            steps, kept = self._changes.setdefault(name, (array("q"), array("d")))
            if not kept or kept[-1] != number:
                steps.append(step)
                kept.append(number)

    def at(self, step: int) -> dict[str, float]:
        """What held at a step, by name."""
        return {n: kept[max(bisect_right(steps, step) - 1, 0)] for n, (steps, kept) in self._changes.items()}


def recorded_steps(optimizer: Optimizer, steps: Iterable[int]) -> list[Record]:
    """Step an optimizer, and record for each parameter group what each step applied.

    The learning rate, `lr`, is the group's before the step; for a schedule-free optimizer it is the
    `scheduled_lr` that is there after it. The others are betas, momentum and weight decay.

    Raises:
        Exception: whatever a step raises.
    """
    if has_modes(optimizer):
        optimizer.train()  # type: ignore[attr-defined]
    records = [Record() for _ in optimizer.param_groups]
    make_step: Callable[[], object] | None = None
    for step in steps:
        before = [_watched(group) for group in optimizer.param_groups]
        if make_step is None:
            make_step = _first_step(optimizer)
        else:
            make_step()
        # A group that comes or goes on the way has no curve over the whole horizon.
        for record, group, numbers in zip(records, optimizer.param_groups, before, strict=False):
            if "scheduled_lr" in group:
                numbers["lr"] = _number(group["scheduled_lr"])
            record.add(step, numbers)
    return records


def numbers_of(options: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among a group's options; those of a tuple as `betas[0]`, without any that is None."""
    numbers: dict[str, float] = {}
    for name, value in options.items():
        if isinstance(value, (tuple, list)):
            numbers |= {f"{name}[{index}]": _number(item) for index, item in enumerate(value) if item is not None}
        elif value is not None:
            numbers[name] = _number(value)
    return numbers


def _watched(group: Mapping[str, Any]) -> dict[str, float]:
    return {"lr": _number(group.get("lr")), **numbers_of({name: group[name] for name in _WATCHED if name in group})}


def _number(value: Any) -> float:
    try:
        return float(plain_number(value))
    except (TypeError, ValueError):
        return math.nan


def _first_step(optimizer: Optimizer) -> Callable[[], object]:
    """Make a step in the way that the optimizer wants it, and return what makes the next."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [torch.full_like(parameter, 1e-3, requires_grad=False) for parameter in parameters]
    loss = torch.ones(())

    def closure() -> Any:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # A copy, as some optimizers change it.
            parameter.grad = gradient.clone()
        return loss

    def with_closure() -> None:
        optimizer.step(closure)

    def without() -> None:
        closure()
        optimizer.step()

    # Some need a closure, whether their signature says so or not.
    takes_closure = "closure" in inspect.signature(optimizer.step).parameters
    failures: list[Exception] = []
    for make_step in [without, with_closure] if takes_closure else [without]:
        try:
            make_step()
        except Exception as error:
            # Whatever a stranger's step raises; it counts where the other way fails as well.
            failures.append(error)
        else:
            return make_step
    raise failures[0]
