"""How long the quick answers of the `optim` command take, over a bare interpreter.

Run it with the Python that optim-core is installed for: `python benchmarks/command_start.py`. Each
round runs everything once, in turn, so that a busy machine slows all of it; the medians of the
differences within a round are what counts. The bounds: 200 ms over a bare interpreter, and 150 ms
more with a thousand other distributions on the path.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

DISTRIBUTIONS = 1000
DESCRIPTION = "A line of a long description, as distributions have it in their metadata.\n" * 200


def install_distributions(folder: Path, count: int) -> None:
    """Put `count` distributions into `folder`, every fourth with entry points of some kind."""
    for number in range(count):
        info = folder / f"distribution_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: distribution-{number}\nVersion: 1.0\nSummary: One of many\n\n{DESCRIPTION}"
        )
        (info / "RECORD").write_text(f"distribution_{number}/__init__.py,,\n")
        if number % 4 == 0:
            (info / "entry_points.txt").write_text(f"[console_scripts]\nscript-{number} = distribution_{number}:main\n")


def seconds_of(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """How long a command takes, from start to end."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often everything is run (default: 20)")
    rounds = parser.parse_args().rounds
    optim = str(Path(sysconfig.get_path("scripts"), "optim"))
    bare = [sys.executable, "-c", "pass"]
    answers = {"optim --help": [optim, "--help"], "optim list": [optim, "list"]}
    with tempfile.TemporaryDirectory() as folder:
        install_distributions(Path(folder), DISTRIBUTIONS)
        few = dict(os.environ)
        many = {**few, "PYTHONPATH": os.pathsep.join(filter(None, (folder, few.get("PYTHONPATH"))))}
        over: dict[str, list[float]] = {name: [] for name in answers}
        more: dict[str, list[float]] = {name: [] for name in answers}
        bare_seconds = []
        for round_number in range(rounds + 1):
            base = seconds_of(bare, few)
            for name, command in answers.items():
                with_few, with_many = seconds_of(command, few), seconds_of(command, many)
                if round_number:  # the first only warms up
                    over[name].append(with_few - base)
                    more[name].append(with_many - with_few)
            bare_seconds.append(base)
    print(f"bare interpreter: {statistics.median(bare_seconds[1:]) * 1e3:.0f} ms")
    for name in answers:
        print(
            f"{name}: {statistics.median(over[name]) * 1e3:.0f} ms over it; with {DISTRIBUTIONS:,} other "
            f"distributions {statistics.median(more[name]) * 1e3:.0f} ms more"
        )


if __name__ == "__main__":
    main()
