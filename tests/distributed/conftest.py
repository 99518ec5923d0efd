"""Runs scenarios in processes that stay alive from test to test: two of one gloo group, and one alone.

A scenario is a function in a module of this folder that is no test module. All processes of a group
run it at the same time, with the same arguments. Starting a process costs seconds, a scenario a
fraction of one.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

LIMIT = 60
"""Seconds after which a process that is still busy with a scenario prints where it is, and exits."""
GRACE = 5
"""Seconds that the others have when one has failed, or to come to their end, before they are killed."""


class ScenarioError(AssertionError):
    """A scenario raised in a process, or the process came to its end; the message has the traceback."""


class Worker:
    """One process, and the thread that passes on what it answers.

    Args:
        arguments: of worker.py.
        log: the file for what the process prints.
        answer: called with each answer, and with None when the process has come to its end.
    """

    def __init__(self, arguments, log, answer):
        self._log = log
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        # The folder that pytest's own `pythonpath` names.
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")])
        )
        if sys.platform == "linux":
            # Otherwise gloo takes the interface that the host's name stands for.
            environment["GLOO_SOCKET_IFNAME"] = "lo"
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("worker.py")), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment,
            )
        self._reader = threading.Thread(target=self._read, args=(answer,), daemon=True)
        self._reader.start()

    def _read(self, answer):
        for line in self._process.stdout:
            answer(json.loads(line))
        answer(None)

    def ask(self, request):
        with contextlib.suppress(BrokenPipeError):  # that the process is gone is an answer, too
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def printed(self):
        return self._log.read_text()

    def kill(self):
        self._process.kill()

    def dismiss(self):
        """Let the process come to its end, as it does when there is nothing more to read."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self):
        """Wait for the end of the process, and kill it if it doesn't come."""
        try:
            self._process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()


class Processes:
    """A group of worker processes, started when it is made, and again when it was killed.

    Args:
        count: how many; one alone has no process group.
        folder: for the file by which they find each other, and for what they print.
    """

    def __init__(self, count, folder):
        self._ranks = range(count)
        self._folder = folder
        self._starts = 0
        self._start()

    def _start(self):
        self._starts += 1
        self._answers = queue.Queue()
        folder = self._folder / f"start-{self._starts}"
        folder.mkdir(parents=True)
        self._workers = [
            Worker(
                [LIMIT, rank, len(self._ranks), folder / "store"],
                folder / f"{rank}.log",
                lambda answer, rank=rank: self._answers.put((rank, answer)),
            )
            for rank in self._ranks
        ]

    def __call__(self, scenario, *arguments):
        """Run the scenario `"module.function"` in all processes.

        Raises:
            ScenarioError: it raised in one of them, or did not come to its end.
        """
        if "fsdp" in arguments and not hasattr(torch.cpu.Stream, "record_event"):
            pytest.skip("this PyTorch's FSDP2 does not run on CPUs")
        if not self._workers:
            self._start()
        for worker in self._workers:
            worker.ask([scenario, *arguments])
        answers = self._gather()
        failures = []
        for rank, worker in enumerate(self._workers):
            if answers.get(rank) is None:
                what = "it came to its end" if rank in answers else "it did not answer, and was killed"
                failures.append(f"in process {rank}: {what}\n{worker.printed()}")
            elif answers[rank]["error"] is not None:
                failures.append(f"in process {rank}: {answers[rank]['error']}")
        if any(answers.get(rank) is None for rank in self._ranks):
            for worker in self._workers:
                worker.kill()
            self.dismiss()
            self.wait()
        if failures:
            raise ScenarioError("\n".join([f"{scenario}{tuple(arguments)}", *failures]))

    def _gather(self):
        # A process that hangs ends itself after LIMIT; the rest is for one that can't even do that.
        deadline = time.monotonic() + LIMIT + GRACE
        answers = {}
        while len(answers) < len(self._ranks):
            try:
                rank, answer = self._answers.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                break
            answers[rank] = answer
            if answer is None or answer["error"] is not None:
                deadline = min(deadline, time.monotonic() + GRACE)
        return answers

    def dismiss(self):
        """Let all processes come to their end."""
        for worker in self._workers:
            worker.dismiss()

    def wait(self):
        """Wait for the end of all processes, or kill them; none is left after it."""
        for worker in self._workers:
            worker.wait()
        self._workers = []


@pytest.fixture(scope="session")
def _processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    groups = []
    try:
        groups += [Processes(2, folder / "two")]
        groups += [Processes(1, folder / "one")]
        yield groups
    finally:
        for group in groups:
            group.dismiss()
        for group in groups:
            group.wait()


@pytest.fixture(scope="session")
def two_processes(_processes):
    """Runs a scenario in two processes of one gloo group."""
    return _processes[0]


@pytest.fixture(scope="session")
def one_process(_processes):
    """Runs a scenario in a process without a process group."""
    return _processes[1]
