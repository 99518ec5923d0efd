"""Running a stranger's code in processes of their own, and saying how they ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from typing import IO, Any, TextIO

__all__ = ["Processes", "hanging_place", "how_it_ended", "private_output", "read_text"]

_SHOWN = 200  # characters of what a process said last
# The same modules are found as by this process; not by the environment, which what a plugin starts has too.
_START = """
import importlib, json, sys
request = json.loads(sys.argv[1])
sys.path[:] = dict.fromkeys([*request["path"], *sys.path])
importlib.import_module(request["module"]).main(request["work"])
"""
# As faulthandler writes: the innermost call of each thread on top, and the main thread last of all.
_TIMEOUT = re.compile(r"^Timeout \(\d+:\d\d:\d\d", re.MULTILINE)
_THREAD = re.compile(r'^Thread [^\n]*\n  File "(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE)
_CRASH = re.compile(r'^Current thread [^\n]*\n  File "(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE)


class Processes:
    """The processes that run now; none is left behind when all are ended, however that comes about."""

    def __init__(self) -> None:
        # Started and noted at once: one that is started while all are ended would be missed.
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def start(self, module: str, work: Any, output: int | IO[bytes], said: IO[bytes]) -> subprocess.Popen[bytes] | None:
        """Start a process; none any more once all were ended.

        Args:
            module: whose `main` it calls.
            work: what that is given: anything that JSON can hold.
            output: its standard output, as for `subprocess.Popen`.
            said: its standard error. A file, and no pipe, which a process that it leaves behind would hold open.
        """
        request = json.dumps({"module": module, "work": work, "path": sys.path})
        arguments = [sys.executable, "-P", "-c", _START, request]
        with self._lock:
            if self._ended:
                return None
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=said, start_new_session=True
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


def private_output() -> TextIO:
    """The standard output that this process was started with, for its answer alone.

    From here on whatever is printed, by C code too, goes to standard error.
    """
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return output


def read_text(file: IO[bytes]) -> str:
    """All that a process has written into a file."""
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def hanging_place(said: str) -> str | None:
    """Where a process was when its time was over, as `faulthandler.dump_traceback_later` has it; None without that."""
    timeout = _TIMEOUT.search(said)
    threads = [] if timeout is None else list(_THREAD.finditer(said, timeout.end()))
    return f"{threads[-1]['file']}, line {threads[-1]['line']}" if threads else None


def how_it_ended(status: int, said: str) -> str:
    """How a process came to its end, where that was none that it should have; with the place where that is known."""
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        place = _CRASH.search(said)
        where = "" if place is None else f" at {place['file']}, line {place['line']}"
        # What else faulthandler and the like print after a crash is no message.
        return f"it crashes Python ({name}){where}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = f"; the last it said: {lines[-1][:_SHOWN]}" if lines else ""
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
