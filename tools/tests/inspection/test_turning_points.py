"""Which steps of a long curve are looked at: ends, extremes and corners, without looking at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optim_tools.inspection.turning_points import chosen_steps, first_highest

LONG = 20_000_000


def warmup_cosine(warmup: int, horizon: int) -> Callable[[int], float]:
    def rate(step: int) -> float:
        if step < warmup:
            return step / warmup
        return (1 + math.cos(math.pi * (step - warmup) / (horizon - 1 - warmup))) / 2

    return rate


def test_every_step_of_a_short_horizon_is_chosen() -> None:
    assert chosen_steps(lambda step: [float(step)], 1000) == list(range(1000))


def test_a_smooth_curve_can_be_drawn_from_the_steps() -> None:
    def value(step: int) -> float:
        return math.sin(step / 1e6)

    steps = chosen_steps(lambda step: [value(step)], LONG)

    middles = [(before + after) // 2 for before, after in pairwise(steps)]
    straight = [(value(before) + value(after)) / 2 for before, after in pairwise(steps)]
    assert [value(step) for step in middles] == pytest.approx(straight, abs=2e-3)


@pytest.mark.parametrize("warmup", [1, 2, 3, 100, 1220, 1221, 1222, 99_999, 6_000_001, 19_999_000])
def test_the_end_of_a_warmup_and_both_ends_of_a_long_horizon_are_among_the_steps(warmup: int) -> None:
    rate = warmup_cosine(warmup, LONG)

    steps = chosen_steps(lambda step: [rate(step)], LONG)

    assert {0, warmup, LONG - 1} <= set(steps)
    assert steps == sorted(set(steps))
    assert len(steps) < 1300


@pytest.mark.parametrize("corner", [1_234_567, 10_000_000, 19_999_990])
def test_a_corner_that_is_no_extreme_is_among_the_steps(corner: int) -> None:
    # A rate that falls, and from the corner on twice as fast.
    steps = chosen_steps(lambda step: [-float(step) - max(0, step - corner)], LONG)

    assert corner in steps


@pytest.mark.parametrize("jump", [3, 7_654_321, 12_000_000])
def test_both_sides_of_a_jump_are_among_the_steps(jump: int) -> None:
    steps = chosen_steps(lambda step: [0.1 if step < jump else 0.01], LONG)

    assert {jump - 1, jump} <= set(steps)


def test_the_peak_of_each_of_several_curves_is_among_the_steps() -> None:
    first, second = warmup_cosine(1_000_003, LONG), warmup_cosine(9_000_007, LONG)

    steps = chosen_steps(lambda step: [first(step), -second(step)], LONG)

    assert {1_000_003, 9_000_007} <= set(steps)


def test_nothing_that_sticks_out_is_lost_where_every_step_is_looked_at() -> None:
    spikes = {17_171: 5.0, 60_001: -5.0}

    steps = chosen_steps(lambda step: [spikes.get(step, 1.0)], 100_000, probes=100_000)

    assert spikes.keys() <= set(steps)


def test_a_long_horizon_is_looked_at_in_some_thousand_places() -> None:
    looked_at = []
    rate = warmup_cosine(1000, LONG)

    def values_at(step: int) -> list[float]:
        looked_at.append(step)
        return [rate(step)]

    chosen_steps(values_at, LONG)

    assert len(looked_at) < 80_000


def test_values_that_are_no_numbers_do_no_harm() -> None:
    steps = chosen_steps(lambda step: [math.nan, math.inf if step > 5000 else 1.0], 100_000)

    assert {0, 5000, 5001, 99_999} <= set(steps)


@given(rise=st.integers(0, 5000), flat=st.integers(1, 5000), fall=st.integers(0, 5000), probes=st.integers(8, 300))
def test_the_first_highest_step_is_exact_for_one_peak_or_plateau(rise: int, flat: int, fall: int, probes: int) -> None:
    values = [*range(rise), *[rise] * flat, *range(rise - 1, rise - 1 - fall, -1)]

    assert first_highest(lambda step: float(values[step]), len(values), probes=probes) == rise


@given(st.lists(st.floats(), min_size=1, max_size=50))
def test_the_first_highest_step_of_few_is_exact_for_any_curve(values: list[float]) -> None:
    comparable = [-math.inf if math.isnan(value) else value for value in values]

    assert first_highest(values.__getitem__, len(values)) == comparable.index(max(comparable))


def test_the_highest_step_is_found_on_a_horizon_beyond_any_range() -> None:
    peak, horizon = 2**61 + 12345, 2**63 - 1

    assert first_highest(lambda step: -abs(step - peak), horizon) == peak
