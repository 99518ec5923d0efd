"""Examining installed plugins in processes of their own, so that one that crashes or hangs is reported."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from optim_core import FactoryEntry
from optim_tools.inspection import examination
from optim_tools.inspection.processes import Processes, hanging_place, how_it_ended, read_text

__all__ = ["Examination", "examine_all", "examine_torch"]

_GRACE = 10.0  # seconds for a process to start and to end, beside its examination


@dataclass(frozen=True)
class Examination:
    """What importing and checking one plugin came to.

    Attributes:
        entry: what was examined.
        problem: the first thing that is wrong, on one line; None where nothing is.
        description: the first line of the factory's docstring, or nothing.
        schema: the JSON Schema of the factory's params, where it could be imported.
        seconds: how long it took, the start of Python included.
    """

    entry: FactoryEntry
    problem: str | None
    description: str = ""
    schema: Mapping[str, Any] | None = None
    seconds: float = 0.0


def examine_all(entries: Iterable[FactoryEntry], *, timeout: float) -> list[Examination]:
    """Import and check each entry in a process of its own, a few at a time, in the given order.

    Args:
        entries: factories and hooks; disabled ones too, if given.
        timeout: seconds that one may take.
    """
    chosen = list(entries)
    return [
        Examination(
            entry, result["problem"], result.get("description", ""), result.get("schema"), round(result["seconds"], 2)
        )
        for entry, result in zip(chosen, _ask([_request_of(e) for e in chosen], timeout), strict=True)
    ]


def examine_torch(*, timeout: float) -> Mapping[str, Any]:
    """Import PyTorch in a process of its own: its version, and `problem` where it can't be."""
    return _ask([examination.TORCH], timeout)[0]


def _request_of(entry: FactoryEntry) -> list[str]:
    return [entry.group, entry.key, entry.distribution, entry.value]


def _ask(questions: Sequence[Any], timeout: float) -> list[dict[str, Any]]:
    processes = Processes()
    with ThreadPoolExecutor(max_workers=max(2, min(8, os.cpu_count() or 2))) as pool:
        try:
            return list(pool.map(lambda question: _examined(question, timeout, processes), questions))
        except BaseException:
            # Ctrl-C above all: the pool waits for its threads, and those wait for their processes.
            processes.end_all()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _examined(question: Any, timeout: float, processes: Processes) -> dict[str, Any]:
    started = time.perf_counter()
    result = _run(question, timeout, processes)
    return {**result, "seconds": time.perf_counter() - started}


def _run(question: Any, timeout: float, processes: Processes) -> dict[str, Any]:
    work = {"what": question, "timeout": timeout}
    # Files, not pipes: a process that a plugin leaves behind would hold those open.
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        process = processes.start(examination.__name__, work, answer, said)
        if process is None:
            return {"problem": "it was not examined"}
        try:
            status = process.wait(timeout + _GRACE)
        except subprocess.TimeoutExpired:
            return {"problem": f"it was not imported and checked within {timeout:g} s"}
        finally:
            processes.end(process)
        if status == 0:
            return _result(read_text(answer))
        return {"problem": _problem(status, read_text(said), timeout)}


def _result(answer: str) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(answer)
    except ValueError:
        # It ended well, but before it was examined: sys.exit(0) in an extension, os._exit(0).
        return {"problem": how_it_ended(0, "")}
    return result


def _problem(status: int, said: str, timeout: float) -> str:
    place = hanging_place(said)
    if status == 1 and place is not None:
        return f"it was not imported and checked within {timeout:g} s (it hangs at {place})"
    return how_it_ended(status, said)
