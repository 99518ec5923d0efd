"""The picture: the ratio of every row as a bar, with its bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measuring import Ratio, Samples
from benchmarks.report import Run, quantity
from benchmarks.row import Measurement, Outcome

__all__ = ["draw"]

COLOURS = {"yes": "#3a76a8", "spread": "#d9a441", "no": "#c0503f", "": "#7d8794"}
TEXT, MUTED, RULE = "#24292f", "#6a737d", "#d0d7de"
WIDTH, ROW_HEIGHT, DOTS_PER_INCH = 10.0, 0.4, 160
LABELS = 0.53
"""The share of the width that the labels have."""
MOST_DRAWN = 2.0
"""The longest bar: a row far beyond its bound is cut off there, so that it doesn't squeeze all others."""
ROOM = 1.42
"""The width of the axes over the longest bar's, for the text behind it."""


def draw(run: Run, path: Path) -> None:
    """Draw the rows that have a ratio, as a PNG; rows without one are in the table only."""
    charted = [
        (outcome, outcome.measurement, outcome.measurement.ratio)
        for outcome in run.outcomes
        if outcome.measurement is not None and outcome.measurement.ratio is not None
    ]
    caption = run.caption()
    head, foot = 0.8, 0.45 + 0.17 * len(caption)
    height = head + ROW_HEIGHT * max(1, len(charted)) + foot
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 8.5, "text.color": TEXT}):
        figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, facecolor="white")
        axes = figure.add_axes((LABELS, foot / height, 0.985 - LABELS, 1 - (head + foot) / height))
        _frame(axes, charted)
        for position, (outcome, measurement, ratio) in enumerate(charted):
            _bar(axes, position, outcome, measurement, ratio)
        figure.text(0.015, 1 - 0.22 / height, "optim against doing it by hand", size=12, weight="bold", va="center")
        figure.text(
            0.015,
            1 - 0.47 / height,
            "ours over the fastest alternative, less is better; black: bound; whisker: 95 % interval; "
            "amber: over the bound by less than that",
            size=8,
            color=MUTED,
            va="center",
        )
        for number, line in enumerate(reversed(caption)):
            figure.text(0.015, (0.13 + 0.17 * number) / height, line, size=7.5, color=MUTED, va="center")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _frame(axes: Axes, charted: Sequence[tuple[Outcome, Measurement, Ratio]]) -> None:
    highest = max([1.0, *(ratio.value for _, _, ratio in charted), *(o.row.bound or 0 for o, _, _ in charted)])
    limit = min(highest, MOST_DRAWN)
    axes.set_xlim(0, limit * ROOM)
    axes.set_xticks([number / 4 for number in range(math.floor(limit * 4) + 1)])
    axes.set_ylim(max(1, len(charted)) - 0.4, -0.6)
    axes.axvline(1, color=RULE, linewidth=1, zorder=0)
    axes.set_yticks([])
    axes.tick_params(axis="x", colors=MUTED, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)


def _bar(axes: Axes, position: int, outcome: Outcome, measurement: Measurement, ratio: Ratio) -> None:
    limit = axes.get_xlim()[1] / ROOM
    low, high = (min(each, limit) for each in ratio.interval)
    length, bound = min(ratio.value, limit), outcome.row.bound
    axes.barh(position, length, height=0.56, color=COLOURS[outcome.verdict], zorder=2)
    if ratio.value > limit:
        # The bar goes on: a gap says so.
        axes.plot(
            [0.955 * limit, 0.975 * limit], [position + 0.4, position - 0.4], color="white", linewidth=3, zorder=3
        )
    elif high > low:
        axes.plot([low, high], [position, position], color=TEXT, linewidth=1, zorder=3)
    if bound is not None:
        axes.plot([bound, bound], [position - 0.4, position + 0.4], color="black", linewidth=1.8, zorder=4)
    theirs = measurement.fastest
    figures = "" if theirs is None else _figures(measurement.ours, theirs, measurement.unit)
    # Clear of the bound's line, too, where that would run through the text.
    end = max(length, high)
    if bound is not None and end <= bound < end + 0.4 * limit:
        end = bound
    axes.annotate(
        f"{ratio.value:.2f}" if ratio.value < 10 else f"{ratio.value:.1f}",
        (end, position),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        weight="bold",
    )
    axes.annotate(
        figures, (end, position), xytext=(31, 0), textcoords="offset points", va="center", color=MUTED, size=7
    )
    left = -LABELS / (0.985 - LABELS) + 0.033
    across = axes.get_yaxis_transform()
    axes.text(left, position - 0.17, outcome.row.what, transform=across, va="center", size=7.6)
    axes.text(
        left, position + 0.23, f"against {outcome.row.against}", transform=across, va="center", color=MUTED, size=6.8
    )


def _figures(ours: Samples, theirs: Samples, unit: str) -> str:
    return f"{quantity(ours.median, unit)} : {quantity(theirs.median, unit)}"
