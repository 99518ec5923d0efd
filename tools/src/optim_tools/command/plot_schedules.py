"""`optim plot`: the learning rates of a configuration, or of one key, drawn."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import Progress

from optim_tools.command.failures import CommandError
from optim_tools.command.labels import count
from optim_tools.command.plot_subject import Subject, subject_of
from optim_tools.command.plugins import quiet_log
from optim_tools.command.rate_axis import Scale
from optim_tools.command.report import Report
from optim_tools.command.terminal_drawing import draw_curves
from optim_tools.inspection.curves import Curve, CurveError, curves_of

__all__ = ["Plot", "plot_schedules"]

_KINDS = (".png", ".svg")


@dataclass(frozen=True)
class Plot:
    """The curves that were plotted.

    Attributes:
        title: the file or the key.
        curves: by component and parameter group.
        scale: as it was asked for.
        output: the picture file that was written, if any.
    """

    title: str
    curves: Sequence[Curve]
    scale: Scale
    output: Path | None

    status: int = 0

    def document(self) -> dict[str, Any]:
        """The points of every curve."""
        return {
            "title": self.title,
            "output": None if self.output is None else str(self.output),
            "curves": [_curve_document(curve) for curve in self.curves],
        }

    def render(self, console: Console) -> None:
        """Draw in the terminal, or say what was written."""
        if self.output is None:
            encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"
            draw_curves(console, self.title, self.curves, scale=self.scale, encoding=encoding)
            return
        components = len({curve.component for curve in self.curves})
        console.print(f"wrote {self.output} ({count(components, 'component')})", soft_wrap=True)
        for curve in self.curves:
            if curve.note:
                console.print(f"note: {curve.component}: {curve.note}", soft_wrap=True)


def plot_schedules(
    target: str, params: tuple[str, ...], *, output: Path | None, steps: int | None, scale: str
) -> Report:
    """Plot the learning rates of a configuration file, or of a key.

    Args:
        target: the file or the key.
        params: the key's parameters, as `name=value`.
        output: a `.png` or `.svg` file to write; None draws in the terminal.
        steps: the horizon, in optimizer updates, in place of each component's own.
        scale: "auto", "linear" or "log".

    Raises:
        CommandError: whatever keeps it from being plotted.
    """
    # Whatever is wrong with the file is to be said before steps are made.
    draw = None if output is None else _drawer(output)
    subject = subject_of(target, params)
    try:
        with quiet_log():
            curves = _curves(subject, steps)
    except CurveError as error:
        raise CommandError(str(error)) from error
    chosen = cast("Scale", scale)
    if output is not None and draw is not None:
        _write(output, draw(subject.title, curves, output.suffix.lower().removeprefix("."), scale=chosen))
    return Plot(subject.title, curves, chosen, output)


def _curves(subject: Subject, steps: int | None) -> list[Curve]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:

        def track(updates: range, component: str) -> Iterator[int]:
            yield from progress.track(updates, description=f"stepping {component}")

        return curves_of(subject.factories, subject.types, subject.params, steps=steps, track=track)


def _drawer(output: Path) -> Callable[..., bytes]:
    """What draws a picture, after a look at whether the file can be written."""
    if output.suffix.lower() not in _KINDS:
        raise CommandError(f"{output}: a picture is a .png or an .svg file", status=2)
    if not output.parent.is_dir():
        raise CommandError(f"{output}: the folder {output.parent} doesn't exist", status=2)
    if output.is_dir():
        raise CommandError(f"{output}: is a folder", status=2)
    if not os.access(output.parent, os.W_OK):
        raise CommandError(f"{output}: the folder {output.parent} can't be written to")
    try:
        import matplotlib  # noqa: F401 - an extra; asked for by itself, so that no other fault passes for its absence
    except ImportError as error:
        raise CommandError(
            f'a picture needs matplotlib ({error}): python -m pip install "optim-tools[plot]"',
            details=["Without --output it is drawn in the terminal"],
        ) from error
    from optim_tools.command.picture import picture  # with matplotlib

    return picture


def _write(output: Path, contents: bytes) -> None:
    """Write a file beside its place and put it there whole, so that an interrupt leaves no half of it."""
    beside = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(contents)
        os.replace(beside, output)
    except OSError as error:
        raise CommandError(f"{output}: can't be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _curve_document(curve: Curve) -> dict[str, Any]:
    return {
        "component": curve.component,
        "type": curve.type,
        "group": curve.group,
        "horizon": curve.horizon,
        "begins_at": curve.begins_at,
        "stepped": curve.stepped,
        "note": curve.note,
        "steps": list(curve.steps),
        "learning_rates": _finite(curve.rates),
        "options": {name: _finite(values) for name, values in curve.options.items()},
    }


def _finite(values: Sequence[float]) -> list[float | None]:
    """Numbers for JSON, which has no infinity and no NaN."""
    return [value if math.isfinite(value) else None for value in values]
