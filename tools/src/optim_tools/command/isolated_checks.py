"""The checks of `optim verify` in a process of their own, and in a new one after each that doesn't survive its check.

The process is `optim_tools.command.verification_worker`. This one imports no plugin, and no torch.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from optim_tools.command.failures import CommandError
from optim_tools.command.plugins import patience
from optim_tools.inspection.processes import Processes, hanging_place, how_it_ended, read_text

__all__ = ["CheckResult", "IsolatedChecks"]

_WORKER = "optim_tools.command.verification_worker"  # a name, since importing it imports torch
_GRACE = 10.0  # seconds for a process to end, beside its check
_LAST_WORDS = 1.0  # seconds between the last word of a process and its end
_SIGKILL = 9  # by its number: not every system has the name

_EXPECTED = "that the check comes to its end"
_CAUSES = {
    "hang": "a loop, a lock or another process is waited for that never ends; or --timeout is too short",
    "crash": "native code is given what it doesn't expect; the traceback above, on standard error, shows by whom",
    "kill": "the system ran out of memory, or somebody ended the process",
    "exit": "the plugin, or what it calls, ends Python (os._exit) where it should raise an exception",
}


@dataclass(frozen=True)
class CheckResult:
    """What came of one check, as its process tells it; see `optim_tools.conformance.Result`.

    Attributes:
        why: why the check matters.
        is_fault: whether something has to be mended.
    """

    identifier: str
    outcome: str
    seconds: float
    reason: str
    seen: str
    expected: str
    cause: str
    why: str
    is_fault: bool


class IsolatedChecks:
    """Checks on one key; a plugin that crashes, ends or hangs Python costs the check in which it does.

    Args:
        key: the registry key.
        params: what its factory is constructed with, as `name=value`; its own example if there are none.
        names: of the checks, or of families of them; all if there are none.
        timeout: seconds that one check may take.
        watch: called with each check that begins, how many are done, and how many there are.

    Attributes:
        subject: what is checked, known with the first result.
    """

    def __init__(
        self,
        key: str,
        params: Sequence[str],
        names: Sequence[str],
        *,
        timeout: float,
        watch: Callable[[str, int, int], None],
    ) -> None:
        self.subject: Mapping[str, Any] = {}
        self._key, self._params, self._names = key, tuple(params), list(names)
        self._timeout = timeout
        self._watch = watch
        self._pending: dict[str, str] | None = None
        self._total = 0

    def results(self) -> Generator[CheckResult]:
        """Carry the checks out; each result is there when its check is done.

        Raises:
            CommandError: nothing can be checked.
        """
        processes = Processes()
        try:
            while self._pending is None or self._pending:
                yield from self._results_of_one_process(processes)
        finally:
            processes.end_all()

    def _results_of_one_process(self, processes: Processes) -> Iterator[CheckResult]:
        names = self._names if self._pending is None else list(self._pending)
        work = {"key": self._key, "params": self._params, "checks": names, "timeout": self._timeout}
        with _Worker(processes, work, self._timeout) as worker:
            messages = worker.messages()
            with patience(f"the plugin of {self._key!r}"):
                first = next(messages, {})
            if self._pending is None:
                self._begin(first, worker)
            began = time.perf_counter()
            for message in messages:
                if "started" in message:
                    began = time.perf_counter()
                    self._watch(message["started"], self._total - len(self._left), self._total)
                else:
                    yield self._done(CheckResult(**message["result"]))
                if not self._left:
                    return
            yield self._done(self._lost(*worker.ending(), time.perf_counter() - began))

    @property
    def _left(self) -> dict[str, str]:
        return self._pending or {}

    def _begin(self, first: Mapping[str, Any], worker: _Worker) -> None:
        """Take note of what is to be checked, as the first process tells it."""
        if "refusal" in first:
            said = first["refusal"]
            error = CommandError(said["message"], details=said["details"], status=said["status"])
            raise error from _ThereError(said["traceback"])
        if "subject" not in first:
            seen, cause = worker.ending()
            raise CommandError(f"the plugin of {self._key!r} can't be verified: {seen}", details=[cause])
        self.subject, self._pending = first["subject"], first["checks"]
        self._total = len(self._left)

    def _done(self, result: CheckResult) -> CheckResult:
        self._left.pop(result.identifier, None)
        return result

    def _lost(self, seen: str, cause: str, seconds: float) -> CheckResult:
        """The result of the check that a process didn't survive; there is always one, so that this comes to an end."""
        identifier, why = next(iter(self._left.items()))
        reason = self.subject["expected_failures"].get(identifier, "")
        outcome = "expected failure" if reason else "failed"
        return CheckResult(identifier, outcome, seconds, reason, seen, _EXPECTED, cause, why, not reason)


class _Worker:
    """One process that carries out checks; ended on the way out."""

    def __init__(self, processes: Processes, work: Mapping[str, Any], timeout: float) -> None:
        self._processes, self._work, self._timeout = processes, work, timeout

    def __enter__(self) -> _Worker:
        self._said = tempfile.TemporaryFile()
        # A pipe, at whose end the process ends as well; no other process inherits it.
        process = self._processes.start(_WORKER, self._work, subprocess.PIPE, self._said)
        assert process is not None  # none is started once all were ended
        self._process = process
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.end(self._process)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS)
        sys.stderr.write(read_text(self._said))
        self._said.close()

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it tells, until it has ended or has been silent for too long."""
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(self._process.stdout, lines), daemon=True).start()
        deadline = time.monotonic() + self._timeout + _GRACE
        while time.monotonic() < deadline:
            try:
                line = lines.get(timeout=_LAST_WORDS)
            except queue.Empty:
                # One that it has forked may hold the pipe open.
                if self._process.poll() is not None:
                    return
                continue
            if line is None or not line.endswith(b"\n"):
                return
            yield json.loads(line)
            deadline = time.monotonic() + self._timeout + _GRACE

    def ending(self) -> tuple[str, str]:
        """How it ended where that was too early, and the likely cause."""
        try:
            status = self._process.wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:
            return f"it hangs, for more than {self._timeout:g} s", _CAUSES["hang"]
        said = read_text(self._said)
        place = hanging_place(said)
        if status == 1 and place is not None:
            return f"it hangs at {place}, for more than {self._timeout:g} s", _CAUSES["hang"]
        cause = "exit" if status >= 0 else "kill" if status == -_SIGKILL else "crash"
        return how_it_ended(status, said), _CAUSES[cause]


class _ThereError(Exception):
    """An error in the other process, with its traceback."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _read_lines(stream: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)
