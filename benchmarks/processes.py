"""Measuring in processes of their own, where what was imported, compiled or allocated before would count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["call", "in_own_process", "with_on_path"]

ROOT = Path(__file__).parents[1]


def in_own_process(module: str, arguments: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Any:
    """Run a module of this package in a process of its own, and return what it prints, which is JSON.

    Args:
        module: its name in this package; it reads `arguments` as JSON from its only argument.
        arguments: for it.
        environment: variables beside those of this process.

    Raises:
        subprocess.CalledProcessError: it failed; what it said of it is on the standard error stream.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", json.dumps(arguments)]
    output = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(output.stdout.splitlines()[-1])


def call(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command to its end, and throw away what it prints."""
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def with_on_path(folder: str) -> dict[str, str]:
    """This process's environment, with another folder to import from."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))}
