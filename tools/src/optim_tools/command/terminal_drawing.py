"""Curves in a terminal: a small strip for each component, readable without any colour.

Drawn by hand, as the libraries that plot in terminals tell curves apart by colour alone, or change
their interfaces from release to release.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from optim_tools.command.canvas import ASCII, BRAILLE, drawn_lines
from optim_tools.command.labels import component_names, count, rate_text, shortened, type_names
from optim_tools.command.rate_axis import RateAxis, Scale, rate_axis
from optim_tools.inspection.curves import Curve, alike

__all__ = ["draw_curves"]

_RATE_ROWS, _OPTION_ROWS = 4, 2
_NARROWEST, _WIDEST, _UNKNOWN_WIDTH = 40, 160, 100


def draw_curves(
    console: Console, title: str, curves: Sequence[Curve], *, scale: Scale = "auto", encoding: str = "utf-8"
) -> None:
    """Print a strip for each set of curves that can't be told apart, and one below for what moves with it.

    Args:
        console: where to print; its width is respected from 40 columns up.
        title: what the curves are of.
        curves: by component.
        scale: of the learning rates.
        encoding: of the stream that the output ends up in. One that has no braille gets ASCII.
    """
    # A pipe has no width; there, it would be a very long line.
    width = _UNKNOWN_WIDTH if console.width > 1000 else max(min(console.width, _WIDEST), _NARROWEST)
    drawing = _Drawing(console, width, encoding)
    if [curve.component for curve in curves] != [title]:
        drawing.wrapped(title, "bold")
    drawing.wrapped("learning rate (absolute) by step (optimizer updates)", "dim")
    for same in alike(curves):
        drawing.say("")
        drawing.component(same, rate_axis(same, scale))


class _Drawing:
    """Prints in a certain width, and only what the encoding has."""

    def __init__(self, console: Console, width: int, encoding: str) -> None:
        self.console = console
        self.width = width
        self.encoding = encoding
        self.braille = self.encodable("⣿┤│…") == "⣿┤│…"
        self.ellipsis = "…" if self.braille else "..."

    def encodable(self, text: str) -> str:
        return text.encode(self.encoding, "replace").decode(self.encoding)

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print a line of texts, each of them plain or with its style."""
        styled = [(part, "") if isinstance(part, str) else part for part in parts]
        self.console.print(Text.assemble(*((self.encodable(text), style) for text, style in styled)), soft_wrap=True)

    def wrapped(self, text: str, style: str = "") -> None:
        for line in textwrap.wrap(text, self.width, subsequent_indent="  "):
            self.say((shortened(line, self.width, self.ellipsis), style))

    def component(self, same: Sequence[Curve], axis: RateAxis) -> None:
        curve = same[0]
        names = ", ".join(component_names(same, self.width, self.ellipsis))
        types = ", ".join(type_names(same, self.width, self.ellipsis))
        if types and cell_len(names) + cell_len(types) + 2 <= self.width:
            self.say((names, "bold"), "  ", (types, "dim"))
        else:
            self.wrapped(names, "bold")
            self.wrapped(types, "dim")
        scale = ", log scale" if axis.log else ""
        self.wrapped(f"{_course(curve)}; {count(curve.horizon, 'step')}{scale}")
        if curve.note:
            self.wrapped(f"note: {curve.note}")
        labels = (rate_text(axis.high), rate_text(axis.low))
        self.strip(curve.steps, curve.rates, axis.fraction, labels, _RATE_ROWS)
        for name, values in curve.options.items():
            low, high = min(values), max(values)
            self.say(f"{shortened(name, self.width // 2, self.ellipsis)} from {rate_text(low)} to {rate_text(high)}")
            self.strip(
                curve.steps,
                values,
                lambda value, low=low, high=high: (value - low) / (high - low),  # type: ignore[misc]
                (rate_text(high), rate_text(low)),
                _OPTION_ROWS,
            )

    def strip(
        self,
        steps: Sequence[int],
        values: Sequence[float],
        fraction: Callable[[float], float],
        labels: tuple[str, str],
        rows: int,
    ) -> None:
        margin = 9
        columns = self.width - margin - 2
        span = max(steps[-1], 1)
        points = [(step / span, fraction(value)) for step, value in zip(steps, values, strict=True)]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        lines = drawn_lines(points, columns, rows, BRAILLE if self.braille else ASCII)
        tick, bar = ("┤", "│") if self.braille else ("+", "|")
        for row, line in enumerate(lines):
            label = labels[0] if row == 0 else labels[1] if row == rows - 1 else ""
            self.say(f"{label:>{margin}} {tick if label else bar}", (line.rstrip(), "cyan"))
        end = f"{steps[-1]:,}" if steps[-1] else ""
        self.say((" " * (margin + 2) + "0" + end.rjust(columns - 1), "dim"))


def _course(curve: Curve) -> str:
    first, last = (rate_text(rate) for rate in (curve.rates[0], curve.rates[-1]))
    step, peak = curve.peak
    if len(set(curve.rates)) == 1:
        return f"constant {first}"
    return f"first {first}, peak {rate_text(peak)} at step {step:,}, last {last}"
