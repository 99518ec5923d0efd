"""What a subcommand has to say, and how it is printed: for a person, or as JSON."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Report", "emit", "print_rows", "warn"]

_UNBROKEN = 10_000
_NARROWEST_COLUMN = 15


class Report(Protocol):
    """The result of a subcommand."""

    @property
    def status(self) -> int:
        """The exit status: 0 fine, 1 problems were found."""

    def document(self) -> Any:
        """The result as what JSON can hold; the field names are a promise to scripts."""

    def render(self, console: Console) -> None:
        """Print the result for a person."""


def emit(report: Report, as_json: bool) -> None:
    """Print a report on the real standard output, whatever `sys.stdout` is redirected to."""
    stream = sys.__stdout__
    if stream is None:
        raise OSError("standard output is closed")
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        # A character that the terminal can't show is no reason to fail.
        reconfigure(errors="replace")
    if as_json:
        is_unicode = stream.encoding.lower().replace("-", "") == "utf8"
        # No NaN, which JSON has no word for; and nothing replaced in it.
        text = json.dumps(report.document(), indent=2, ensure_ascii=not is_unicode, allow_nan=False)
        stream.write(f"{text}\n")
    elif stream.isatty():
        report.render(_console(stream))
    else:
        # A row is a line for the program that a pipe leads to, without the padding of a table.
        page = io.StringIO()
        report.render(_console(page, None if "COLUMNS" in os.environ else _UNBROKEN))
        stream.write("".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines()))
    stream.flush()


def _console(stream: TextIO, width: int | None = None) -> Console:
    from rich.console import Console  # of no use to --json

    return Console(file=stream, width=width, highlight=False, emoji=False, markup=False)


def print_rows(
    console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]], numeric: Collection[str] = ()
) -> None:
    """Print rows as a table, or one below the other where the console is too narrow for one.

    A column without any content is left out. Cells are folded, never cut; those of the headings in
    `numeric` stand to the right.
    """
    from rich.padding import Padding  # neither is of use to --json either
    from rich.table import Table

    kept = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    if console.width < _NARROWEST_COLUMN * len(kept):
        for row in rows:
            console.print(row[kept[0]], style="bold")
            for i in kept[1:]:
                if row[i]:
                    console.print(Padding(f"{headings[i]}: {row[i]}", (0, 0, 0, 2)))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i in kept:
        table.add_column(headings[i], overflow="fold", justify="right" if headings[i] in numeric else "left")
    for row in rows:
        table.add_row(*(row[i] for i in kept))
    console.print(table)


def warn(message: str) -> None:
    """Say something on standard error that is not part of the report."""
    sys.stderr.write(f"optim: warning: {message}\n")
