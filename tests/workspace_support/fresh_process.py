"""Runs code of a test module in a process where nothing was made before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["run_alone"]


def run_alone(file: str, program: str) -> None:
    """Run code in a process where nothing was made before; `module` is the test module in this file."""
    path, support = Path(file), Path(__file__).parent
    start = f"import sys; sys.path[:0] = sys.argv[1:]; import {path.stem} as module\n"
    command = [sys.executable, "-c", start + program, str(path.parent), str(support.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
