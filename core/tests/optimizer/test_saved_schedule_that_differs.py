"""Loading a state of another schedule: the policy decides whose values hold, and each difference is named."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from core_support.schedule_states import adamw, curve, same, trained, two_groups
from core_support.scheduled_optimizers import SHAPE, formula, parameters
from optim_core import InvalidArgumentsError, ScheduleWarning, StateMismatchError

OTHER = dataclasses.replace(SHAPE, peak_lr=0.2, total_steps=20)


def test_configured_shape_holds_by_default_and_each_difference_is_named() -> None:
    state = trained(4).state_dict()
    optimizer = adamw(schedule=OTHER)

    with pytest.warns(ScheduleWarning) as caught:
        optimizer.load_state_dict(state)

    assert [(str(warning.message), warning.filename) for warning in caught] == [
        (
            "ScheduledAdamW: the saved schedule differs; the configuration's values hold from step 4: "
            "peak_lr is 0.1 in the checkpoint and 0.2 in the configuration; "
            "total_steps is 10 in the checkpoint and 20 in the configuration",
            __file__,
        )
    ]
    assert curve(optimizer, 16) == pytest.approx([formula(step, 0.2, 20) for step in range(4, 20)])


def test_checkpoints_shape_can_be_taken_over() -> None:
    state = trained(4).state_dict()
    optimizer = adamw(schedule=OTHER, on_mismatch="checkpoint")

    with pytest.warns(ScheduleWarning, match="the checkpoint's values hold from step 4: peak_lr .*; total_steps "):
        optimizer.load_state_dict(state)

    assert optimizer.schedule == SHAPE
    assert curve(optimizer, 6) == pytest.approx([formula(step) for step in range(4, 10)])


def test_group_added_after_taking_over_a_shape_has_its_peak() -> None:
    first, second = parameters(torch.float32)
    state = trained(4, [first]).state_dict()
    optimizer = adamw([first], schedule=OTHER, on_mismatch="checkpoint")
    with pytest.warns(ScheduleWarning):
        optimizer.load_state_dict(state)

    optimizer.add_param_group({"params": [second]})

    assert curve(optimizer, 3, group=1) == pytest.approx([formula(4), formula(5), formula(6)])


def test_other_shape_can_be_refused_and_nothing_changes() -> None:
    state = trained(4).state_dict()
    optimizer = trained(2, schedule=OTHER, on_mismatch="error")
    before = copy.deepcopy(optimizer.state_dict())

    with pytest.raises(StateMismatchError, match=r"saved schedule differs: peak_lr is 0\.1 .*; total_steps is 10 "):
        optimizer.load_state_dict(state)

    assert same(optimizer.state_dict(), before)


def test_policy_of_one_call_goes_before_the_optimizers() -> None:
    state = trained(4).state_dict()
    optimizer = adamw(schedule=OTHER, on_mismatch="error")

    with pytest.warns(ScheduleWarning):
        optimizer.load_state_dict(state, on_mismatch="checkpoint")

    assert (optimizer.schedule, optimizer.on_mismatch) == (SHAPE, "error")


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(InvalidArgumentsError, match="on_mismatch = 'keep': must be one of 'config', 'checkpoint', 'er"):
        adamw().load_state_dict(trained(1).state_dict(), on_mismatch="keep")  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["config", "checkpoint", "error"])
def test_equal_shapes_load_without_a_warning_under_every_policy(policy: Any) -> None:
    optimizer = adamw(on_mismatch=policy)

    optimizer.load_state_dict(trained(4).state_dict())

    assert curve(optimizer, 2) == pytest.approx([formula(4), formula(5)])


def test_longer_horizon_goes_on_along_the_longer_curve() -> None:
    state = trained(10).state_dict()
    optimizer = adamw(schedule=dataclasses.replace(SHAPE, total_steps=20))

    with pytest.warns(ScheduleWarning, match="total_steps is 10 in the checkpoint and 20 in the configuration"):
        optimizer.load_state_dict(state)

    assert curve(optimizer, 10) == pytest.approx([formula(step, total=20) for step in range(10, 20)])


@pytest.mark.parametrize(("policy", "factor"), [("config", 3), ("checkpoint", 4)])
def test_peak_of_a_group_follows_the_policy(policy: Any, factor: int) -> None:
    state = trained(4, two_groups(0.4)).state_dict()
    optimizer = adamw(two_groups(0.3), on_mismatch=policy)

    with pytest.warns(ScheduleWarning, match="peak_lr of parameter group 1 is 0.4 in the checkpoint and 0.3 in the"):
        optimizer.load_state_dict(state)

    assert optimizer.param_groups[0]["lr"] == pytest.approx(formula(4))
    assert curve(optimizer, 2, group=1) == pytest.approx([factor * formula(4), factor * formula(5)])


@dataclasses.dataclass(frozen=True)
class Constant:
    peak_lr: float
    total_steps: int

    def options_at(self, step: int, peak_lr: float) -> dict[str, float]:
        return {"lr": peak_lr}


def test_schedule_of_another_kind_is_named_and_the_configured_one_holds() -> None:
    state = trained(4, schedule=Constant(0.5, 100)).state_dict()
    optimizer = adamw()

    with pytest.warns(ScheduleWarning, match="schedule is 'Constant' in the checkpoint and 'WarmupCosine' in the"):
        optimizer.load_state_dict(state)

    assert curve(optimizer, 2) == pytest.approx([formula(4), formula(5)])


def test_schedule_of_another_kind_cannot_be_taken_over() -> None:
    state = trained(4, schedule=Constant(0.5, 100)).state_dict()

    with pytest.raises(StateMismatchError, match="the checkpoint's schedule is a Constant, this optimizer's a Warmup"):
        adamw().load_state_dict(state, on_mismatch="checkpoint")


def test_damaged_shape_cannot_be_taken_over() -> None:
    state = trained(4).state_dict()
    state["scheduler"]["total_steps"] = 0

    with pytest.raises(StateMismatchError, match="can't be taken over: WarmupCosine: total_steps = 0"):
        adamw().load_state_dict(state, on_mismatch="checkpoint")
