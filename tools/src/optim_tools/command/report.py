"""What a subcommand has to say, and how it is printed: for a person, or as JSON."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Report", "emit", "kept_for_reports", "print_rows", "printable", "report_stream", "warn"]

_stream: ContextVar[TextIO] = ContextVar("_stream", default=sys.stdout)
_UNBROKEN = 10_000
_GAP = 2  # columns between those of a table
_LONG = 30  # the width from which a column is prose, and may be folded
_NARROWEST = 24  # the width that is left of it


class Report(Protocol):
    """The result of a subcommand."""

    @property
    def status(self) -> int:
        """The exit status: 0 fine, 1 problems were found."""

    def document(self) -> Any:
        """The result as what JSON can hold; the field names are a promise to scripts."""

    def render(self, console: Console) -> None:
        """Print the result for a person."""


@contextmanager
def kept_for_reports() -> Iterator[None]:
    """Inside, standard output is for what goes to `report_stream()` alone.

    Whatever else is written to it, by C code and by processes that are started too, goes to
    standard error.
    """
    if sys.__stdout__ is None:
        raise click.ClickException("the output can't be written: standard output is closed")
    sys.__stdout__.flush()
    own = os.dup(1)
    # A character that the terminal can't show is no reason to fail.
    encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"
    stream = open(own, "w", encoding=encoding, errors="replace", closefd=False)  # noqa: SIM115
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            token = _stream.set(stream)
            try:
                yield
                stream.flush()
            finally:
                _stream.reset(token)
    finally:
        os.dup2(own, 1)
        # Nothing is left to be written, but where writing failed; it must not fail again.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), own)
        stream.close()
        os.close(own)


def report_stream() -> TextIO:
    """The standard output that the command was started with."""
    return _stream.get()


def emit(report: Report, as_json: bool) -> None:
    """Print a report.

    Raises:
        BrokenPipeError: who reads it has seen enough.
        click.ClickException: it can't be written.
    """
    try:
        _write(report, as_json, report_stream())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(f"the output can't be written: {error.strerror or error}") from error


def _write(report: Report, as_json: bool, stream: TextIO) -> None:
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
    """Print rows as a table; where the console is too narrow for one, each row over several lines.

    A column without any content is left out. What is short is never folded, as it may be copied;
    what is long is folded, never cut. Columns of the headings in `numeric` stand to the right.
    """
    from rich.padding import Padding  # neither is of use to --json
    from rich.table import Table

    rows = [[printable(cell) for cell in row] for row in rows]
    kept = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    widths = {i: max(len(headings[i]), *(len(row[i]) for row in rows)) for i in kept}
    folded = [i for i in kept if widths[i] > _LONG and i != kept[0]]
    needed = sum((_NARROWEST if i in folded else widths[i]) + _GAP for i in kept) - _GAP
    if needed > console.width:
        for row in rows:
            console.print(row[kept[0]], style="bold", overflow="fold")
            for i in kept[1:]:
                if row[i]:
                    console.print(Padding(f"{headings[i]}: {row[i]}", (0, 0, 0, 2)))
        return
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for i in kept:
        justify: Literal["left", "right"] = "right" if headings[i] in numeric else "left"
        table.add_column(headings[i], overflow="fold", justify=justify, no_wrap=i not in folded)
    for row in rows:
        table.add_row(*(row[i] for i in kept))
    console.print(table)


def printable(text: str) -> str:
    """A stranger's text without what would steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def warn(message: str) -> None:
    """Say something on standard error that is not part of the report."""
    sys.stderr.write(f"optim: warning: {printable(message)}\n")
