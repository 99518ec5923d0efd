"""Examining installed plugins in processes of their own, so that one that crashes or hangs is reported."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

from optim_core.discovery import FactoryEntry
from optim_core.inspection.examination import TORCH

__all__ = ["Examination", "examine_all", "examine_torch"]

_GRACE = 10.0  # seconds for a process to start and to end, beside its examination
_SHOWN = 200  # characters of what a process said last
# The same modules are found as by this process; not by the environment, which what a plugin starts has too.
_START = """
import json, sys
request = json.loads(sys.argv[1])
sys.path[:] = dict.fromkeys([*request["path"], *sys.path])
from optim_core.inspection.examination import main
main(request)
"""
# As faulthandler begins; the first place below is where the process was.
_HANGS = re.compile(r'^Timeout \(\d+:\d\d:\d\d.*?File "(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE | re.DOTALL)


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


class _Processes:
    """The processes that run now; none is left behind when the examination ends, however it ends."""

    def __init__(self) -> None:
        # Started and noted at once: one that is started while all are ended would be missed.
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def start(self, arguments: Sequence[str], answer: IO[bytes], said: IO[bytes]) -> subprocess.Popen[bytes] | None:
        """Start a process; none any more once all were ended."""
        with self._lock:
            if self._ended:
                return None
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=answer, stderr=said, start_new_session=True
            )
            self._running.add(process)
            return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End a process, and whatever it has left running."""
        _kill(process)
        with self._lock:
            self._running.discard(process)

    def end_all(self) -> None:
        """End every process, and start none any more."""
        with self._lock:
            self._ended = True
            for process in self._running:
                _kill(process)


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
    return _ask([TORCH], timeout)[0]


def _request_of(entry: FactoryEntry) -> list[str]:
    return [entry.group, entry.key, entry.distribution, entry.value]


def _ask(questions: Sequence[Any], timeout: float) -> list[dict[str, Any]]:
    processes = _Processes()
    with ThreadPoolExecutor(max_workers=max(2, min(8, os.cpu_count() or 2))) as pool:
        try:
            return list(pool.map(lambda question: _examined(question, timeout, processes), questions))
        except BaseException:
            # Ctrl-C above all: the pool waits for its threads, and those wait for their processes.
            processes.end_all()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _examined(question: Any, timeout: float, processes: _Processes) -> dict[str, Any]:
    started = time.perf_counter()
    result = _run(question, timeout, processes)
    return {**result, "seconds": time.perf_counter() - started}


def _run(question: Any, timeout: float, processes: _Processes) -> dict[str, Any]:
    request = json.dumps({"what": question, "timeout": timeout, "path": sys.path})
    # Files, not pipes: a process that a plugin leaves behind would hold those open.
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        process = processes.start([sys.executable, "-P", "-c", _START, request], answer, said)
        if process is None:
            return {"problem": "it was not examined"}
        try:
            status = process.wait(timeout + _GRACE)
        except subprocess.TimeoutExpired:
            return {"problem": f"it was not imported and checked within {timeout:g} s"}
        finally:
            processes.end(process)
        if status == 0:
            return _result(_read(answer))
        return {"problem": _how_it_ended(status, _read(said), timeout)}


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _result(answer: str) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(answer)
    except ValueError:
        # It ended well, but before it was examined: sys.exit(0) in an extension, os._exit(0).
        return {"problem": "it ends Python with exit status 0"}
    return result


def _how_it_ended(status: int, said: str, timeout: float) -> str:
    place = _HANGS.search(said)
    if status == 1 and place is not None:
        where = f"it hangs at {place['file']}, line {place['line']}"
        return f"it was not imported and checked within {timeout:g} s ({where})"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = f"; the last it said: {lines[-1][:_SHOWN]}" if lines else ""
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        # What faulthandler and the like print after a crash is no message.
        return f"it crashes Python ({name})"
    return f"it ends Python with exit status {status}{last}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and whatever it started; nothing where all of it has ended."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError):
        return
