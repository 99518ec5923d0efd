"""A row of the table: what is measured against what, what came of it, and whether that is within its bound."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.measuring import Ratio, Samples

__all__ = ["Measurement", "NotAvailableError", "Outcome", "Row", "Verdict"]

Verdict = Literal["yes", "spread", "no", ""]
"""Within the bound; above it, but by less than the spread; not within it; there is no bound, or no figure."""


class NotAvailableError(Exception):
    """A row can't be measured here; the message says why."""


@dataclass(frozen=True)
class Measurement:
    """What came of a row.

    Attributes:
        ours: the figures of this project.
        theirs: those of everything that it is held against.
        unit: "s", "bytes", or what is counted.
        note: what else there is to know.
    """

    ours: Samples
    theirs: tuple[Samples, ...] = ()
    unit: str = "s"
    note: str = ""

    @functools.cached_property
    def fastest(self) -> Samples | None:
        """The lowest of the others, which is what counts."""
        return min(self.theirs, key=lambda samples: samples.median, default=None)

    @functools.cached_property
    def ratio(self) -> Ratio | None:
        """Ours over the fastest of the others."""
        return None if self.fastest is None else Ratio.of(self.ours, self.fastest)


@dataclass(frozen=True)
class Row:
    """Something to measure.

    Attributes:
        name: `family/row`, as `--only` takes it.
        what: what of this project is measured.
        against: what it is held against; empty where the figure is only reported.
        measure: measures it in a number of rounds.
        bound: what the ratio may be at most, or None.
        bounds: what the bound is for: the ratio, or the figure itself, in its unit.
    """

    name: str
    what: str
    against: str
    measure: Callable[[int], Measurement] = field(repr=False)
    bound: float | None = None
    bounds: Literal["ratio", "figure"] = "ratio"

    @property
    def family(self) -> str:
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Outcome:
    """A row and its measurement, or the reason why there is none.

    Attributes:
        row: the row.
        measurement: None where it couldn't be measured.
        reason: why it couldn't.
        failed: whether that is a failure, and not just something that this machine hasn't got.
    """

    row: Row
    measurement: Measurement | None = None
    reason: str = ""
    failed: bool = False

    @property
    def status(self) -> str:
        if self.measurement is not None:
            return "measured"
        return "failed" if self.failed else "not available"

    @property
    def verdict(self) -> Verdict:
        """Whether what the row's bound is for is within it, to the three decimals that are shown."""
        if self.measurement is None or self.row.bound is None:
            return ""
        ratio, ours = self.measurement.ratio, self.measurement.ours
        if self.row.bounds == "figure":
            value, lower = ours.median, ours.quartiles[0]
        elif ratio is not None:
            value, lower = ratio.value, ratio.interval[0]
        else:
            return ""
        if round(value, 3) <= self.row.bound:
            return "yes"
        return "spread" if round(lower, 3) <= self.row.bound else "no"
