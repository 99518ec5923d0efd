"""How long the quick answers of the `optim` command take, over a bare interpreter.

Everything runs once in a round, so that a busy machine slows all of it; the differences within a round
are what counts.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import partial
from pathlib import Path

from benchmarks.distributions import many_distributions
from benchmarks.measuring import Side, alternate
from benchmarks.processes import call, with_on_path
from benchmarks.row import Measurement, NotAvailableError, Row
from benchmarks.sizes import Sizes

__all__ = ["rows"]

ANSWERS = {"help": ["--help"], "list": ["list"]}


def rows(sizes: Sizes) -> list[Row]:
    """The rows, two for each answer."""
    found = []
    for name, arguments in ANSWERS.items():
        command = f"optim {' '.join(arguments)}"
        found += [
            Row(
                f"command/{name}",
                f"{command}, over a bare interpreter",
                "",
                partial(_over_bare, arguments),
                bound=0.2,
                bounds="figure",
            ),
            Row(
                f"command/{name}-crowded",
                f"{command}, what {sizes.distributions:,} other distributions on the path add",
                "",
                partial(_with_others, arguments, sizes.distributions),
                bound=0.15,
                bounds="figure",
            ),
        ]
    return found


def _over_bare(arguments: list[str], rounds: int) -> Measurement:
    environment = dict(os.environ)
    sides = [
        Side("over a bare interpreter", partial(call, _command(arguments), environment)),
        Side("bare interpreter", partial(call, [sys.executable, "-c", "pass"], environment)),
    ]
    ours, bare = alternate(sides, rounds, warm_up=1, at_least=0)
    return Measurement(ours.minus(bare), note=f"bare interpreter: {bare.median * 1e3:.0f} ms")


def _with_others(arguments: list[str], count: int, rounds: int) -> Measurement:
    with many_distributions(count, "console_scripts", every=4) as folder:
        sides = [
            Side("added by other distributions", partial(call, _command(arguments), with_on_path(folder))),
            Side("without them", partial(call, _command(arguments), dict(os.environ))),
        ]
        many, few = alternate(sides, rounds, warm_up=1, at_least=0)
    return Measurement(many.minus(few), note=f"without them: {few.median * 1e3:.0f} ms")


def _command(arguments: list[str]) -> list[str]:
    script = Path(sysconfig.get_path("scripts"), "optim")
    if not script.is_file():
        raise NotAvailableError(f"there is no {script}")
    return [str(script), *arguments]
