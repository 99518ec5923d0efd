"""Curves as a picture: PNG or SVG, by matplotlib.

Through matplotlib's objects only, as its `pyplot` keeps state for a whole process and may want a screen.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from optim_tools.command.labels import compact_steps, component_names, count, rate_text, shortened, type_names
from optim_tools.command.rate_axis import RateAxis, Scale, rate_axis
from optim_tools.command.report import warn
from optim_tools.inspection.curves import Curve, alike

__all__ = ["picture"]

# Told apart on white by people who see few colours, too; after twelve, the next style of line.
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#a0399b", "#e0a100", "#56b4e9",
    "#8c3b1a", "#4b4b4b", "#e377a2", "#6b8e23", "#332288", "#00a5a5",
)  # fmt: skip
_STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)))
_SETTINGS: dict[Any, Any] = {
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.xmargin": 0.01,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    # The same file each time, and text that can be searched.
    "svg.fonttype": "none",
    "svg.hashsalt": "optim",
    # A name with dollar signs is no formula.
    "text.parse_math": False,
}
_TICKS = (1, 2, 5, 10)
_WIDTH, _PANEL, _MORE = 10.5, 4.6, 1.7  # inches
_FAR_LONGER = 100  # from which the axis of the steps is logarithmic
_UNSHORTENED = 1_000
_LEGEND_COLUMNS = 34
_LEGEND_LINE = 0.135  # inches


def picture(title: str, curves: Sequence[Curve], kind: str, *, scale: Scale = "auto") -> bytes:
    """The contents of a picture file.

    Args:
        title: what the curves are of.
        curves: by component.
        kind: "png" or "svg".
        scale: of the learning rates.
    """
    with matplotlib.rc_context(), warnings.catch_warnings(record=True) as caught:
        # Not the style that somebody has set for their own pictures.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        contents = io.BytesIO()
        figure = _figure(title, curves, rate_axis(curves, scale))
        figure.savefig(contents, format=kind, metadata={"Date": None} if kind == "svg" else None)
    if kind == "png" and any("missing from" in str(warning.message) for warning in caught):
        warn("matplotlib's font lacks some characters of the names; in an .svg they can be seen")
    return contents.getvalue()


def _figure(title: str, curves: Sequence[Curve], axis: RateAxis) -> Figure:
    sets = alike(curves)
    labels = _labels(sets)
    options = sorted({name for curve in curves for name in curve.options})
    lines_of_text = sum(label.count("\n") + 2 for label in labels)
    height = max(_PANEL + _MORE * len(options), lines_of_text * _LEGEND_LINE + 1)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    ratios = [_PANEL, *([_MORE] * len(options))]
    panels = list(figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0])
    handles = []
    for index, same in enumerate(sets):
        look = _look(index, len(sets))
        curve = same[0]
        handles.append(_draw(panels[0], curve.steps, curve.rates, look, axis.low))
        for name, values in curve.options.items():
            _draw(panels[1 + options.index(name)], curve.steps, values, look)
    _shape_rates(panels[0], axis)
    panels[0].set_title(shortened(title, 90), loc="left", fontweight="bold")
    for panel, name in zip(panels[1:], options, strict=True):
        panel.set_ylabel(f"{shortened(name, 24)}\n(dimensionless)")
        panel.yaxis.set_major_locator(MaxNLocator(4, steps=_TICKS))
    _shape_steps(panels[-1], [curve.horizon for curve in curves])
    figure.align_ylabels(panels)
    legend = figure.legend(
        handles, [str(i) for i in range(len(handles))], loc="outside right upper", frameon=False,
        fontsize=8, handlelength=3.2, labelspacing=0.9, alignment="left",
    )  # fmt: skip
    # Set afterwards: matplotlib leaves out what begins with an underscore.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)
    return figure


def _look(index: int, of: int) -> dict[str, Any]:
    # Where two lie on each other, the wider one below can be seen beside and through the other.
    style = _STYLES[(index + index // len(_COLOURS)) % len(_STYLES)]
    width = 1.7 if of == 1 else 2.6 - 1.4 * index / (of - 1)
    return {"color": _COLOURS[index % len(_COLOURS)], "linestyle": style, "linewidth": width}


def _draw(
    panel: Axes, steps: Sequence[int], values: Sequence[float], look: dict[str, Any], low: float = -math.inf
) -> Line2D:
    (line,) = panel.plot(steps, values, solid_capstyle="round", **look)
    # Where it ends: the horizons of components may differ.
    (end,) = panel.plot(steps[-1:], values[-1:], marker="o", markersize=3.5, color=look["color"], linestyle="none")
    # Whole also on the edge; but what has left a logarithmic axis has no place.
    end.set_clip_on(values[-1] < low)
    return line


def _shape_steps(panel: Axes, horizons: Sequence[int]) -> None:
    shortest, longest = min(horizons), max(horizons)
    if longest >= _FAR_LONGER * shortest:
        # Else the short ones would be no more than a line at the left edge.
        panel.set_xscale("symlog", linthresh=max(shortest / 4, 1), linscale=0.5)
        panel.set_xlim(left=0)
        panel.set_xlabel("step (optimizer updates, logarithmic)")
    else:
        panel.set_xlabel("step (optimizer updates)")
        panel.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=_TICKS))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact_steps(value)))
    if longest == 1:
        panel.set_xticks([0])


def _shape_rates(panel: Axes, axis: RateAxis) -> None:
    panel.set_ylabel("learning rate (absolute)")
    if axis.log:
        panel.set_yscale("log", nonpositive="clip")
        panel.set_ylim(axis.low / 1.6, axis.high * 1.6)
        panel.yaxis.set_major_locator(LogLocator(10, numticks=12))
        panel.yaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.05 * (axis.high - axis.low)
        panel.set_ylim(axis.low if axis.low == 0 else axis.low - margin, axis.high + margin)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: rate_text(value, 4)))


def _labels(sets: Sequence[Sequence[Curve]]) -> list[str]:
    names = [", ".join(component_names(same, _LEGEND_COLUMNS)) for same in sets]
    # Names that shortening has made alike are written in full, over several lines.
    return [
        _label(same, name if names.count(name) == 1 else ", ".join(component_names(same, _UNSHORTENED)))
        for same, name in zip(sets, names, strict=True)
    ]


def _label(same: Sequence[Curve], names: str) -> str:
    lines = textwrap.wrap(names, _LEGEND_COLUMNS)
    curve = same[0]
    small = [*type_names(same, _LEGEND_COLUMNS), f"peak {rate_text(curve.peak[1])}, {count(curve.horizon, 'step')}"]
    if curve.note:
        small += textwrap.wrap(curve.note, _LEGEND_COLUMNS)
    return "\n".join([*lines, *(f"  {line}" for line in small)])
