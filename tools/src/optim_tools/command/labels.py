"""Numbers and names as the drawings of `optim plot` write them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from optim_tools.inspection.curves import Curve

__all__ = ["compact_steps", "component_names", "count", "rate_text", "shortened", "type_names"]


def rate_text(value: float, digits: int = 3) -> str:
    """A rate in as few characters as can be: 0.05, 1e-4, 3.33e-5."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 0.01 <= abs(value) < 10_000:
        return f"{value:.{digits}g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"


def compact_steps(step: float) -> str:
    """A number of steps for an axis: 500, 1,500, 50k, 2.5M."""
    for unit, sign in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(step) >= unit and (unit > 10**3 or abs(step) >= 10**4):
            return f"{round(step / unit, 6):,g}{sign}"
    return f"{round(step, 6):,g}"


def count(number: int, what: str) -> str:
    """A number of things: 1 step, 2,000 steps."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def shortened(text: str, width: int, ellipsis: str = "…") -> str:
    """A name in at most `width` columns, cut in the middle, where names differ least."""
    # Nothing that moves a terminal's cursor, or that isn't allowed in an SVG.
    shown = "".join(character if character.isprintable() else "?" for character in text)
    if cell_len(shown) <= width:
        return shown
    room = max(width - cell_len(ellipsis), 2)
    tail = set_cell_size(shown[::-1], room // 2)[::-1]
    return set_cell_size(shown, room - room // 2) + ellipsis + tail


def component_names(curves: Sequence[Curve], width: int, ellipsis: str = "…") -> list[str]:
    """The names of the components of curves that can't be told apart, each in at most `width` columns."""
    groups = ["" if curve.group is None else f" (group {curve.group})" for curve in curves]
    return [
        shortened(curve.component, width - len(group), ellipsis) + group
        for curve, group in zip(curves, groups, strict=True)
    ]


def type_names(curves: Sequence[Curve], width: int, ellipsis: str = "…") -> list[str]:
    """The types of these components, each once; none where a component is called like its type."""
    types = dict.fromkeys(curve.type for curve in curves)
    if [curve.component for curve in curves] == list(types):
        return []
    return [shortened(name, width, ellipsis) for name in types]
