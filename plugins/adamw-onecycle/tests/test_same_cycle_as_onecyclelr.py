"""AdamW on one cycle has the rates, betas and weights of PyTorch's AdamW beside OneCycleLR, also after loading."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR

from optim_adamw_onecycle import AdamWOneCycleFactory, AdamWWithOneCycle
from optim_core import (
    ScheduleWarning,
    StateMismatchError,
    build_optimizers,
)

KEY = "adamw_cosine_schedule"


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(1))


def seen(optimizer: torch.optim.Optimizer) -> list[tuple[Any, ...]]:
    return [(group["lr"], *group["betas"]) for group in optimizer.param_groups]


def curve_of_onecyclelr(steps: int, **arguments: Any) -> list[tuple[Any, ...]]:
    optimizer = torch.optim.AdamW([parameter()])
    scheduler = OneCycleLR(optimizer, **arguments)
    values = seen(optimizer)
    for _ in range(steps - 1):
        optimizer.step()
        scheduler.step()
        values += seen(optimizer)
    return values


def curve(optimizer: torch.optim.Optimizer, steps: int) -> list[tuple[Any, ...]]:
    values = []
    for _ in range(steps):
        values += seen(optimizer)
        optimizer.step()
    return values


def model() -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def update(module: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: int) -> None:
    inputs = torch.linspace(batch, batch + 2, 20).reshape(5, 4).sin()
    optimizer.zero_grad()
    module(inputs).square().mean().backward()
    optimizer.step()


SHAPES = st.fixed_dictionaries(
    {
        "max_lr": st.floats(1e-6, 10),
        "total_steps": st.integers(1, 40),
        "pct_start": st.floats(0, 1) | st.integers(0, 40).map(lambda n: n / 40),
        "anneal_strategy": st.sampled_from(["cos", "linear"]),
        "cycle_momentum": st.booleans(),
        "base_momentum": st.floats(0, 0.999),
        "max_momentum": st.floats(0, 0.999),
        "div_factor": st.floats(0.1, 1e4),
        "final_div_factor": st.floats(0.1, 1e6),
        "three_phase": st.booleans(),
    }
)


@settings(deadline=None)
@given(SHAPES)
@example({"max_lr": 1.0, "total_steps": 10, "pct_start": 0.1})
@example({"max_lr": 1.0, "total_steps": 1, "pct_start": 1.0})
@example({"max_lr": 1.0, "total_steps": 1})
@example({"max_lr": 1.0, "total_steps": 7, "pct_start": 1.0, "three_phase": True})
@example({"max_lr": 1.0, "total_steps": 7, "pct_start": 0.0, "three_phase": True})
def test_rates_and_betas_equal_onecyclelr_over_the_horizon_or_both_refuse(shape: dict[str, Any]) -> None:
    steps = shape["total_steps"]
    try:
        expected = curve_of_onecyclelr(steps, **shape)
    except ZeroDivisionError:
        with pytest.raises(ValueError, match=r"pct_start = .*must not make the rising phase one step long"):
            AdamWWithOneCycle([parameter()], **shape)
        return

    assert curve(AdamWWithOneCycle([parameter()], **shape), steps) == expected


@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("cycle_momentum", [False, True])
@pytest.mark.parametrize(("total_steps", "pct_start"), [(1000, 0.3), (997, 0.123), (1000, 0.6)])
def test_rates_and_betas_equal_onecyclelr_over_a_long_horizon(
    total_steps: int, pct_start: float, cycle_momentum: bool, three_phase: bool, anneal_strategy: str
) -> None:
    shape: dict[str, Any] = {
        "max_lr": 1e-3,
        "total_steps": total_steps,
        "pct_start": pct_start,
        "cycle_momentum": cycle_momentum,
        "three_phase": three_phase,
        "anneal_strategy": anneal_strategy,
    }

    assert curve(AdamWWithOneCycle([parameter()], **shape), total_steps) == curve_of_onecyclelr(total_steps, **shape)


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("options", [{}, {"foreach": True, "amsgrad": True}, {"fused": True}, {"weight_decay": 0.2}])
def test_parameters_are_bit_for_bit_those_of_adamw_beside_onecyclelr(
    three_phase: bool, options: dict[str, Any]
) -> None:
    shape: dict[str, Any] = {"max_lr": 0.05, "total_steps": 12, "three_phase": three_phase}
    ours, theirs = model(), model()
    optimizer = AdamWOneCycleFactory(**shape, **options).build(ours.parameters())
    # What is chosen where nothing is said.
    oracle = torch.optim.AdamW(theirs.parameters(), **({"fused": "foreach" not in options} | options))
    scheduler = OneCycleLR(oracle, **shape)

    for step in range(12):
        update(theirs, oracle, step)
        scheduler.step()
        update(ours, optimizer, step)

        assert all(map(torch.equal, ours.parameters(), theirs.parameters()))
    assert not torch.equal(ours[0].weight, model()[0].weight)


def test_horizon_may_be_epochs_times_steps_per_epoch() -> None:
    expected = curve_of_onecyclelr(12, max_lr=0.1, epochs=3, steps_per_epoch=4)
    optimizer = AdamWWithOneCycle([parameter()], 0.1, epochs=3, steps_per_epoch=4)

    assert optimizer.schedule.total_steps == 12
    assert curve(optimizer, 12) == expected


def test_total_steps_goes_before_epochs() -> None:
    arguments = {"max_lr": 0.1, "total_steps": 10, "epochs": 3, "steps_per_epoch": 4}

    assert curve(AdamWWithOneCycle([parameter()], **arguments), 10) == curve_of_onecyclelr(10, **arguments)


@pytest.mark.parametrize("last_epoch", [0, 4, 8])
def test_last_epoch_goes_on_as_onecyclelr_does(last_epoch: int) -> None:
    arguments = {"max_lr": 0.1, "total_steps": 10}
    earlier = torch.optim.AdamW([parameter()])
    OneCycleLR(earlier, **arguments)
    theirs = torch.optim.AdamW(earlier.param_groups)
    scheduler = OneCycleLR(theirs, **arguments, last_epoch=last_epoch)
    ours = AdamWWithOneCycle([parameter()], **arguments, last_epoch=last_epoch)

    for _ in range(10 - last_epoch - 1):
        assert seen(ours) == seen(theirs)
        theirs.step()
        ours.step()
        if scheduler.last_epoch < 9:
            scheduler.step()
    assert ours.schedule_step == 10


def test_end_value_holds_with_one_warning_where_onecyclelr_overshoots_and_raises() -> None:
    theirs = torch.optim.AdamW([parameter()])
    scheduler = OneCycleLR(theirs, 0.1, 10)
    ours = AdamWWithOneCycle([parameter()], 0.1, 10)
    for _ in range(10):
        theirs.step()
        scheduler.step()
    assert theirs.param_groups[0]["lr"] > 1e-4
    with pytest.raises(ValueError, match="Tried to step 11 times"):
        scheduler.step()

    with pytest.warns(ScheduleWarning, match="past the end") as caught:
        rates = [rate for rate, *_ in curve(ours, 15)]

    assert len(caught) == 1
    assert rates[9:] == [pytest.approx(0.1 / 25 / 1e4)] * 6
    assert ours.param_groups[0]["betas"] == (pytest.approx(0.95), 0.999)


def test_group_with_a_rate_of_its_own_has_that_as_max_lr() -> None:
    groups = [{"params": [parameter()]}, {"params": [parameter()], "lr": 0.03}]
    oracle = torch.optim.AdamW([{"params": [parameter()]}, {"params": [parameter()]}])
    scheduler = OneCycleLR(oracle, [0.1, 0.03], 10)
    optimizer = AdamWWithOneCycle(groups, 0.1, 10)

    for _ in range(9):
        assert seen(optimizer) == seen(oracle)
        oracle.step()
        scheduler.step()
        optimizer.step()
    assert seen(optimizer) == seen(oracle)


@pytest.mark.parametrize("cycle_momentum", [True, False])
def test_betas_of_a_group_are_kept_but_for_the_one_that_cycles(cycle_momentum: bool) -> None:
    first, second = parameter(), parameter()
    groups = [{"params": [first]}, {"params": [second], "betas": (0.5, 0.7)}]
    oracle = torch.optim.AdamW(groups, betas=(0.6, 0.8))
    scheduler = OneCycleLR(oracle, 0.1, 10, cycle_momentum=cycle_momentum)
    optimizer = AdamWWithOneCycle(
        [{"params": [first]}, {"params": [second], "betas": (0.5, 0.7)}],
        0.1,
        10,
        cycle_momentum=cycle_momentum,
        betas=(0.6, 0.8),
    )

    for _ in range(5):
        assert seen(optimizer) == seen(oracle)
        oracle.step()
        scheduler.step()
        optimizer.step()
    assert [group["betas"][1] for group in optimizer.param_groups] == [0.8, 0.7]


def test_late_group_joins_rate_and_momentum_at_the_current_position() -> None:
    optimizer = AdamWWithOneCycle([parameter()], 0.1, 10)
    curve(optimizer, 4)

    optimizer.add_param_group({"params": [parameter()]})

    assert seen(optimizer)[0] == seen(optimizer)[1]


@pytest.mark.parametrize("lr", [1e-3, 0.0])
def test_rate_that_is_not_used_is_logged(lr: float, caplog: pytest.LogCaptureFixture) -> None:
    optimizer = AdamWOneCycleFactory(max_lr=0.1, total_steps=10, lr=lr).build([parameter()])

    assert [record.getMessage() for record in caplog.records] == [
        f"lr={lr:g} is not used: as in PyTorch's OneCycleLR, the cycle starts at max_lr / div_factor = 0.004"
    ]
    assert curve(optimizer, 10) == curve_of_onecyclelr(10, max_lr=0.1, total_steps=10)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_go_on_along_the_cycle(through: Callable[[AdamWWithOneCycle], AdamWWithOneCycle]) -> None:
    optimizer = AdamWWithOneCycle([parameter()], 0.1, 10, three_phase=True)
    curve(optimizer, 4)

    assert curve(through(optimizer), 6) == curve(optimizer, 6)


def test_one_state_dict_restores_optimizer_and_cycle() -> None:
    ours = model()
    optimizer = AdamWWithOneCycle(ours.parameters(), 0.05, 12)
    for step in range(6):
        update(ours, optimizer, step)
    theirs = copy.deepcopy(ours)
    resumed = AdamWWithOneCycle(theirs.parameters(), 0.05, 12)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    for step in range(6, 12):
        assert seen(resumed) == seen(optimizer)
        update(ours, optimizer, step)
        update(theirs, resumed, step)

    assert all(map(torch.equal, theirs.parameters(), ours.parameters()))
    assert optimizer.state_dict()["scheduler"] == {
        "schedule": "OneCycle",
        "step": 12,
        "peak_lr": 0.05,
        "total_steps": 12,
        "pct_start": 0.3,
        "anneal_strategy": "cos",
        "cycle_momentum": True,
        "base_momentum": 0.85,
        "max_momentum": 0.95,
        "div_factor": 25.0,
        "final_div_factor": 1e4,
        "three_phase": False,
    }


def test_state_of_adamw_beside_onecyclelr_continues_its_cycle() -> None:
    oracle = torch.optim.AdamW([parameter()])
    scheduler = OneCycleLR(oracle, 0.1, 10)
    for _ in range(4):
        oracle.step()
        scheduler.step()
    optimizer = AdamWWithOneCycle([parameter()], 0.1, 10)

    with pytest.warns(ScheduleWarning, match="continues from step 4, a torch.optim.lr_scheduler's last_epoch"):
        optimizer.load_state_dict({**oracle.state_dict(), "scheduler": scheduler.state_dict()})

    assert seen(optimizer) == seen(oracle)


def test_momentum_switched_off_on_loading_brings_back_the_constructors_betas() -> None:
    cycling = AdamWWithOneCycle([parameter()], 0.1, 10, betas=(0.8, 0.99))
    curve(cycling, 4)
    optimizer = AdamWWithOneCycle([parameter()], 0.1, 10, betas=(0.8, 0.99), cycle_momentum=False)

    with pytest.warns(ScheduleWarning, match="cycle_momentum is True in the checkpoint and False in the configuration"):
        optimizer.load_state_dict(cycling.state_dict())

    assert optimizer.param_groups[0]["betas"] == (0.8, 0.99)
    optimizer.step()
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.99)
    assert optimizer.param_groups[0]["lr"] == cycling.schedule.options_at(5, 0.1)["lr"]


def test_momentum_switched_on_on_loading_cycles_from_the_position() -> None:
    still = AdamWWithOneCycle([parameter()], 0.1, 10, cycle_momentum=False)
    curve(still, 4)
    optimizer = AdamWWithOneCycle([parameter()], 0.1, 10)

    with pytest.warns(ScheduleWarning, match="cycle_momentum is False in the checkpoint"):
        optimizer.load_state_dict(still.state_dict())

    assert curve(optimizer, 6) == curve_of_onecyclelr(10, max_lr=0.1, total_steps=10)[4:]


def test_momentum_of_the_checkpoint_can_be_taken_over() -> None:
    cycling = AdamWWithOneCycle([parameter()], 0.1, 10)
    curve(cycling, 4)
    optimizer = AdamWWithOneCycle([parameter()], 0.1, 10, cycle_momentum=False, on_mismatch="checkpoint")

    with pytest.warns(ScheduleWarning, match="cycle_momentum is True in the checkpoint"):
        optimizer.load_state_dict(cycling.state_dict())

    assert curve(optimizer, 6) == curve_of_onecyclelr(10, max_lr=0.1, total_steps=10)[4:]


def test_other_cycle_can_be_refused() -> None:
    state = AdamWWithOneCycle([parameter()], 0.1, 10).state_dict()
    optimizer = AdamWWithOneCycle([parameter()], 0.1, 10, three_phase=True, on_mismatch="error")

    with pytest.raises(
        StateMismatchError, match="three_phase is False in the checkpoint and True in the configuration"
    ):
        optimizer.load_state_dict(state)


def test_configuration_with_every_argument_of_onecyclelr_builds() -> None:
    params = {
        "lr": "1e-4",
        "max_lr": 1e-3,
        "total_steps": 100,
        "pct_start": 0.25,
        "anneal_strategy": "linear",
        "cycle_momentum": True,
        "base_momentum": 0.8,
        "max_momentum": 0.9,
        "div_factor": 10,
        "final_div_factor": 100,
        "three_phase": True,
        "last_epoch": -1,
        "betas": [0.9, 0.95],
        "weight_decay": 0.05,
    }
    ours = ("lr", "betas", "weight_decay")

    optimizers = build_optimizers({"head": model()}, {"head": {"type": KEY, "params": params}})

    expected = curve_of_onecyclelr(100, **{name: value for name, value in params.items() if name not in ours})
    assert [(rate, beta1) for rate, beta1, _ in curve(optimizers["head"], 100)] == [(r, b) for r, b, _ in expected]
    assert optimizers["head"].param_groups[0]["betas"][1] == 0.95
