"""`ScheduledOptimizer` over several of PyTorch's classes: steps, closures, hooks, copies and the end of a schedule."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from core_support.scheduled_optimizers import (
    SHAPE,
    ScheduledAdamW,
    ScheduledSGD,
    advance,
    closure_of,
    formula,
    parameters,
    rates,
    sgd,
    sgd_over,
)
from optim_core import ScheduledOptimizer, ScheduleWarning, WarmupCosine


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

    def go_on() -> None:
        for _ in range(5):
            optimizer.step()

    with pytest.warns(ScheduleWarning, match=r"past the end of its schedule \(total_steps=10\)") as caught:
        go_on()

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
