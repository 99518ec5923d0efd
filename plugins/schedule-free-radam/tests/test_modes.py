"""Training and evaluation mode of schedule-free RAdam: switching, late groups, and steps in the wrong mode."""

from __future__ import annotations

import copy

import pytest
import schedulefree
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_core import (
    EvaluationModeError,
    OptimError,
)
from optim_schedule_free_radam import ScheduleFreeRAdam
from radam_support.plain_training import identical, model, trained, update, weights


def test_training_needs_no_call_of_train() -> None:
    module, optimizer = trained(8)

    assert isinstance(optimizer, schedulefree.RAdamScheduleFree)
    assert not identical(module, model())


def test_step_in_evaluation_mode_is_refused_and_changes_nothing() -> None:
    module, optimizer = trained(8)
    optimizer.eval()
    weights_before, state_before = weights(module), copy.deepcopy(optimizer.state_dict())
    calls: list[int] = []

    with pytest.raises(EvaluationModeError, match=r"step\(\) was called in evaluation mode") as caught:
        optimizer.step(lambda: calls.append(1) or 0.0)

    assert isinstance(caught.value, OptimError)
    assert calls == []
    assert identical(module, weights_before)
    torch.testing.assert_close(optimizer.state_dict(), state_before, rtol=0, atol=0)


def test_step_is_refused_where_only_a_later_group_is_in_evaluation_mode() -> None:
    module = model()
    optimizer = ScheduleFreeRAdam([{"params": module[0].parameters()}, {"params": module[2].parameters()}])
    optimizer.param_groups[1]["train_mode"] = False
    before = weights(module)

    with pytest.raises(EvaluationModeError):
        update(module, optimizer, 0)

    assert identical(module, before)
    assert [group["k"] for group in optimizer.param_groups] == [0, 0]


@given(st.lists(st.sampled_from(["train", "eval"]), max_size=8))
@settings(deadline=None, max_examples=25)
def test_switching_to_a_mode_again_changes_nothing(switches: list[str]) -> None:
    module, optimizer = trained(8, lr=0.05)
    at: dict[str, list[torch.Tensor]] = {"train": weights(module)}
    optimizer.eval()
    at["eval"] = weights(module)

    for mode in [*switches, "eval", "eval", "train", "train"]:
        getattr(optimizer, mode)()
        torch.testing.assert_close(weights(module), at[mode], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(at["train"][0], at["eval"][0], rtol=1e-4, atol=1e-5)


def test_second_switch_to_a_mode_is_bit_for_bit_nothing() -> None:
    module, optimizer = trained(8, lr=0.05)

    for switch in (optimizer.train, optimizer.eval, optimizer.train):
        switch()
        before = weights(module)
        switch()
        assert identical(module, before)


def test_switching_before_the_first_step_leaves_no_state() -> None:
    module, optimizer = trained(0)

    optimizer.eval()
    assert len(optimizer.state) == 0
    optimizer.train()
    assert len(optimizer.state) == 0

    update(module, optimizer, 0)
    assert {frozenset(state) for state in optimizer.state.values()} == {frozenset({"z", "exp_avg_sq"})}


def test_switching_keeps_the_state_of_parameters_that_were_trained() -> None:
    module = model()
    module[2].requires_grad_(False)
    optimizer = ScheduleFreeRAdam(module.parameters())
    update(module, optimizer, 0)

    optimizer.eval()

    assert set(optimizer.state) == set(module[0].parameters())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_late_group_joins_the_current_mode_and_is_averaged(mode: str) -> None:
    module = model()
    optimizer = ScheduleFreeRAdam(module[0].parameters(), lr=0.05)
    for step in range(6):
        update(module, optimizer, step)
    getattr(optimizer, mode)()
    group = {"params": list(module[2].parameters())}

    optimizer.add_param_group(group)

    assert list(group) == ["params"]
    assert {group["train_mode"] for group in optimizer.param_groups} == {mode == "train"}
    optimizer.train()
    for step in range(8):
        update(module, optimizer, step)
    training = weights(module[2])
    optimizer.eval()
    assert not identical(module[2], training)
