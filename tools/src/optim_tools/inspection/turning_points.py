"""Which steps of a curve to look at: its ends, its extremes and its corners, from coarse to fine.

A horizon may be of millions of steps, far too many to look at all, and a warmup of a hundred of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

__all__ = ["chosen_steps", "first_highest"]

_ALL = 1_000
_PROBES = 2**14
_FINER = 257
_BUCKETS = 200
_CORNERS = 32


def chosen_steps(values_at: Callable[[int], Sequence[float]], horizon: int, *, probes: int = _PROBES) -> list[int]:
    """About a thousand steps at most from which several curves over the same steps can be drawn.

    Args:
        values_at: the values of all curves at a step, always as many.
        horizon: number of steps; those from 0 to `horizon - 1` are chosen from.
        probes: at how many steps to look first; what happens between two of them is found only where
            it is an extreme or a corner of what they show.

    Returns:
        Steps in ascending order: all of a short horizon; of a longer one the first, the last, the
        extremes, the corners, and others spread evenly.
    """
    if horizon <= _ALL:
        return list(range(horizon))
    steps = _spread(0, horizon - 1, probes)
    rows = [values_at(step) for step in steps]
    # Close together at both ends, where a logarithmic axis shows how a curve leaves zero and goes there.
    near = [0, *(2**power for power in range(horizon.bit_length() - 1))]
    chosen = {*near, *(horizon - 1 - step for step in near)}
    for index, values in enumerate(zip(*rows, strict=True)):
        if all(value == values[0] for value in values):
            continue

        def value_at(step: int, index: int = index) -> float:
            return values_at(step)[index]

        chosen.update(_envelope(steps, values))
        found = _corners(value_at, steps, values)
        if len(steps) < horizon:
            found.append(first_highest(value_at, horizon, probes=probes))
            found.append(first_highest(lambda step, at=value_at: -at(step), horizon, probes=probes))  # type: ignore[misc]
        # On both sides, too: at a jump, the corner is one of two steps.
        chosen.update(step for corner in found for step in (corner - 1, corner, corner + 1) if 0 <= step < horizon)
    return sorted(chosen)


def first_highest(value_at: Callable[[int], float], horizon: int, *, probes: int = _PROBES) -> int:
    """The first step at which a curve has its highest value.

    Exact where the curve rises all the way to one peak or plateau and falls from there, and for any
    curve of not more than `probes` steps; else a highest of the peaks that `probes` steps show.
    """

    def comparable(step: int) -> float:
        value = value_at(step)
        return -math.inf if math.isnan(value) else value

    low, high = 0, horizon - 1
    while True:
        steps = _spread(low, high, probes)
        values = [comparable(step) for step in steps]
        best = max(values)
        first, last = values.index(best), len(values) - 1 - values[::-1].index(best)
        if len(steps) == high - low + 1:
            return steps[first]
        before, after = steps[max(first - 1, 0)], steps[min(last + 1, len(steps) - 1)]
        if 2 * (after - before) > high - low:
            return _first_at_least(best, comparable, before, steps[first])
        low, high, probes = before, after, _FINER


def _first_at_least(level: float, value_at: Callable[[int], float], low: int, high: int) -> int:
    """The first step from `low` to `high` where a rising curve reaches a level that it has at `high`."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if value_at(middle) >= level else (middle + 1, high)
    return low


def _spread(low: int, high: int, most: int) -> list[int]:
    """Steps from `low` to `high`: all if they are few, or `most` of them, evenly."""
    if high - low < most:
        return list(range(low, high + 1))
    return [low + (high - low) * index // (most - 1) for index in range(most)]


def _envelope(steps: Sequence[int], values: Sequence[float]) -> list[int]:
    """The lowest and the highest of each stretch, so that nothing that sticks out is lost."""
    size = math.ceil(len(steps) / _BUCKETS)
    chosen = []
    for start in range(0, len(steps), size):
        stretch = range(start, min(start + size, len(steps)))
        chosen += [steps[min(stretch, key=values.__getitem__)], steps[max(stretch, key=values.__getitem__)]]
    return chosen


def _corners(value_at: Callable[[int], float], steps: Sequence[int], values: Sequence[float]) -> list[int]:
    """The steps at which a curve turns most sharply, compared with how it bends elsewhere."""
    bends = _bends(steps, values)
    # A smooth curve bends about as much everywhere; and what rounding makes of a straight one is no bend.
    finite = [abs(value) for value in values if math.isfinite(value)]
    rounding = 1e-12 * max(finite, default=0.0) / (steps[1] - steps[0])
    threshold = max(4 * sorted(bends)[len(bends) // 2], rounding)
    sharp = [
        index
        for index in range(1, len(bends) - 1)
        if bends[index] > threshold and bends[index - 1] <= bends[index] >= bends[index + 1]
    ]
    sharpest = sorted(sharp, key=bends.__getitem__, reverse=True)[:_CORNERS]
    return [_corner(value_at, steps[index - 1], steps[index + 1]) for index in sharpest]


def _corner(value_at: Callable[[int], float], low: int, high: int) -> int:
    """The step between two at which a curve turns most sharply, if it does so at one."""
    while high - low > 2:
        steps = _spread(low, high, 17)
        bends = _bends(steps, [value_at(step) for step in steps])
        sharpest = max(range(1, len(steps) - 1), key=bends.__getitem__)
        low, high = steps[sharpest - 1], steps[sharpest + 1]
    return (low + high) // 2


def _bends(steps: Sequence[int], values: Sequence[float]) -> list[float]:
    """By how much the slope changes at each step; zero at both ends, and where it can't be told."""
    points = zip(steps, values, strict=True)
    slopes = [(b - a) / (after - before) for (before, a), (after, b) in pairwise(points)]
    changes = (abs(right - left) for left, right in pairwise(slopes))
    return [0.0, *(change if math.isfinite(change) else 0.0 for change in changes), 0.0]
