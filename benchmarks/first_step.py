"""How long the first step of the fused `schedule_free_radam` takes, which compiles it.

With 1,000 tensors of many shapes: compiling by kind of tensor takes seconds, by tensor minutes. In
processes of their own, as a compiled step stays for as long as the process. With a cold cache, which is
a machine that never compiled it; and with a warm one, which is every later start.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.measuring import Samples, wall
from benchmarks.optimizers import SCHEDULE_FREE, parameters_of, stepping
from benchmarks.processes import in_own_process
from benchmarks.row import Measurement, NotAvailableError, Row
from benchmarks.sizes import Shape, Sizes
from benchmarks.steps import WARM_UP, first_step

__all__ = ["rows"]

TENSORS = 1000
MOST_ROUNDS = 3


def rows(sizes: Sizes) -> list[Row]:
    """The rows; they are reported, and held against nothing."""
    what = f"{SCHEDULE_FREE}: first step(), {TENSORS:,} tensors of many shapes"
    return [
        Row("first-step/cold-cache", f"{what}, cold cache", "", lambda rounds: _measure(rounds, is_cold=True)),
        Row("first-step/warm-cache", f"{what}, warm cache", "", lambda rounds: _measure(rounds, is_cold=False)),
    ]


def _measure(rounds: int, *, is_cold: bool) -> Measurement:
    found = []
    for _ in range(min(rounds, MOST_ROUNDS)):
        with tempfile.TemporaryDirectory() as folder:
            variables = {"TORCHINDUCTOR_CACHE_DIR": folder, "TRITON_CACHE_DIR": folder}
            for _ in range(1 if is_cold else 2):
                figures = in_own_process("first_step", {}, variables)
                if "reason" in figures:
                    raise NotAvailableError(figures["reason"])
        found.append(figures)
    slowest = max(figures["slowest_later"] for figures in found)
    notes = [f"the slowest of {LATER_STEPS} later steps: {slowest * 1e3:.0f} ms", *found[-1]["notes"]]
    return Measurement(Samples(SCHEDULE_FREE, tuple(figures["first"] for figures in found)), note="; ".join(notes))


LATER_STEPS = WARM_UP + 8


def _shapes() -> Iterator[Shape]:
    """Of one dimension to four, hardly any two alike, a few thousand numbers each."""
    for number in itertools.count():
        size = 16 + number % 61
        yield ((size * 40,), (size, 24 + number % 37), (3, size, 12 + number % 19), (size, 8, 3, 3))[number % 4]


def main() -> None:
    """The process: how long the first step takes, and the slowest of some that follow."""
    parameters = parameters_of(list(itertools.islice(_shapes(), TENSORS)))
    try:
        built = stepping(SCHEDULE_FREE, parameters)
    except NotAvailableError as error:
        print(json.dumps({"reason": str(error)}))
        return
    notes: list[str] = []
    first = wall(lambda: notes.extend(first_step(built)))
    later = [wall(built.step) for _ in range(LATER_STEPS)]
    print(json.dumps({"first": first, "slowest_later": max(later), "notes": notes}))


if __name__ == "__main__":
    assert json.loads(sys.argv[1]) == {}
    main()
