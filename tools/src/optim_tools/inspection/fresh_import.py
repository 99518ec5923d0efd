"""Importing one entry point in an interpreter that has imported nothing else.

`python -P -m optim_tools.inspection.fresh_import KEY DISTRIBUTION VALUE` writes the problem, or null, as the last
line of standard error; whatever else it prints comes from the plugin.
"""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass

from optim_core import FactoryEntry, OptimError
from optim_core.for_tools import FACTORIES_GROUP, find_entries, in_one_line, load_factory
from optim_tools.inspection.processes import hanging_place, how_it_ended, read_text

__all__ = ["FreshImport", "import_freshly"]

_TIMEOUT = 100.0  # seconds; PyTorch alone can take many where nothing is cached
_SHOWN = 80  # characters of what it prints


@dataclass(frozen=True)
class FreshImport:
    """What came of it.

    Attributes:
        problem: why the factory can't be had, on one line; None where it can.
        printed: the beginning of what the import has printed on standard output.
    """

    problem: str | None
    printed: str = ""


def import_freshly(entry: FactoryEntry) -> FreshImport:
    """Import an installed factory in an interpreter of its own, which finds what the environment has, and no more.

    The modules of a test's folder, or of the folder that a command runs in, are not among that.
    """
    command = [sys.executable, "-P", "-m", __name__, entry.key, entry.distribution, entry.value]
    # Files, not pipes: a process that a plugin leaves behind would hold those open.
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
        # In the process group of this one, so that nothing is left behind if that is ended.
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=printed, stderr=said).returncode
        text = read_text(said)
        shown = " ".join(read_text(printed).split())[:_SHOWN]
    if place := hanging_place(text):
        return FreshImport(f"it hangs at {place}, for more than {_TIMEOUT:g} s", shown)
    try:
        problem = json.loads(text.splitlines()[-1]) if status == 0 else how_it_ended(status, text)
    except (ValueError, IndexError):
        # It ended well, but before it could say anything.
        problem = how_it_ended(status, text)
    return FreshImport(problem, shown)


def _problem(key: str, distribution: str, value: str) -> str | None:
    entries = [
        e for e in find_entries(FACTORIES_GROUP) if (e.key, e.distribution, e.value) == (key, distribution, value)
    ]
    if not entries:
        return f"{distribution} is not installed, and only found on a path that this process has"
    try:
        load_factory(entries[0])
    except OptimError as error:
        cause = error.__cause__ or error
        return f"{in_one_line(cause)}{_place(cause)}"
    return None


def _place(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen ")]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _main() -> None:
    faulthandler.dump_traceback_later(_TIMEOUT, exit=True)
    problem = _problem(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.write(f"\n{json.dumps(problem)}\n")
    sys.stderr.flush()
    # What a plugin has at exit is of no interest here.
    os._exit(0)


if __name__ == "__main__":
    _main()
