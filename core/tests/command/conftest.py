"""The real command, run as a person would: the installed script, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def script() -> Path:
    """The installed command."""
    return Path(sysconfig.get_path("scripts"), "optim")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person or a continuous integration may have set makes no difference."""
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "OPTIM_DISABLE_PLUGINS", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that the command is run in."""
    path = tmp_path / "work"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture
def optim(folder: Path, script: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `optim` with these arguments; it finds the distributions that the test has installed.

    Keywords are environment variables; one that is None is taken out.
    """

    def run(*arguments: object, module: bool = False, **environment: str | None) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "optim_core"] if module else [str(script)]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
        return subprocess.run(
            [*program, *map(str, arguments)],
            cwd=folder,
            env={name: value for name, value in variables.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
