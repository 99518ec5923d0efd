"""Where a state's position is found: in the groups, beside them, in counts of updates, or nowhere."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import pytest
import torch

from core_support.schedule_states import adamw, curve, same, train, trained
from core_support.scheduled_optimizers import SHAPE, ScheduledSGD, formula, parameters
from optim_core import ScheduleWarning, StateMismatchError


def test_position_is_found_in_the_groups_where_a_tool_drops_the_key() -> None:
    state = trained(4).state_dict()
    del state["scheduler"]
    optimizer = adamw()

    optimizer.load_state_dict(state)

    assert curve(optimizer, 2) == pytest.approx([formula(4), formula(5)])


def test_position_is_found_under_the_key_where_a_tool_drops_it_from_the_groups() -> None:
    state = trained(4).state_dict()
    for group in state["param_groups"]:
        del group["schedule_step"], group["peak_lr"]
    optimizer = adamw()

    optimizer.load_state_dict(state)

    assert curve(optimizer, 2) == pytest.approx([formula(4), formula(5)])


def test_state_of_the_bare_class_continues_from_its_count_with_a_warning() -> None:
    bare = torch.optim.AdamW(parameters(torch.float32), lr=0.5)
    train(bare, 5)
    optimizer = adamw(bare.param_groups[0]["params"])

    with pytest.warns(ScheduleWarning, match="continues from step 5, the number of updates that its parameters' state"):
        optimizer.load_state_dict(bare.state_dict())

    assert curve(optimizer, 2) == pytest.approx([formula(5), formula(6)])


def test_state_of_a_bare_optimizer_that_made_no_step_starts_at_the_beginning_with_a_warning() -> None:
    optimizer = adamw()

    with pytest.warns(ScheduleWarning, match="continues from step 0"):
        optimizer.load_state_dict(torch.optim.AdamW(parameters(torch.float32)).state_dict())

    assert curve(optimizer, 2) == pytest.approx([formula(0), formula(1)])


def test_state_with_a_scheduler_of_pytorch_continues_from_its_last_epoch() -> None:
    bare = torch.optim.SGD(parameters(torch.float32), lr=0.5, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(bare, lambda step: 0.5**step)
    for _ in range(4):
        train(bare, 1)
        scheduler.step()
    optimizer = ScheduledSGD(parameters(torch.float32), schedule=SHAPE, momentum=0.9)

    with pytest.warns(ScheduleWarning, match="continues from step 4, a torch.optim.lr_scheduler's last_epoch"):
        optimizer.load_state_dict({**bare.state_dict(), "scheduler": scheduler.state_dict()})

    assert curve(optimizer, 2) == pytest.approx([formula(4), formula(5)])


def test_state_without_any_position_is_refused_and_nothing_changes() -> None:
    bare = torch.optim.SGD(parameters(torch.float32), lr=0.5, momentum=0.9)
    train(bare, 5)
    optimizer = ScheduledSGD(parameters(torch.float32), schedule=SHAPE, momentum=0.9)
    train(optimizer, 2)
    before = copy.deepcopy(optimizer.state_dict())

    with pytest.raises(StateMismatchError, match="no position of a schedule") as caught:
        optimizer.load_state_dict(bare.state_dict())

    assert "put the number of updates made as {'scheduler': {'step': ...}} into the state" in str(caught.value)
    assert same(optimizer.state_dict(), before)


def test_advice_of_that_refusal_works() -> None:
    bare = torch.optim.SGD(parameters(torch.float32), lr=0.5, momentum=0.9)
    train(bare, 5)
    optimizer = ScheduledSGD(parameters(torch.float32), schedule=SHAPE, momentum=0.9)

    optimizer.load_state_dict({**bare.state_dict(), "scheduler": {"step": 5}})

    assert curve(optimizer, 2) == pytest.approx([formula(5), formula(6)])


@pytest.mark.parametrize("position", [-1, 2.5, math.nan, "4", True, None])
def test_position_that_is_no_number_of_updates_is_refused(position: Any) -> None:
    state = trained(4).state_dict()
    state["param_groups"][0]["schedule_step"] = position

    with pytest.raises(StateMismatchError, match=re.escape(f"position {position!r} is no number of updates")):
        adamw().load_state_dict(state)


@pytest.mark.parametrize("position", [torch.tensor(4), torch.tensor(4.0), 4.0])
def test_position_may_have_become_a_tensor_or_a_float(position: Any) -> None:
    state = trained(4).state_dict()
    state["param_groups"][0]["schedule_step"] = position
    optimizer = adamw()

    optimizer.load_state_dict(state)

    assert curve(optimizer, 2) == pytest.approx([formula(4), formula(5)])
    assert type(optimizer.param_groups[0]["schedule_step"]) is int
