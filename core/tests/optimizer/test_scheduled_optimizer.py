"""`ScheduledOptimizer` over several of PyTorch's classes: rates, steps, groups and hooks."""

from __future__ import annotations

import copy
import dataclasses
import gc
import math
import pickle
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from optim_core import InvalidArgumentsError, ScheduledOptimizer, ScheduleWarning, WarmupCosine

SHAPE = WarmupCosine(peak_lr=0.1, total_steps=10, warmup_steps=3, start_lr=0.01, end_lr=0.02)


def formula(step: int) -> float:
    """The rate of `SHAPE`, written out."""
    if step < 3:
        return 0.01 + (0.1 - 0.01) * step / 3
    return 0.02 + (0.1 - 0.02) * (1 + math.cos(math.pi * (min(step, 9) - 3) / 6)) / 2


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    pass


class ScheduledAdamW(ScheduledOptimizer, torch.optim.AdamW):
    pass


class ScheduledRMSprop(ScheduledOptimizer, torch.optim.RMSprop):
    pass


class ScheduledLBFGS(ScheduledOptimizer, torch.optim.LBFGS):
    pass


CLASSES = [
    pytest.param(ScheduledSGD, torch.optim.SGD, {"momentum": 0.9}, id="SGD"),
    pytest.param(ScheduledAdamW, torch.optim.AdamW, {"foreach": False}, id="AdamW"),
    pytest.param(ScheduledAdamW, torch.optim.AdamW, {"foreach": True, "amsgrad": True}, id="AdamW-foreach"),
    pytest.param(ScheduledAdamW, torch.optim.AdamW, {"fused": True}, id="AdamW-fused"),
    pytest.param(ScheduledRMSprop, torch.optim.RMSprop, {"centered": True}, id="RMSprop"),
    pytest.param(ScheduledLBFGS, torch.optim.LBFGS, {"max_iter": 3}, id="LBFGS"),
]


def parameters() -> list[torch.nn.Parameter]:
    values = torch.linspace(-1, 1, 10, dtype=torch.float64)
    return [torch.nn.Parameter(values[:6].reshape(2, 3).clone()), torch.nn.Parameter(values[6:].clone())]


def loss_of(params: list[torch.nn.Parameter]) -> torch.Tensor:
    return sum(((p - 0.3).cos() + p.square() / 4).sum() for p in params)  # type: ignore[return-value]


def closure_of(optimizer: torch.optim.Optimizer) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(optimizer.param_groups[0]["params"])
        loss.backward()
        return loss

    return closure


def sgd_over(params: Any, **options: Any) -> ScheduledSGD:
    return ScheduledSGD(params, **{"schedule": SHAPE, **options})


def sgd(**options: Any) -> ScheduledSGD:
    return sgd_over(parameters(), **options)


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def advance(optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.step()


def moved_by_a_step(optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """How far a step takes a parameter down a gradient of ones: for SGD, the rate that was applied."""
    parameter = optimizer.param_groups[0]["params"][0]
    before = parameter.detach().clone()
    parameter.grad = torch.ones_like(before)
    optimizer.step()
    return (before - parameter.detach()).mean()


@pytest.mark.parametrize(("scheduled", "bare", "options"), CLASSES)
def test_parameters_follow_the_bare_class_with_the_rate_set_by_hand(
    scheduled: type[ScheduledOptimizer], bare: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    ours, theirs = parameters(), parameters()
    optimizer = scheduled(ours, schedule=SHAPE, **options)
    oracle = bare(theirs, lr=1.0, **options)  # type: ignore[call-arg]

    for step in range(10):
        oracle.param_groups[0]["lr"] = formula(step)
        oracle.step(closure_of(oracle))  # type: ignore[arg-type]
        optimizer.step(closure_of(optimizer))  # type: ignore[arg-type]

        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert not torch.equal(ours[0], parameters()[0])


def test_rate_of_the_next_step_can_be_read_before_it() -> None:
    optimizer = sgd()

    for step in range(10):
        assert (optimizer.schedule_step, rates(optimizer)) == (step, [pytest.approx(formula(step))])
        assert moved_by_a_step(optimizer) == pytest.approx(formula(step))
    assert rates(optimizer) == [0.02]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_go_on_where_the_original_is(copied: Callable[[ScheduledAdamW], ScheduledAdamW]) -> None:
    original = ScheduledAdamW(parameters(), schedule=SHAPE, on_mismatch="error")
    for _ in range(4):
        original.step(closure_of(original))  # type: ignore[arg-type]

    twin = copied(original)

    assert rates(twin) == rates(original) == [pytest.approx(formula(4))]
    assert (twin.schedule, twin.schedule_step, twin.on_mismatch) == (SHAPE, 4, "error")
    twin.step()
    assert rates(twin) == [pytest.approx(formula(5))]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_train_alike_and_apart(copied: Callable[[ScheduledAdamW], ScheduledAdamW]) -> None:
    original = ScheduledAdamW(parameters(), schedule=SHAPE)
    for _ in range(4):
        original.step(closure_of(original))  # type: ignore[arg-type]
    twin = copied(original)

    for _ in range(4):
        original.step(closure_of(original))  # type: ignore[arg-type]
    assert twin.schedule_step == 4
    for _ in range(4):
        twin.step(closure_of(twin))  # type: ignore[arg-type]

    for ours, theirs in zip(twin.param_groups[0]["params"], original.param_groups[0]["params"], strict=True):
        assert torch.equal(ours, theirs)


def test_initial_step_starts_further_on() -> None:
    optimizer = sgd(initial_step=5)

    assert (optimizer.schedule_step, rates(optimizer)) == (5, [pytest.approx(formula(5))])


@pytest.mark.parametrize("shape", [SHAPE, dataclasses.replace(SHAPE, start_lr=0.0)])
def test_steps_without_gradients_count(shape: WarmupCosine) -> None:
    optimizer = ScheduledAdamW(parameters(), schedule=shape)

    advance(optimizer, 4)

    assert rates(optimizer) == [pytest.approx(formula(4))]


def test_step_at_a_rate_and_gradients_of_zero_counts_once_there_is_state() -> None:
    optimizer = ScheduledAdamW(parameters(), schedule=WarmupCosine(peak_lr=0.1, total_steps=4))
    for _ in range(3):
        optimizer.step(closure_of(optimizer))  # type: ignore[arg-type]
    optimizer.zero_grad(set_to_none=False)

    assert rates(optimizer) == [0.0]
    advance(optimizer, 1)

    assert optimizer.schedule_step == 4
    assert {float(state["step"]) for state in optimizer.state.values()} == {4.0}


def test_past_the_horizon_the_last_value_holds_with_one_warning() -> None:
    optimizer = sgd()
    advance(optimizer, 10)

    with pytest.warns(ScheduleWarning, match=r"past the end of its schedule \(total_steps=10\)") as caught:
        advance(optimizer, 5)

    assert [warning.filename for warning in caught] == [__file__]
    assert (rates(optimizer), optimizer.schedule_step) == ([0.02], 15)


def test_closure_is_called_once_at_the_rate_of_the_step_with_gradients_enabled() -> None:
    optimizer = sgd(initial_step=2)
    seen: list[tuple[float, bool]] = []

    def closure() -> float:
        seen.append((rates(optimizer)[0], torch.is_grad_enabled()))
        return 7.5

    with torch.no_grad():
        loss = optimizer.step(closure)

    assert loss == 7.5
    assert seen == [(pytest.approx(formula(2)), True)]


def test_closure_runs_where_every_rate_and_gradient_is_zero() -> None:
    optimizer = sgd(schedule=WarmupCosine(peak_lr=0.1, total_steps=10, warmup_steps=3))
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.zeros_like(parameter)

    loss = optimizer.step(lambda: 7.5)

    assert (loss, optimizer.schedule_step) == (7.5, 1)


HOOKS = """
import sys
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from optim_core import ScheduledOptimizer, WarmupCosine

class Scheduled(ScheduledOptimizer, torch.optim.AdamW): pass

def plain():
    return torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])

if sys.argv[1] == "plain first":
    plain()
optimizer = Scheduled([torch.nn.Parameter(torch.ones(1))], schedule=WarmupCosine(peak_lr=1, total_steps=9))
if sys.argv[1] == "plain last":
    plain()
calls = []
register_optimizer_step_pre_hook(lambda *_: calls.append("global pre"))
register_optimizer_step_post_hook(lambda *_: calls.append("global post"))
optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
optimizer.register_step_post_hook(lambda *_: calls.append("post"))
optimizer.step()
print(*sorted(calls), sep=",")
"""


@pytest.mark.parametrize("order", ["plain first", "plain last", "no plain"])
def test_step_hooks_run_once_whatever_was_made_before(order: str) -> None:
    # In a process of its own: making a plain AdamW anywhere changes the class for good.
    result = subprocess.run([sys.executable, "-c", HOOKS, order], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "global post,global pre,post,pre"


def test_post_hook_sees_the_rate_of_the_next_step() -> None:
    optimizer = sgd()
    seen: list[float] = []
    optimizer.register_step_pre_hook(lambda o, *_: seen.append(rates(o)[0]))
    optimizer.register_step_post_hook(lambda o, *_: seen.append(rates(o)[0]))

    optimizer.step()

    assert seen == [pytest.approx(formula(0)), pytest.approx(formula(1))]


def test_group_with_a_rate_of_its_own_has_the_curve_in_proportion() -> None:
    first, second = parameters()
    optimizer = sgd_over([{"params": [first]}, {"params": [second], "lr": 0.4}])

    for step in range(10):
        assert rates(optimizer) == [pytest.approx(formula(step)), pytest.approx(4 * formula(step))]
        optimizer.step()
    assert [group["peak_lr"] for group in optimizer.param_groups] == [0.1, 0.4]


def test_lr_argument_is_the_peak_of_groups_without_their_own() -> None:
    first, second = parameters()

    optimizer = sgd_over([{"params": [first]}, {"params": [second], "lr": 0.4}], lr=0.2, initial_step=3)

    assert rates(optimizer) == [pytest.approx(0.2), pytest.approx(0.4)]


def test_late_group_joins_at_the_current_position() -> None:
    first, second = parameters()
    optimizer = sgd_over([first])
    advance(optimizer, 4)

    optimizer.add_param_group({"params": [second], "lr": 0.2})

    assert rates(optimizer) == [pytest.approx(formula(4)), pytest.approx(2 * formula(4))]
    advance(optimizer, 1)
    assert rates(optimizer) == [pytest.approx(formula(5)), pytest.approx(2 * formula(5))]


def test_group_dictionaries_are_not_changed_and_serve_two_optimizers() -> None:
    first, second = parameters()
    groups: list[dict[str, Any]] = [{"params": [first]}, {"params": [second], "lr": 0.4}]

    one = sgd_over(groups)
    advance(one, 4)
    other = sgd_over(groups)

    assert [{k: v for k, v in group.items() if k != "params"} for group in groups] == [{}, {"lr": 0.4}]
    assert rates(other) == [pytest.approx(formula(0)), pytest.approx(4 * formula(0))]


def test_late_group_dictionary_is_not_changed() -> None:
    first, second = parameters()
    optimizer = sgd_over([first])
    group = {"params": second}

    optimizer.add_param_group(group)

    assert list(group) == ["params"]
    assert group["params"] is second


def test_groups_of_another_optimizer_keep_their_peaks_and_start_anew() -> None:
    first, second = parameters()
    one = sgd_over([{"params": [first]}, {"params": [second], "lr": 0.4}])
    advance(one, 4)

    other = sgd_over(one.param_groups)

    assert rates(other) == [pytest.approx(formula(0)), pytest.approx(4 * formula(0))]
    assert (one.schedule_step, other.schedule_step) == (4, 0)


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf, "0.1", None, True, torch.tensor(-0.1), torch.ones(2)])
def test_group_rate_that_is_none_is_refused_and_nothing_changes(lr: Any) -> None:
    first, second = parameters()
    optimizer = sgd_over([first])

    with pytest.raises(InvalidArgumentsError, match=r"lr = .*: a parameter group's rate must be a finite number"):
        optimizer.add_param_group({"params": [second], "lr": lr})

    assert len(optimizer.param_groups) == 1
    advance(optimizer, 1)
    assert rates(optimizer) == [pytest.approx(formula(1))]


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf])
def test_default_rate_that_is_none_is_refused(lr: float) -> None:
    with pytest.raises(ValueError, match=str(lr)):
        sgd(lr=lr)


def test_group_that_is_no_dictionary_is_refused_by_pytorch() -> None:
    with pytest.raises(TypeError, match="param_group must be a dict"):
        sgd().add_param_group([parameters()[0]])  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"fused": True}])
def test_tensor_rate_is_cloned_for_each_group_and_filled_in_place(options: dict[str, Any]) -> None:
    default, own = torch.tensor(0.1), torch.tensor(0.4)
    first, second = parameters()
    third = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    groups = [{"params": [first]}, {"params": [second], "lr": own}, {"params": [third]}]
    optimizer = ScheduledAdamW(groups, lr=default, schedule=SHAPE, **options)
    tensors = [group["lr"] for group in optimizer.param_groups]

    advance(optimizer, 4)

    assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, tensors, strict=True))
    assert len({id(tensor) for tensor in (default, own, *tensors)}) == 5
    assert (float(default), float(own)) == (pytest.approx(0.1), pytest.approx(0.4))
    assert rates(optimizer) == [pytest.approx(f * formula(4), rel=1e-6) for f in (1, 4, 1)]


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


def test_optimizer_is_freed_without_the_garbage_collector() -> None:
    optimizer = ScheduledAdamW(parameters(), schedule=SHAPE)
    optimizer.step(closure_of(optimizer))  # type: ignore[arg-type]
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    ghost = weakref.ref(optimizer)

    gc.disable()
    try:
        del optimizer
        assert ghost() is None
    finally:
        gc.enable()


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


def test_training_over_the_horizon_warns_of_nothing() -> None:
    optimizer = sgd()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(10):
            optimizer.step(closure_of(optimizer))  # type: ignore[arg-type]

    assert (optimizer.schedule_step, caught) == (10, [])


def test_a_first_step_with_zero_gradients_at_rate_zero_counts_at_once() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = sgd_over([parameter])
    parameter.grad = torch.zeros(3)

    optimizer.step()

    assert rates(optimizer) == [formula(1)]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_adding_a_group_to_a_copy_is_no_change_from_outside(copied: Callable[[ScheduledSGD], ScheduledSGD]) -> None:
    optimizer = copied(sgd())
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.01})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        advance(optimizer, 2)


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


@pytest.mark.parametrize(
    ("group", "peak"),
    [
        ({"lr": 0.2}, 0.2),
        ({"peak_lr": 0.3}, 0.3),
        ({"lr": 0.2, "peak_lr": 0.1}, 0.2),
        # That of another optimizer, at some step of its schedule.
        ({"lr": 0.01, "peak_lr": 0.3, "schedule_step": 7}, 0.3),
        ({}, 0.1),
    ],
)
def test_peak_of_a_group_is_its_own_rate_or_that_of_the_optimizer_it_was_in(group: dict[str, Any], peak: float) -> None:
    optimizer = ScheduledSGD(
        [{"params": [torch.nn.Parameter(torch.ones(2))], **group}],
        schedule=WarmupCosine(peak_lr=0.1, total_steps=10),
    )
    assert (optimizer.param_groups[0]["peak_lr"], optimizer.param_groups[0]["lr"]) == (peak, peak)
    assert optimizer.schedule_step == 0


@pytest.mark.parametrize("keep", [[0], [1], [1, 0], []], ids=str)
def test_groups_taken_away_or_reordered_by_hand_leave_the_others_on_their_schedule(keep: list[int]) -> None:
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    groups = [{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": 0.2}]
    optimizer = ScheduledSGD(groups, schedule=WarmupCosine(peak_lr=0.1, total_steps=10, warmup_steps=5))
    optimizer.step()
    optimizer.param_groups[:] = [optimizer.param_groups[index] for index in keep]
    optimizer.add_param_group({"params": [parameters[2]], "lr": 0.3})
    optimizer.step()
    position = 2 if keep else 1
    peaks = [[0.1, 0.2][index] for index in keep] + [0.3]
    assert [g["schedule_step"] for g in optimizer.param_groups] == [position] * len(peaks)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([peak * position / 5 for peak in peaks])


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
