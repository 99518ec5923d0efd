"""State dicts of a `ScheduledOptimizer`: what is in them, and what loading one does or refuses."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_core import InvalidArgumentsError, ScheduledOptimizer, ScheduleWarning, StateMismatchError, WarmupCosine

SHAPE = WarmupCosine(peak_lr=0.1, total_steps=10, warmup_steps=3, start_lr=0.01, end_lr=0.02)


def formula(step: int, peak: float = 0.1, total: int = 10) -> float:
    """The rate of `SHAPE`, or of it with another peak or horizon, written out."""
    if step < 3:
        return 0.01 + (peak - 0.01) * step / 3
    return 0.02 + (peak - 0.02) * (1 + math.cos(math.pi * (min(step, total - 1) - 3) / (total - 4))) / 2


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    pass


class ScheduledAdamW(ScheduledOptimizer, torch.optim.AdamW):
    pass


def parameters() -> list[torch.nn.Parameter]:
    values = torch.linspace(-1, 1, 10)
    return [torch.nn.Parameter(values[:6].reshape(2, 3).clone()), torch.nn.Parameter(values[6:].clone())]


def train(optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        params = [p for group in optimizer.param_groups for p in group["params"]]
        sum((p - 0.3).cos().sum() for p in params).backward()  # type: ignore[union-attr]
        optimizer.step()


def adamw(params: Any = None, **options: Any) -> ScheduledAdamW:
    return ScheduledAdamW(parameters() if params is None else params, **{"schedule": SHAPE, **options})


def trained(steps: int, params: Any = None, **options: Any) -> ScheduledAdamW:
    optimizer = adamw(params, **options)
    train(optimizer, steps)
    return optimizer


def curve(optimizer: ScheduledOptimizer, steps: int, group: int = 0) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(float(optimizer.param_groups[group]["lr"]))
        optimizer.step()
    return seen


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


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
    state = torch.optim.AdamW(parameters()).state_dict()
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
    first, second = parameters()
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


def two_groups(own_lr: float | torch.Tensor) -> list[dict[str, Any]]:
    first, second = parameters()
    return [{"params": [first]}, {"params": [second], "lr": own_lr}]


@pytest.mark.parametrize(("policy", "factor"), [("config", 3), ("checkpoint", 4)])
def test_peak_of_a_group_follows_the_policy(policy: Any, factor: int) -> None:
    state = trained(4, two_groups(0.4)).state_dict()
    optimizer = adamw(two_groups(0.3), on_mismatch=policy)

    with pytest.warns(ScheduleWarning, match="peak_lr of parameter group 1 is 0.4 in the checkpoint and 0.3 in the"):
        optimizer.load_state_dict(state)

    assert optimizer.param_groups[0]["lr"] == pytest.approx(formula(4))
    assert curve(optimizer, 2, group=1) == pytest.approx([factor * formula(4), factor * formula(5)])


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
    bare = torch.optim.AdamW(parameters(), lr=0.5)
    train(bare, 5)
    optimizer = adamw(bare.param_groups[0]["params"])

    with pytest.warns(ScheduleWarning, match="continues from step 5, the number of updates that its parameters' state"):
        optimizer.load_state_dict(bare.state_dict())

    assert curve(optimizer, 2) == pytest.approx([formula(5), formula(6)])


def test_state_of_a_bare_optimizer_that_made_no_step_starts_at_the_beginning_with_a_warning() -> None:
    optimizer = adamw()

    with pytest.warns(ScheduleWarning, match="continues from step 0"):
        optimizer.load_state_dict(torch.optim.AdamW(parameters()).state_dict())

    assert curve(optimizer, 2) == pytest.approx([formula(0), formula(1)])


def test_state_with_a_scheduler_of_pytorch_continues_from_its_last_epoch() -> None:
    bare = torch.optim.SGD(parameters(), lr=0.5, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(bare, lambda step: 0.5**step)
    for _ in range(4):
        train(bare, 1)
        scheduler.step()
    optimizer = ScheduledSGD(parameters(), schedule=SHAPE, momentum=0.9)

    with pytest.warns(ScheduleWarning, match="continues from step 4, a torch.optim.lr_scheduler's last_epoch"):
        optimizer.load_state_dict({**bare.state_dict(), "scheduler": scheduler.state_dict()})

    assert curve(optimizer, 2) == pytest.approx([formula(4), formula(5)])


def test_state_without_any_position_is_refused_and_nothing_changes() -> None:
    bare = torch.optim.SGD(parameters(), lr=0.5, momentum=0.9)
    train(bare, 5)
    optimizer = ScheduledSGD(parameters(), schedule=SHAPE, momentum=0.9)
    train(optimizer, 2)
    before = copy.deepcopy(optimizer.state_dict())

    with pytest.raises(StateMismatchError, match="no position of a schedule") as caught:
        optimizer.load_state_dict(bare.state_dict())

    assert "put the number of updates made as {'scheduler': {'step': ...}} into the state" in str(caught.value)
    assert same(optimizer.state_dict(), before)


def test_advice_of_that_refusal_works() -> None:
    bare = torch.optim.SGD(parameters(), lr=0.5, momentum=0.9)
    train(bare, 5)
    optimizer = ScheduledSGD(parameters(), schedule=SHAPE, momentum=0.9)

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


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (lambda: two_groups(0.1), "the checkpoint has 1 parameter group with 2 parameters, the optimizer 2 parameter"),
        (lambda: parameters()[:1], "1 parameter group with 2 parameters, the optimizer 1 parameter group with 1"),
    ],
)
def test_other_groups_are_refused_and_nothing_changes(params: Any, message: str) -> None:
    optimizer = trained(2, params())
    before = copy.deepcopy(optimizer.state_dict())

    with pytest.raises(StateMismatchError, match=message):
        optimizer.load_state_dict(trained(4).state_dict())

    assert same(optimizer.state_dict(), before)


def test_other_parameter_names_are_listed_and_refused() -> None:
    first, second = parameters()
    state = trained(4, [("weight", first), ("bias", second)]).state_dict()
    optimizer = adamw([("weight", first), ("scale", second)])

    with pytest.raises(StateMismatchError, match=r"not in the checkpoint: 'scale'; only in the checkpoint: 'bias'"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("state", [{}, {"state": {}}, {"state": [], "param_groups": []}])
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(StateMismatchError, match="no optimizer's state"):
        adamw().load_state_dict(state)


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
