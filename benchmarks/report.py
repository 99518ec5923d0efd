"""The table, and the same with every single figure as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.machine import Machine
from benchmarks.measuring import Ratio, Samples
from benchmarks.row import Measurement, Outcome

__all__ = ["Run", "as_json", "quantity", "ratio_text", "table"]

WITHIN = {"yes": "yes", "spread": "within the spread", "no": "no", "": ""}
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass(frozen=True)
class Run:
    """One run of the benchmarks.

    Attributes:
        started: when, in ISO format.
        machine: on what.
        versions: with what.
        rounds: how many, at most; rows that take long have fewer.
        quick: whether the sizes were small ones, that only show that everything runs.
        outcomes: what came of the rows.
    """

    started: str
    machine: Machine
    versions: dict[str, str]
    rounds: int
    quick: bool
    outcomes: Sequence[Outcome]

    def caption(self) -> list[str]:
        """What must be said with any of the figures."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        how = f"medians of up to {self.rounds} alternating rounds, ratios of these with their 95 % intervals"
        lines = [f"{self.machine}; {versions}", f"{self.started[:10]}; {how}"]
        if self.quick:
            lines.append("QUICK: small sizes, few rounds; the figures mean nothing")
        if self.machine.is_busy:
            lines.append(f"BUSY: the machine had other work at the start, a load of {self.machine.load:.1f}")
        return lines


def table(run: Run) -> str:
    """A Markdown table that reads well as plain text too, with notes under it."""
    cells: list[tuple[str, ...]] = [("row", "ours", "theirs", "ratio (95 % interval)", "bound", "within")]
    cells += [_cells(outcome) for outcome in run.outcomes if outcome.measurement is not None]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [_line(row, widths) for row in cells]
    lines.insert(1, "|".join(["", *("-" * (width + 2) for width in widths), ""]))
    notes = [f"- {o.row.name}: {o.measurement.note}" for o in run.outcomes if o.measurement and o.measurement.note]
    notes += _missing(run.outcomes)
    return "\n".join([*lines, "", *notes, *([""] if notes else []), *run.caption()])


def as_json(run: Run) -> dict[str, Any]:
    """Everything that is known of a run, as plain data."""
    return {
        "started": run.started,
        "machine": asdict(run.machine),
        "versions": run.versions,
        "rounds": run.rounds,
        "quick": run.quick,
        "rows": [_row_as_json(outcome) for outcome in run.outcomes],
    }


def quantity(value: float, unit: str) -> str:
    """A figure as a person reads it."""
    if unit == "bytes":
        return f"{value / 1e6:,.2f} MB" if value < 1e8 else f"{value / 1e6:,.0f} MB"
    if unit != "s":
        return f"{value:,.0f} {unit}"
    scale, name = next((each for each in _TIMES if abs(value) >= each[0]), _TIMES[-1])
    return f"{value / scale:.3g} {name}" if abs(value) < 1000 * scale else f"{value / scale:,.0f} {name}"


def ratio_text(ratio: Ratio) -> str:
    """A ratio; with its 95 % interval, where it was measured more than once."""
    low, high = ratio.interval
    return f"{ratio.value:.3f}" + (f" ({low:.3f} to {high:.3f})" if len(ratio.rounds) > 1 else "")


def _line(row: Iterable[str], widths: Iterable[int]) -> str:
    return "|".join(["", *(f" {cell:<{width}} " for cell, width in zip(row, widths, strict=True)), ""])


def _cells(outcome: Outcome) -> tuple[str, ...]:
    row, measurement = outcome.row, outcome.measurement
    assert measurement is not None
    bound = "" if row.bound is None else f"{row.bound:.2f}"
    theirs, ratio = measurement.fastest, measurement.ratio
    return (
        row.name,
        quantity(measurement.ours.median, measurement.unit) + (_spread(measurement) if ratio is None else ""),
        f"{quantity(theirs.median, measurement.unit)} {theirs.name}" if theirs else "",
        ratio_text(ratio) if ratio else "",
        bound if row.bounds == "ratio" or row.bound is None else quantity(row.bound, measurement.unit),
        WITHIN[outcome.verdict],
    )


def _spread(measurement: Measurement) -> str:
    if len(measurement.ours.values) == 1:
        return ""
    first, third = (quantity(value, measurement.unit) for value in measurement.ours.quartiles)
    return f" ({first} to {third})"


def _missing(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each reason why rows have no figures, and for each family of such rows."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for outcome in outcomes:
        if outcome.measurement is None:
            rows.setdefault((outcome.status, outcome.row.family, outcome.reason), []).append(outcome.row.name)
    sizes = Counter(outcome.row.family for outcome in outcomes)
    lines = []
    for (status, family, reason), names in rows.items():
        which = f"{family} (all {len(names)} rows)" if len(names) == sizes[family] else ", ".join(names)
        lines.append(f"- {status}: {which}: {reason}")
    return lines


def _note(outcome: Outcome) -> str:
    return outcome.reason if outcome.measurement is None else outcome.measurement.note


def _row_as_json(outcome: Outcome) -> dict[str, Any]:
    row, measurement = outcome.row, outcome.measurement
    found: dict[str, Any] = {
        "name": row.name,
        "what": row.what,
        "against": row.against,
        "bound": row.bound,
        "bounds": row.bounds,
        "status": outcome.status,
        "within": outcome.verdict or None,
        "note": _note(outcome),
    }
    if measurement is None:
        return found
    ratio = measurement.ratio
    return {
        **found,
        "unit": measurement.unit,
        "ours": _samples_as_json(measurement.ours),
        "theirs": [_samples_as_json(samples) for samples in measurement.theirs],
        "fastest": measurement.fastest.name if measurement.fastest else None,
        "ratio": _ratio_as_json(ratio) if ratio else None,
    }


def _ratio_as_json(ratio: Ratio) -> dict[str, Any]:
    return {"value": ratio.value, "interval": ratio.interval, "values": ratio.rounds}


def _samples_as_json(samples: Samples) -> dict[str, Any]:
    return {
        "name": samples.name,
        "median": samples.median,
        "quartiles": samples.quartiles,
        "values": samples.values,
    }
