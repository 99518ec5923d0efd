"""The real command, run as a person would: the installed script, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
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
def all_ended() -> Callable[..., bool]:
    """Whether all of these processes end within some seconds."""

    def wait(*pids: int) -> bool:
        deadline = time.monotonic() + 20
        while any(map(_is_running, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return not any(map(_is_running, pids))

    return wait


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    # Killed, but not yet waited for by whoever inherited it.
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.fixture
def in_terminal(folder: Path, script: Path) -> Callable[..., str]:
    """Runs `optim` with "stdout" or "stderr" in a terminal of 80 columns, and gives what is seen there."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on this system")

    def run(stream: str, *arguments: object) -> str:
        main, secondary = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80", "TERM": "xterm"}
        streams = {"stdout": subprocess.DEVNULL, stream: secondary}
        command = [str(script), *map(str, arguments)]
        with subprocess.Popen(command, cwd=folder, env=environment, **streams) as process:
            os.close(secondary)
            seen = b""
            try:
                while block := os.read(main, 4096):
                    seen += block
            except OSError:
                pass  # how a pseudo-terminal ends on Linux
            assert process.wait(60) == 0
        os.close(main)
        return seen.decode()

    return run


@pytest.fixture
def optim(folder: Path, script: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `optim` with these arguments; it finds the distributions that the test has installed.

    Keywords are environment variables; one that is None is taken out.
    """

    def run(*arguments: object, module: bool = False, **environment: str | None) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "optim_tools"] if module else [str(script)]
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
