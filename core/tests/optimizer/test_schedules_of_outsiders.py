"""Schedules that aren't the core's: which options they drive, and which schedules and arguments are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from core_support.scheduled_optimizers import sgd
from optim_core import InvalidArgumentsError


@dataclass(frozen=True)
class Halving:
    """An outsider's schedule, which drives the momentum as well."""

    peak_lr: float
    total_steps: int
    momentum: float = 0.5

    def options_at(self, step: int, peak_lr: float) -> dict[str, float]:
        done = min(step, self.total_steps - 1)
        return {"lr": peak_lr / 2**done, "momentum": self.momentum / 2**done}


def test_schedule_of_an_outsider_drives_whatever_options_it_names() -> None:
    optimizer = sgd(schedule=Halving(peak_lr=8.0, total_steps=3))

    seen = []
    for _ in range(3):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()

    assert seen == [(8.0, 0.5), (4.0, 0.25), (2.0, 0.125)]
    assert optimizer.state_dict()["scheduler"] == {
        "schedule": "Halving",
        "step": 3,
        "peak_lr": 8.0,
        "total_steps": 3,
        "momentum": 0.5,
    }


class NoDataclass:
    peak_lr = 1.0
    total_steps = 10

    def options_at(self, step: int, peak_lr: float) -> dict[str, float]:
        return {"lr": peak_lr}


@dataclass(frozen=True)
class WithTensor(Halving):
    curve: Any = None


@dataclass(frozen=True)
class WithReservedName(Halving):
    step: int = 0


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (NoDataclass(), "must be a schedule"),
        (Halving, "must be a schedule"),
        (None, "must be a schedule"),
        (WithTensor(1.0, 10, curve=torch.ones(3)), "schedule.curve = .*must be a plain number or string"),
        (WithReservedName(1.0, 10), "schedule.step: this name is taken"),
    ],
)
def test_schedule_that_cannot_be_saved_is_refused(schedule: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=message):
        sgd(schedule=schedule)


def test_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        sgd(schedule=None, on_mismatch="ignore", initial_step=-1)

    assert [problem.path for problem in caught.value.problems] == ["schedule", "on_mismatch", "initial_step"]
