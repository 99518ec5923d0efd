"""Timing several sides in turn, and the figures that come of it."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Ratio", "Samples", "Side", "Stopwatch", "alternate", "nothing", "wall"]

AT_LEAST = 0.02
"""Seconds that a timing takes at least, so that neither the clock nor a short interruption counts for much."""

RESAMPLES = 1000

Stopwatch = Callable[[Callable[[], object]], float]
"""Runs something, and returns the seconds that it took."""


def wall(run: Callable[[], object]) -> float:
    """How long a call takes until it returns."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def nothing() -> None:
    """What is called where there is nothing to prepare."""


@dataclass(frozen=True)
class Side:
    """One of the things that are timed in turn.

    Attributes:
        name: what it is, for a person to read.
        run: what is timed.
        prepare: called before every call of `run`, outside of the timing.
    """

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] = nothing


@dataclass(frozen=True)
class Samples:
    """One figure for each round, all of the same thing.

    Attributes:
        name: what was measured.
        values: the figures, in the order of the rounds.
    """

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between them lies the middle half of the figures."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        first, _, third = statistics.quantiles(self.values, n=4, method="inclusive")
        return first, third

    def minus(self, other: Samples) -> Samples:
        """The difference in each round."""
        return Samples(self.name, tuple(a - b for a, b in zip(self.values, other.values, strict=True)))

    def scaled(self, factor: float) -> Samples:
        return Samples(self.name, tuple(value * factor for value in self.values))


@dataclass(frozen=True)
class Ratio:
    """How much one thing is of another.

    Attributes:
        value: the ratio of their medians, which a few interrupted rounds can't move far.
        interval: what that ratio is among in 95 of 100 cases, for other rounds of the same kind.
        rounds: the ratio in each round.
    """

    value: float
    interval: tuple[float, float]
    rounds: tuple[float, ...]

    @classmethod
    def of(cls, ours: Samples, theirs: Samples) -> Ratio:
        """The ratio of what was measured in the same rounds.

        The interval is a bootstrap's: rounds are drawn anew from those that there were, both sides of a
        round together, as what slows a round down slows both.
        """
        rounds = list(zip(ours.values, theirs.values, strict=True))
        random_ = random.Random(0)
        drawn = sorted(_ratio_of_medians(random_.choices(rounds, k=len(rounds))) for _ in range(RESAMPLES))
        interval = drawn[round(0.025 * RESAMPLES)], drawn[round(0.975 * RESAMPLES) - 1]
        return cls(_ratio_of_medians(rounds), interval, tuple(a / b for a, b in rounds))


def _ratio_of_medians(rounds: Sequence[tuple[float, float]]) -> float:
    return statistics.median(ours for ours, _ in rounds) / statistics.median(theirs for _, theirs in rounds)


def alternate(
    sides: Sequence[Side],
    rounds: int,
    *,
    warm_up: int = 3,
    at_least: float = AT_LEAST,
    stopwatch: Stopwatch = wall,
) -> list[Samples]:
    """Time several sides in turn: each of them once in every round, in an order that changes.

    A machine is faster at one time and slower at another (its clock, its other work), so that only what
    was measured at the same time compares. Python's garbage collector rests while timing: it would
    charge one side for the other's garbage.

    Args:
        sides: what is timed.
        rounds: number of figures for each.
        warm_up: calls of each side, at least, before anything counts.
        at_least: seconds that a timing is to take; a side is called until they are over, and the figure
            is that of one call.
        stopwatch: times one call.

    Returns:
        Seconds of one call, in each round; in the order of `sides`.
    """
    values: list[list[float]] = [[] for _ in sides]
    gc.collect()
    # What is there now stays: a collection looks at the rest only, which takes no time.
    gc.freeze()
    gc.disable()
    try:
        for side in sides:
            for _ in range(warm_up):
                side.prepare()
                side.run()
            _seconds_of_call(side, at_least, stopwatch)
        for number in range(rounds):
            for index in _order(number, len(sides)):
                gc.collect()
                values[index].append(_seconds_of_call(sides[index], at_least, stopwatch))
    finally:
        gc.enable()
        gc.unfreeze()
    return [Samples(side.name, tuple(own)) for side, own in zip(sides, values, strict=True)]


def _order(number: int, count: int) -> list[int]:
    """Who comes when in a round: everybody is first as often, and before each other side as often as after it."""
    turned = [(number + index) % count for index in range(count)]
    return turned[::-1] if number // count % 2 else turned


def _seconds_of_call(side: Side, at_least: float, stopwatch: Stopwatch) -> float:
    calls, seconds = 0, 0.0
    while not calls or seconds < at_least:
        side.prepare()
        seconds += stopwatch(side.run)
        calls += 1
    return seconds / calls
