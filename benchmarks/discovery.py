"""`import optim_core` and listing many entry points, against the standard library's own listing.

In processes of their own, as everything is cached within one. What a bare interpreter takes to start is
taken off both sides, so that it doesn't hide the difference; the whole processes, which is what a user
waits for, are a row of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

from benchmarks.distributions import many_distributions
from benchmarks.measuring import Samples, Side, alternate
from benchmarks.processes import call, with_on_path
from benchmarks.row import Measurement, Row
from benchmarks.sizes import Sizes

__all__ = ["rows"]

GROUP = "optim.factories"
KEYS = "import optim_core; list(optim_core.OPTIMIZER_BUILDER_REGISTRY)"
ENTRIES = "import optim_core; optim_core.OPTIMIZER_BUILDER_REGISTRY.entries()"
THEIRS = f"from importlib.metadata import entry_points; len(entry_points(group={GROUP!r}))"
LOOK = """
import json, sys, optim_core
found = len(optim_core.OPTIMIZER_BUILDER_REGISTRY.entries())
print(json.dumps([found, sum(name.partition(".")[0] == "torch" for name in sys.modules)]))
"""


def rows(sizes: Sizes) -> list[Row]:
    """The rows; the last holds that torch is no part of it."""
    count = sizes.distributions
    against = f"importlib.metadata.entry_points(group=...), {count:,} distributions"
    listed = {
        "keys": (KEYS, f"import optim_core, list {count:,} keys"),
        "entries": (ENTRIES, "the same, and whose they are"),
    }
    return [
        *(
            Row(
                f"discovery/{name}{suffix}",
                f"{what}, {of}",
                f"{against}, {of}",
                partial(_measure, count, program, whole=whole),
                bound=1.5,
            )
            for name, (program, what) in listed.items()
            for suffix, of, whole in (
                ("", "less the interpreter's start", False),
                ("-process", "the whole process", True),
            )
        ),
        Row(
            "discovery/no-torch",
            f"import optim_core, list {count:,} entry points: modules of torch imported",
            "",
            lambda rounds: _torch_modules(count),
            bound=0,
            bounds="figure",
        ),
    ]


def _measure(count: int, program: str, rounds: int, *, whole: bool) -> Measurement:
    with many_distributions(count, GROUP, every=1) as folder:
        environment = with_on_path(folder)
        programs = {"ours": program, "importlib.metadata": THEIRS, "bare interpreter": "pass"}
        sides = [
            Side(name, partial(call, [sys.executable, "-c", code], environment)) for name, code in programs.items()
        ]
        ours, theirs, bare = alternate(sides, rounds, warm_up=1, at_least=0)
    if whole:
        return Measurement(ours, (theirs,), note=f"bare interpreter: {bare.median * 1e3:.0f} ms")
    return Measurement(ours.minus(bare), (theirs.minus(bare),), note=f"bare interpreter: {bare.median * 1e3:.0f} ms")


def _torch_modules(count: int) -> Measurement:
    with many_distributions(count, GROUP, every=1) as folder:
        output = subprocess.run(
            [sys.executable, "-c", LOOK], env=with_on_path(folder), check=True, stdout=subprocess.PIPE, text=True
        )
    found, modules = json.loads(output.stdout)
    if found < count:
        raise RuntimeError(f"only {found:,} of {count:,} entry points were found")
    return Measurement(Samples("modules of torch", (float(modules),)), unit="modules", note=f"{found:,} entries listed")
