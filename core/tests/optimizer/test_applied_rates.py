"""The rate that a step applies: readable before it, and the schedule's own whatever others write into the groups."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from core_support.scheduled_optimizers import ScheduledSGD, advance, formula, rates, sgd
from optim_core import InvalidArgumentsError, ScheduleWarning, WarmupCosine


def moved_by_a_step(optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """How far a step takes a parameter down a gradient of ones: for SGD, the rate that was applied."""
    parameter = optimizer.param_groups[0]["params"][0]
    before = parameter.detach().clone()
    parameter.grad = torch.ones_like(before)
    optimizer.step()
    return (before - parameter.detach()).mean()


def test_rate_of_the_next_step_can_be_read_before_it() -> None:
    optimizer = sgd()

    for step in range(10):
        assert (optimizer.schedule_step, rates(optimizer)) == (step, [pytest.approx(formula(step))])
        assert moved_by_a_step(optimizer) == pytest.approx(formula(step))
    assert rates(optimizer) == [0.02]


def test_changing_a_groups_peak_rescales_it_without_a_warning() -> None:
    optimizer = sgd()
    advance(optimizer, 4)

    optimizer.param_groups[0]["peak_lr"] = 0.05

    assert moved_by_a_step(optimizer) == pytest.approx(formula(4) / 2)
    assert rates(optimizer) == [pytest.approx(formula(5) / 2)]


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
def test_rate_written_by_somebody_else_is_noticed_once_and_not_used(lr: float | torch.Tensor) -> None:
    optimizer = sgd(lr=lr)
    moved = []

    def overwrite_and_step() -> None:
        for _ in range(3):
            optimizer.param_groups[0]["lr"] = torch.tensor(1.0) if isinstance(lr, torch.Tensor) else 1.0
            moved.append(moved_by_a_step(optimizer))

    with pytest.warns(ScheduleWarning, match="rate of parameter group 0 of ScheduledSGD was changed") as caught:
        overwrite_and_step()

    assert [warning.filename for warning in caught] == [__file__]
    assert moved == pytest.approx([formula(0), formula(1), formula(2)], rel=1e-6)
    assert rates(optimizer) == [pytest.approx(formula(3), rel=1e-6)]


def test_scheduler_of_pytorch_on_top_is_noticed_once_and_not_used() -> None:
    optimizer = sgd()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    moved = []

    def step_both() -> None:
        for _ in range(5):
            moved.append(moved_by_a_step(optimizer))
            scheduler.step()

    with pytest.warns(ScheduleWarning, match="take away the other scheduler") as caught:
        step_both()

    assert len(caught) == 1
    assert moved == pytest.approx([formula(step) for step in range(5)])


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
def test_position_that_a_tool_restores_in_the_groups_is_taken_over_in_silence(lr: float | torch.Tensor) -> None:
    # PyTorch's ZeroRedundancyOptimizer writes a state's options into the groups one by one.
    schedule = WarmupCosine(peak_lr=0.1, total_steps=10, warmup_steps=5)
    parameter = torch.nn.Parameter(torch.ones(2))
    saved, live = (ScheduledSGD([parameter], schedule=schedule, lr=lr) for _ in range(2))
    for _ in range(3):
        saved.step()
    options = {name: value for name, value in copy.deepcopy(saved.param_groups[0]).items() if name != "params"}
    own = live.param_groups[0]["lr"]
    live.param_groups[0].update(options)

    live.step()

    assert live.schedule_step == 4
    assert float(live.param_groups[0]["lr"]) == pytest.approx(0.08)
    assert not isinstance(lr, torch.Tensor) or live.param_groups[0]["lr"] is own
    assert options["schedule_step"] == 3


@pytest.mark.parametrize("peak", [math.nan, math.inf, -1.0, "0.1", None, True, torch.ones(2)], ids=str)
def test_peak_that_is_no_rate_is_refused_at_the_next_step_and_nothing_changes(peak: Any) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = ScheduledSGD([parameter], schedule=WarmupCosine(peak_lr=0.1, total_steps=10))
    parameter.grad = torch.ones(2)
    optimizer.step()
    before = parameter.detach().clone()
    optimizer.param_groups[0]["peak_lr"] = peak
    with pytest.raises(InvalidArgumentsError, match=r"param_groups\[0\]\['peak_lr'\] = .*must be a finite number"):
        optimizer.step()
    assert torch.equal(parameter, before)
    optimizer.param_groups[0]["peak_lr"] = 0.2
    optimizer.step()
    assert optimizer.schedule_step == 2


@pytest.mark.parametrize("peak", [1, torch.tensor(0.2), np.float32(0.2)], ids=["int", "tensor", "numpy"])
def test_peak_of_another_type_is_taken_as_a_number(peak: Any) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = ScheduledSGD([{"params": [parameter], "lr": peak}], schedule=WarmupCosine(peak_lr=0.1, total_steps=10))
    assert optimizer.param_groups[0]["peak_lr"] == pytest.approx(float(peak))
    optimizer.param_groups[0]["peak_lr"] = peak
    optimizer.step()
    assert type(optimizer.param_groups[0]["peak_lr"]) is float
