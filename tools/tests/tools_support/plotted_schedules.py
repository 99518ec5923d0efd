"""Optimizers for the tests of `optim plot`, and the command's function called on them in this process."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from optim_core.arguments.number_types import PeakLearningRate
from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer
from optim_core.schedules.warmup_cosine import WarmupCosine
from optim_tools.command.failures import CommandError
from optim_tools.command.plot_schedules import Plot, plot_schedules


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    """Stochastic gradient descent on a schedule."""


@dataclass
class Warm:
    """Stochastic gradient descent with warmup and cosine decay."""

    peak_lr: PeakLearningRate
    total_steps: int = 1000
    warmup_steps: int = 100
    end_lr: float = 0.0

    example_params = {"peak_lr": 0.1, "total_steps": 500}  # noqa: RUF012

    def build(self, params: Any) -> torch.optim.Optimizer:
        return ScheduledSGD(params, schedule=WarmupCosine(**vars(self)))


@dataclass
class Cyclic:
    """Momentum that moves in steps of its own."""

    lr: float = 0.1

    def build(self, params: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(params, lr=self.lr, momentum=0.9)

        def move(*_: Any) -> None:
            optimizer.param_groups[0]["momentum"] *= 0.999

        optimizer.register_step_post_hook(move)
        return optimizer


class Failing:
    """Can't be stepped."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        class Optimizer(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                raise RuntimeError("no")

        return Optimizer(params, lr=0.1)


def spec(**params: Any) -> dict[str, Any]:
    return {"type": "warm", "params": params}


def plot(
    target: str, *params: str, output: str | Path | None = None, steps: int | None = None, scale: str = "auto"
) -> Plot:
    report = plot_schedules(target, params, output=None if output is None else Path(output), steps=steps, scale=scale)
    assert isinstance(report, Plot)
    assert report.status == 0
    return report


def rendered(report: Plot, width: int = 80) -> str:
    stream = io.StringIO()
    report.render(Console(file=stream, width=width))
    return stream.getvalue()


def failure(target: str, *params: str, **options: Any) -> CommandError:
    with pytest.raises(CommandError) as caught:
        plot(target, *params, **options)
    assert "\n" not in caught.value.message
    return caught.value
