"""`WarmupCosine` against its formula, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optim_core import InvalidArgumentsError, Schedule, WarmupCosine


def formula(step: int, shape: WarmupCosine) -> float:
    if step >= shape.total_steps - 1:
        return shape.end_lr
    if step < shape.warmup_steps:
        return shape.start_lr + (shape.peak_lr - shape.start_lr) * step / shape.warmup_steps
    progress = (step - shape.warmup_steps) / (shape.total_steps - 1 - shape.warmup_steps)
    return shape.end_lr + (shape.peak_lr - shape.end_lr) * 0.5 * (1 + math.cos(math.pi * progress))


@st.composite
def shapes(draw: st.DrawFn) -> WarmupCosine:
    peak = draw(st.floats(1e-8, 10))
    total = draw(st.integers(1, 1_000_000))
    return WarmupCosine(
        peak_lr=peak,
        total_steps=total,
        warmup_steps=draw(st.integers(0, total - 1)),
        start_lr=draw(st.floats(0, 1)) * peak,
        end_lr=draw(st.floats(0, 1)) * peak,
    )


def rate(schedule: WarmupCosine, step: int) -> float:
    return schedule.options_at(step, schedule.peak_lr)["lr"]


@settings(deadline=None)
@given(shapes(), st.floats(0, 1.2))
@example(WarmupCosine(peak_lr=1, total_steps=1), 0.0)
@example(WarmupCosine(peak_lr=1, total_steps=2, warmup_steps=1), 0.5)
def test_rate_is_the_formula(schedule: WarmupCosine, part: float) -> None:
    step = int(part * schedule.total_steps)

    assert rate(schedule, step) == pytest.approx(formula(step, schedule), rel=1e-9, abs=1e-12 * schedule.peak_lr)


@settings(deadline=None)
@given(shapes(), st.floats(0, 1.2))
def test_rate_stays_between_its_named_values(schedule: WarmupCosine, part: float) -> None:
    value = rate(schedule, int(part * schedule.total_steps))

    lowest = min(schedule.start_lr, schedule.end_lr)
    assert lowest * (1 - 1e-9) <= value <= schedule.peak_lr * (1 + 1e-9)


@settings(deadline=None)
@given(shapes())
@example(WarmupCosine(peak_lr=0.62, total_steps=9, warmup_steps=2, end_lr=0.066))  # the formula rounds at the peak
def test_named_values_are_met_exactly(schedule: WarmupCosine) -> None:
    last = schedule.total_steps - 1

    assert [rate(schedule, step) for step in (last, last + 1, 10**9)] == [schedule.end_lr] * 3
    if schedule.warmup_steps > 0:
        assert rate(schedule, 0) == schedule.start_lr
    if schedule.warmup_steps < last:
        assert rate(schedule, schedule.warmup_steps) == schedule.peak_lr


def test_curve_with_warmup() -> None:
    schedule = WarmupCosine(peak_lr=1.0, total_steps=9, warmup_steps=4, start_lr=0.2, end_lr=0.1)

    assert [rate(schedule, step) for step in range(11)] == pytest.approx(
        [
            0.2,
            0.4,
            0.6,
            0.8,
            1.0,
            0.1 + 0.45 * (1 + math.sqrt(0.5)),
            0.55,
            0.1 + 0.45 * (1 - math.sqrt(0.5)),
            0.1,
            0.1,
            0.1,
        ]
    )


def test_without_warmup_the_first_step_has_the_peak() -> None:
    schedule = WarmupCosine(peak_lr=0.3, total_steps=5, start_lr=0.1)

    assert [rate(schedule, 0), rate(schedule, 2), rate(schedule, 4)] == [0.3, pytest.approx(0.15), 0.0]


def test_warmup_up_to_the_last_step_ends_at_the_end_value() -> None:
    schedule = WarmupCosine(peak_lr=1.0, total_steps=5, warmup_steps=4, end_lr=0.5)

    assert [rate(schedule, step) for step in range(6)] == [0.0, 0.25, 0.5, 0.75, 0.5, 0.5]


def test_horizon_of_one_step_has_only_the_end_value() -> None:
    schedule = WarmupCosine(peak_lr=1.0, total_steps=1, start_lr=0.5, end_lr=0.25)

    assert [rate(schedule, step) for step in (0, 1)] == [0.25, 0.25]


@settings(deadline=None)
@given(shapes(), st.floats(0, 1.2), st.floats(1e-3, 1e3))
def test_another_peak_scales_the_whole_curve(schedule: WarmupCosine, part: float, factor: float) -> None:
    step = int(part * schedule.total_steps)

    scaled = schedule.options_at(step, schedule.peak_lr * factor)["lr"]

    assert scaled == pytest.approx(rate(schedule, step) * factor, rel=1e-9)


def test_peak_of_zero_is_zero_throughout() -> None:
    schedule = WarmupCosine(peak_lr=1.0, total_steps=9, warmup_steps=4, start_lr=0.2, end_lr=0.1)

    assert {schedule.options_at(step, 0.0)["lr"] for step in range(12)} == {0.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"peak_lr": 0.0}, "peak_lr = 0.0: must be greater than 0"),
        ({"peak_lr": -1.0}, "peak_lr = -1.0: must be greater than 0"),
        ({"peak_lr": math.nan}, "peak_lr = nan: must be a finite number"),
        ({"peak_lr": math.inf}, "peak_lr = inf: must be a finite number"),
        ({"peak_lr": "fast"}, "peak_lr = 'fast': must be a valid number"),
        ({"peak_lr": True}, "peak_lr = True: must be a number, not true or false"),
        ({"total_steps": 0}, "total_steps = 0: must be greater than or equal to 1"),
        ({"total_steps": 2.5}, "total_steps = 2.5: must be a valid integer"),
        ({"warmup_steps": -1}, "warmup_steps = -1: must be greater than or equal to 0"),
        ({"warmup_steps": 10}, "warmup_steps = 10: must be less than total_steps (total_steps = 10)"),
        ({"start_lr": -0.1}, "start_lr = -0.1: must be greater than or equal to 0"),
        ({"start_lr": math.nan}, "start_lr = nan: must be a finite number"),
        ({"start_lr": 1.5}, "start_lr = 1.5: must be at most peak_lr (peak_lr = 1.0)"),
        ({"end_lr": -0.1}, "end_lr = -0.1: must be greater than or equal to 0"),
        ({"end_lr": math.inf}, "end_lr = inf: must be a finite number"),
        ({"end_lr": 1.5}, "end_lr = 1.5: must be at most peak_lr (peak_lr = 1.0)"),
    ],
)
def test_refusal_names_argument_value_and_rule(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        WarmupCosine(**{"peak_lr": 1.0, "total_steps": 10, **arguments})


def test_all_broken_rules_are_named_at_once() -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        WarmupCosine(peak_lr=1.0, total_steps=5, warmup_steps=5, start_lr=2.0, end_lr=-1.0)

    assert {problem.path for problem in caught.value.problems} == {"warmup_steps", "start_lr", "end_lr"}


def test_fields_are_frozen_plain_numbers() -> None:
    schedule = WarmupCosine(peak_lr=1, total_steps=5)

    assert [type(value) for value in dataclasses.astuple(schedule)] == [float, int, int, float, float]
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.peak_lr = 2.0  # type: ignore[misc]


def test_is_a_schedule() -> None:
    assert isinstance(WarmupCosine(peak_lr=1, total_steps=5), Schedule)


def test_needs_no_torch() -> None:
    code = (
        "import sys; from optim_core import WarmupCosine; "
        "WarmupCosine(peak_lr=1, total_steps=5).options_at(2, 1.0); "
        "sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
