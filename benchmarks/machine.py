"""On what, and with what, something was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Machine", "this_machine", "versions"]

MOST_LOAD = 0.5


@dataclass(frozen=True)
class Machine:
    """A machine, as far as it matters to a figure.

    Attributes:
        processor: the model of its processor.
        cores: how many of its cores this process may use.
        threads: how many of them PyTorch uses for an operation.
        gpu: the name of its GPU, or None.
        load: how many processes wanted to run, on average, in the minute before; None where that
            isn't known.
    """

    processor: str
    cores: int
    threads: int
    gpu: str | None
    load: float | None

    @property
    def is_busy(self) -> bool:
        """Whether it had other work, enough to be seen in the figures."""
        return self.load is not None and self.load > MOST_LOAD

    def __str__(self) -> str:
        cores, threads = _counted(self.cores, "core"), _counted(self.threads, "thread")
        return f"{self.processor}, {cores}, {threads}, {self.gpu or 'no GPU'}"


def this_machine() -> Machine:
    """The machine that this runs on."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def versions() -> dict[str, str]:
    """The versions of everything that has a share in the figures."""
    return {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "schedulefree": importlib.metadata.version("schedulefree"),
        "optim-core": importlib.metadata.version("optim-core"),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.is_file() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
