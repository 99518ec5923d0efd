"""State dicts of a `ScheduledOptimizer`: what is in them, how they are loaded, and what hooks see of it."""

from __future__ import annotations

import copy
import dataclasses
import io
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_support.schedule_states import adamw, curve, same, train, trained, two_groups
from core_support.scheduled_optimizers import SHAPE, formula, parameters
from optim_core import ScheduleWarning


def test_state_has_shape_and_position() -> None:
    optimizer = trained(4)

    state = optimizer.state_dict()

    assert state["scheduler"] == {"schedule": "WarmupCosine", "step": 4, **dataclasses.asdict(SHAPE)}
    assert [(group["schedule_step"], group["peak_lr"]) for group in state["param_groups"]] == [(4, 0.1)]


def test_state_survives_a_weights_only_load() -> None:
    state = trained(4).state_dict()
    buffer = io.BytesIO()

    torch.save(state, buffer)
    buffer.seek(0)

    assert same(torch.load(buffer, weights_only=True), state)


@settings(deadline=None)
@given(before=st.integers(0, 12), after=st.integers(0, 4))
@pytest.mark.filterwarnings("ignore:.*past the end:optim_core.ScheduleWarning")
def test_resumed_training_is_bit_for_bit_the_same(before: int, after: int) -> None:
    uninterrupted = trained(before)
    resumed = adamw([p.detach().clone().requires_grad_() for p in uninterrupted.param_groups[0]["params"]])
    resumed.load_state_dict(copy.deepcopy(uninterrupted.state_dict()))

    train(uninterrupted, after)
    train(resumed, after)

    assert same(resumed.state_dict(), uninterrupted.state_dict())
    for ours, theirs in zip(resumed.param_groups[0]["params"], uninterrupted.param_groups[0]["params"], strict=True):
        assert torch.equal(ours, theirs)


def test_loading_by_keyword_leaves_the_given_state_as_it_is() -> None:
    state = trained(4).state_dict()
    before = copy.deepcopy(state)
    optimizer = adamw()

    optimizer.load_state_dict(state_dict=state)

    assert same(state, before)
    assert optimizer.schedule_step == 4
    train(optimizer, 2)
    # PyTorch's own load shares the tensors of the state with the optimizer, but no dictionary.
    assert same([state["param_groups"], state["scheduler"]], [before["param_groups"], before["scheduler"]])


def test_own_state_can_be_loaded_again_and_again() -> None:
    optimizer = trained(4)
    state = copy.deepcopy(optimizer.state_dict())

    for _ in range(2):
        optimizer.load_state_dict(state)
        assert same(optimizer.state_dict(), state)
        assert curve(optimizer, 3) == pytest.approx([formula(4), formula(5), formula(6)])


def test_state_hooks_of_users_see_the_schedule() -> None:
    optimizer = trained(4)
    seen: list[dict[str, Any]] = []
    optimizer.register_state_dict_post_hook(lambda _, state: seen.append(state["scheduler"]))

    optimizer.state_dict()
    optimizer.state_dict()

    assert [scheduler["step"] for scheduler in seen] == [4, 4]


def test_load_pre_hook_of_a_user_can_supply_the_position() -> None:
    state = torch.optim.AdamW(parameters(torch.float32)).state_dict()
    optimizer = adamw()
    optimizer.register_load_state_dict_pre_hook(lambda _, state: {**state, "scheduler": {"step": 6}})

    optimizer.load_state_dict(state)

    assert curve(optimizer, 2) == pytest.approx([formula(6), formula(7)])


def test_load_pre_hook_of_a_user_can_remove_the_shape() -> None:
    state = trained(4, schedule=dataclasses.replace(SHAPE, total_steps=20)).state_dict()
    optimizer = adamw(on_mismatch="error")
    optimizer.register_load_state_dict_pre_hook(lambda _, state: state.pop("scheduler") and None)

    optimizer.load_state_dict(state)

    assert curve(optimizer, 2) == pytest.approx([formula(4), formula(5)])
    assert "scheduler" in state


def test_load_post_hook_of_a_user_sees_the_schedule_restored() -> None:
    optimizer = adamw()
    seen: list[tuple[int, float]] = []
    optimizer.register_load_state_dict_post_hook(
        lambda o: seen.append((o.schedule_step, o.param_groups[0]["lr"]))  # type: ignore[attr-defined]
    )

    state = trained(4).state_dict()
    del state["param_groups"][0]["schedule_step"]
    optimizer.load_state_dict(state)

    assert seen == [(4, pytest.approx(formula(4)))]


def test_tensor_rate_stays_the_same_tensor_over_a_load() -> None:
    state = trained(4, two_groups(torch.tensor(0.4)), lr=torch.tensor(0.1)).state_dict()
    optimizer = adamw(two_groups(torch.tensor(0.4)), lr=torch.tensor(0.1))
    tensors = [group["lr"] for group in optimizer.param_groups]

    optimizer.load_state_dict(state)

    assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, tensors, strict=True))
    assert [float(t) for t in tensors] == pytest.approx([formula(4), 4 * formula(4)], rel=1e-6)
    assert not any(group["lr"] is tensor for group, tensor in zip(state["param_groups"], tensors, strict=True))


@pytest.mark.parametrize("policy", ["config", "checkpoint", "error"])
def test_rate_of_a_tensor_and_of_a_float_are_one_peak(policy: Any) -> None:
    floats, tensors = trained(4, two_groups(0.4)), trained(4, two_groups(torch.tensor(0.4)), lr=torch.tensor(0.1))
    as_float, as_tensor = (o.state_dict() for o in (floats, tensors))

    floats.load_state_dict(as_tensor, on_mismatch=policy)
    tensors.load_state_dict(as_float, on_mismatch=policy)

    assert [type(group["lr"]) for group in floats.param_groups] == [float, float]
    assert [type(group["lr"]) for group in tensors.param_groups] == [torch.Tensor, torch.Tensor]
    assert curve(floats, 2) == pytest.approx([formula(4), formula(5)], rel=1e-6)
    assert curve(tensors, 2) == pytest.approx([formula(4), formula(5)], rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*past the end:optim_core.ScheduleWarning")
def test_loading_lets_the_end_of_the_horizon_warn_anew() -> None:
    optimizer = trained(10)
    state = copy.deepcopy(optimizer.state_dict())
    train(optimizer, 1)

    optimizer.load_state_dict(state)

    with pytest.warns(ScheduleWarning, match="past the end"):
        train(optimizer, 1)
