"""The command line: `python -m benchmarks`, from the checkout."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks.catalogue import all_rows, chosen
from benchmarks.chart import draw
from benchmarks.machine import this_machine, versions
from benchmarks.report import Run, as_json, table
from benchmarks.row import NotAvailableError, Outcome, Row
from benchmarks.sizes import FULL, QUICK

ROUNDS, QUICK_ROUNDS = 21, 3
JSON, PNG = Path("runs/benchmarks.json"), Path("runs/benchmarks.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write JSON and PNG.

    Returns:
        1 where a row failed, else 0; being beyond a bound is no failure.
    """
    options = _options(arguments)
    sizes = QUICK if options.quick else FULL
    rows = all_rows(sizes)
    try:
        rows = chosen(rows, options.only) if options.only else rows
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(_described(row) for row in rows))
        return 0
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    machine = this_machine()
    if machine.is_busy:
        print(f"the machine has other work (load {machine.load:.1f}): figures will be off", file=sys.stderr)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    outcomes = [_measured(row, rounds, f"{number}/{len(rows)}") for number, row in enumerate(rows, 1)]
    run = Run(started, machine, versions(), rounds, options.quick, outcomes)
    print(table(run))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(as_json(run), indent=1) + "\n", encoding="utf-8")
    draw(run, options.png)
    print(f"\nwritten: {options.json}, {options.png}")
    return int(any(outcome.failed for outcome in outcomes))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=sys.modules["benchmarks"].__doc__)
    parser.add_argument("--list", action="store_true", help="list the rows, measuring nothing")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these rows or families of rows alone")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds, to try whether all runs")
    parser.add_argument("--rounds", type=_positive, help=f"how often each side is measured (default: {ROUNDS})")
    parser.add_argument("--json", type=Path, default=JSON, help=f"where every figure is written (default: {JSON})")
    parser.add_argument("--png", type=Path, default=PNG, help=f"where the picture is written (default: {PNG})")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _described(row: Row) -> str:
    against = f" against {row.against}" if row.against else ""
    unit = "" if row.bounds == "ratio" else " (of the figure itself)"
    bound = "" if row.bound is None else f"; bound {row.bound:g}{unit}"
    return f"{row.name}: {row.what}{against}{bound}"


def _measured(row: Row, rounds: int, progress: str) -> Outcome:
    """Measure a row; a failure is kept, so that it costs no other row its figures."""
    print(f"[{progress}] {row.name}", file=sys.stderr, flush=True)
    try:
        return Outcome(row, row.measure(rounds))
    except NotAvailableError as error:
        return Outcome(row, reason=str(error))
    except Exception as error:
        traceback.print_exc()
        return Outcome(row, reason=f"{type(error).__name__}: {error}", failed=True)


if __name__ == "__main__":
    sys.exit(main())
