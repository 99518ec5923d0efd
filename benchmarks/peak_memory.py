"""The peak memory of a step, temporaries included, against bare fused AdamW's and schedulefree's.

What a step needs at its peak: the parameters, gradients and state that are there before it, and what
the process grows by during it, as the operating system sees it. The first step makes the state; a later
one shows what is temporary. Each in a process of its own, whose allocator hands large pieces back to the
system at once, so that nothing that was freed before hides what is allocated now.
"""

from __future__ import annotations

import ctypes
import json
import re
import resource
import sys
from functools import partial
from pathlib import Path

import torch

from benchmarks.measuring import Samples
from benchmarks.optimizers import (
    FOREACH,
    FUSED_ADAMW,
    ONE_CYCLE,
    SCHEDULE_FREE,
    WARMUP_COSINE,
    parameters_of,
    stepping,
)
from benchmarks.processes import in_own_process
from benchmarks.row import Measurement, NotAvailableError, Row
from benchmarks.sizes import Shape, Sizes
from benchmarks.steps import WARM_UP

__all__ = ["rows"]

MOST_ROUNDS = 3
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
PR_SET_THP_DISABLE = 41
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def rows(sizes: Sizes) -> list[Row]:
    """The rows, for the first step and for a later one."""
    sides = [(WARMUP_COSINE, FUSED_ADAMW, 1.0), (ONE_CYCLE, FUSED_ADAMW, 1.0), (SCHEDULE_FREE, FOREACH, None)]
    return [
        Row(
            f"peak-memory/{step}/{ours.partition(',')[0]}",
            f"{ours}: peak memory, {step} step(), {sizes.large_text}",
            f"{theirs}'s",
            partial(_measure, ours, theirs, step == "first", sizes.large),
            bound=bound,
        )
        for ours, theirs, bound in sides
        for step in ("first", "later")
    ]


def _measure(ours: str, theirs: str, is_first: bool, shapes: tuple[Shape, ...], rounds: int) -> Measurement:
    figures: dict[str, list[dict[str, float]]] = {ours: [], theirs: []}
    for number in range(min(rounds, MOST_ROUNDS)):
        for name in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            arguments = {"name": name, "is_first": is_first, "shapes": shapes}
            found = in_own_process("peak_memory", arguments, ALLOCATOR)
            if "reason" in found:
                raise NotAvailableError(found["reason"])
            figures[name].append(found)
    peaks = [
        Samples(name, tuple(each["tensors"] + each["growth"] for each in found)) for name, found in figures.items()
    ]
    growth = " and ".join(f"{min(each['growth'] for each in found) / 1e6:,.1f} MB" for found in figures.values())
    return Measurement(peaks[0], (peaks[1],), unit="bytes", note=f"the step itself adds {growth}")


def _use_small_pages() -> None:
    """Have memory come in pages of a few kilobytes: of huge ones, a part that is used makes all of it resident."""
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def _status(field: str) -> int:
    """A field of this process's status, in bytes."""
    found = re.search(rf"^{field}:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise NotAvailableError(f"{STATUS} has no {field}")
    return int(found[1]) * 1024


def _reset_peak() -> bool:
    """Have the peak start anew from what is resident now; where that isn't allowed, it is the process's own."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _peak(was_reset: bool) -> int:
    return _status("VmHWM") if was_reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _growth_in_step(name: str, is_first: bool, shapes: list[Shape]) -> dict[str, float]:
    parameters = parameters_of(shapes)
    built = stepping(name, parameters)
    # The threads of PyTorch, which have memory of their own, start with the first work for them.
    torch.ones(1_000_000).exp_()
    if not is_first:
        for _ in range(WARM_UP):
            built.step()
    state = (v for own in built.optimizer.state.values() for v in own.values() if isinstance(v, torch.Tensor))
    gradients = (parameter.grad for parameter in parameters if parameter.grad is not None)
    tensors = sum(tensor.nbytes for tensor in (*parameters, *gradients, *state))
    was_reset = _reset_peak()
    before = _status("VmRSS")
    built.step()
    return {"tensors": tensors, "growth": max(0, _peak(was_reset) - before)}


def main() -> None:
    """The process: what is there before a step, and what the step adds at its peak, in bytes."""
    arguments = json.loads(sys.argv[1])
    shapes = [tuple(shape) for shape in arguments["shapes"]]
    try:
        if not STATUS.is_file():
            raise NotAvailableError(f"there is no {STATUS} to read the peak from")
        _use_small_pages()
        found: dict[str, object] = {**_growth_in_step(arguments["name"], arguments["is_first"], shapes)}
    except NotAvailableError as error:
        found = {"reason": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
