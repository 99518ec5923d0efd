"""When the axis of learning rates is logarithmic, and where it begins."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from optim_tools.command.rate_axis import rate_axis
from optim_tools.inspection.curves import Curve


def curve(rate: Callable[[int], float], horizon: int = 1000) -> Curve:
    return Curve("net", "kind", horizon, tuple(range(horizon)), tuple(rate(step) for step in range(horizon)))


def cosine(peak: float, end: float = 0.0, last: int = 999) -> Curve:
    """From the peak to the end at step `last`."""
    return curve(lambda step: end + (peak - end) * (1 + math.cos(math.pi * step / last)) / 2)


CONSTANT = curve(lambda step: 0.1)
ZERO = curve(lambda step: 0.0)
NO_RATE = curve(lambda step: math.nan)


@pytest.mark.parametrize(
    "curves",
    [
        [CONSTANT],
        [ZERO],
        [NO_RATE],
        [cosine(0.1)],
        [cosine(0.1, end=0.002)],
        [cosine(0.1), cosine(0.011)],
        [curve(lambda step: step / 1000)],
        # As most libraries have them: one step from zero, and zero one step after the last.
        [curve(lambda step: (step + 1) / 1000)],
        [curve(lambda step: (1000 - step) / 1000)],
        [cosine(0.1, last=1000)],
    ],
)
def test_rates_that_do_not_span_decades_are_on_a_linear_axis_from_zero(curves: list[Curve]) -> None:
    axis = rate_axis(curves, "auto")

    assert not axis.log
    assert axis.low == 0


@pytest.mark.parametrize(
    "curves",
    [
        [cosine(0.1, end=0.001)],
        [curve(lambda step: 0.99**step)],
        [curve(lambda step: max(1e-4, min(1.0, step / 100)))],
        [cosine(0.1), cosine(0.01)],
        [CONSTANT, curve(lambda step: 0.001)],
    ],
)
def test_rates_that_span_decades_are_on_a_logarithmic_axis(curves: list[Curve]) -> None:
    assert rate_axis(curves, "auto").log


@pytest.mark.parametrize("curves", [[CONSTANT], [cosine(0.1)], [cosine(0.1, end=1e-6), cosine(1e-5)]])
def test_a_scale_that_is_asked_for_holds(curves: list[Curve]) -> None:
    assert rate_axis(curves, "log").log
    assert not rate_axis(curves, "linear").log


@pytest.mark.parametrize("curves", [[ZERO], [NO_RATE]])
def test_rates_that_no_logarithmic_axis_can_show_are_on_a_linear_one(curves: list[Curve]) -> None:
    assert not rate_axis(curves, "log").log


def test_a_logarithmic_axis_begins_at_the_lowest_named_rate() -> None:
    axis = rate_axis([cosine(0.1, end=1e-6)], "auto")

    assert axis.low == pytest.approx(1e-6)
    assert axis.high == 0.1


def test_a_curve_that_goes_to_zero_is_followed_for_three_decades() -> None:
    axis = rate_axis([cosine(0.1), cosine(0.01)], "auto")

    assert axis.low == pytest.approx(1e-5)


def test_places_on_the_axis_go_from_zero_to_one() -> None:
    linear, log = rate_axis([cosine(0.5)], "linear"), rate_axis([cosine(1.0, end=1e-4)], "log")

    assert [linear.fraction(rate) for rate in (0.0, 0.25, 0.5)] == [0, 0.5, 1]
    assert [log.fraction(rate) for rate in (1e-4, 1e-2, 1.0)] == pytest.approx([0, 0.5, 1])
    assert log.fraction(0.0) < 0


def test_negative_rates_are_on_the_axis() -> None:
    axis = rate_axis([curve(lambda step: step / 100 - 1)], "auto")

    assert (axis.log, axis.low) == (False, -1)
