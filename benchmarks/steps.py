"""Timing the steps of optimizers against each other, which several families of rows do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.measuring import Side, Stopwatch, alternate, nothing, wall
from benchmarks.optimizers import Stepping, parameters_of, stepping
from benchmarks.row import Measurement
from benchmarks.sizes import Shape
from optim_core import OptimWarning

__all__ = ["SMALL", "measure_steps"]

SMALL: Shape = (16, 16)
"""So small that a step's time is that of its calls."""

# RAdam's first steps do less than the rest, up to the fifth.
WARM_UP = 8


def measure_steps(
    names: Sequence[str],
    shapes: Sequence[Shape],
    rounds: int,
    *,
    refresh: bool = False,
    device: str = "cpu",
    stopwatch: Stopwatch = wall,
) -> Measurement:
    """Time steps, each optimizer's on parameters and gradients of its own.

    Args:
        names: of optimizers; the first is ours.
        shapes: of the parameters.
        rounds: how often each is timed.
        refresh: fill the gradients anew before every step, for all sides alike, as a backward pass
            would: schedulefree overwrites them, and steps on what it left run into denormal numbers.
        device: where the parameters are.
        stopwatch: times one step.
    """
    sides, notes = [], []
    for name in names:
        parameters = parameters_of(shapes, device)
        built = stepping(name, parameters)
        notes += first_step(built)
        sides.append(Side(name, built.step, _refresher(parameters) if refresh else nothing))
    ours, *theirs = alternate(sides, rounds, warm_up=WARM_UP, stopwatch=stopwatch)
    return Measurement(ours, tuple(theirs), note="; ".join(notes))


def first_step(built: Stepping) -> list[str]:
    """Make the first step, and return what this project's code warned of, such as a missing compiler."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        built.step()
    return [str(each.message) for each in caught if issubclass(each.category, OptimWarning)]


def _refresher(parameters: Sequence[torch.nn.Parameter]) -> Callable[[], Any]:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    fresh = [gradient.clone() for gradient in gradients]
    return lambda: torch._foreach_copy_(gradients, fresh)
