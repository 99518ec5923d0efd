"""What is read from the last words of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from optim_tools.inspection.processes import hanging_place, how_it_ended

HANGS = """
import faulthandler, threading, time
faulthandler.dump_traceback_later(1, exit=True)
for _ in range(3):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

def wait():
    time.sleep(60)

wait()
"""
CRASHES = """
import faulthandler, os, signal
faulthandler.enable()
os.kill(os.getpid(), signal.SIGSEGV)
"""


def ended(source: str, folder: Path) -> tuple[int, str]:
    """The status of a process with this source, and what it said."""
    script = folder / "script.py"
    script.write_text(source)
    done = subprocess.run([sys.executable, script], stderr=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, done.stderr


def test_a_process_hangs_where_its_main_thread_does(tmp_path: Path) -> None:
    _, said = ended(HANGS, tmp_path)
    assert hanging_place(said) == f"{tmp_path / 'script.py'}, line 8"


def test_whoever_only_speaks_of_a_timeout_doesn_t_hang() -> None:
    assert hanging_place("Timeout (30 s) waiting for a licence\n") is None


def test_a_crash_is_placed_where_that_is_known(tmp_path: Path) -> None:
    status, said = ended(CRASHES, tmp_path)
    assert how_it_ended(status, said) == f"it crashes Python (SIGSEGV) at {tmp_path / 'script.py'}, line 4"
    assert how_it_ended(status, "") == "it crashes Python (SIGSEGV)"


def test_what_was_said_last_is_quoted() -> None:
    assert how_it_ended(3, "first\nlast\n\n") == "it ends Python with exit status 3; the last it said: last"
    assert how_it_ended(0, "") == "it ends Python with exit status 0"
