"""States of other groups, of other names, or with parts missing are refused, and nothing changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from core_support.schedule_states import adamw, same, trained, two_groups
from core_support.scheduled_optimizers import ScheduledSGD, parameters
from optim_core import StateMismatchError, WarmupCosine


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (lambda: two_groups(0.1), "the checkpoint has 1 parameter group with 2 parameters, the optimizer 2 parameter"),
        (
            lambda: parameters(torch.float32)[:1],
            "1 parameter group with 2 parameters, the optimizer 1 parameter group with 1",
        ),
    ],
)
def test_other_groups_are_refused_and_nothing_changes(params: Any, message: str) -> None:
    optimizer = trained(2, params())
    before = copy.deepcopy(optimizer.state_dict())

    with pytest.raises(StateMismatchError, match=message):
        optimizer.load_state_dict(trained(4).state_dict())

    assert same(optimizer.state_dict(), before)


def test_other_parameter_names_are_listed_and_refused() -> None:
    first, second = parameters(torch.float32)
    state = trained(4, [("weight", first), ("bias", second)]).state_dict()
    optimizer = adamw([("weight", first), ("scale", second)])

    with pytest.raises(StateMismatchError, match=r"not in the checkpoint: 'scale'; only in the checkpoint: 'bias'"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("state", [{}, {"state": {}}, {"state": [], "param_groups": []}])
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(StateMismatchError, match="no optimizer's state"):
        adamw().load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state["state"].update({0: {"momentum_buffer": {}}}), "nothing for parameter 0"),
        (lambda state: state["param_groups"].__setitem__(0, {"params": [0]}), "nothing for group 0"),
    ],
)
def test_state_that_a_tool_found_nothing_for_is_refused(change: Any, named: str) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = ScheduledSGD([parameter], schedule=WarmupCosine(peak_lr=0.1, total_steps=10), momentum=0.9)
    before = str(optimizer.state_dict())
    state = copy.deepcopy(optimizer.state_dict())
    change(state)
    with pytest.raises(StateMismatchError, match=named):
        optimizer.load_state_dict(state)
    assert str(optimizer.state_dict()) == before
