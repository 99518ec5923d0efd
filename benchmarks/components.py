"""`ComponentOptimizers.step()` of many components, against a loop over the very same optimizers."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.measuring import Side, alternate
from benchmarks.optimizers import PARAMS, WARMUP_COSINE
from benchmarks.row import Measurement, Row
from benchmarks.sizes import Sizes
from optim_core import build_optimizers

__all__ = ["rows"]


def rows(sizes: Sizes) -> list[Row]:
    """The rows, for a few components and for many."""
    return [
        Row(
            f"components/{name}",
            f"ComponentOptimizers.step(), {count:,} components",
            "for optimizer in optimizers: optimizer.step()",
            partial(_measure, count),
            bound=1.00,
        )
        for name, count in (("few", 10), ("many", sizes.components))
    ]


def _measure(count: int, rounds: int) -> Measurement:
    models = {f"component_{number}": torch.nn.Linear(16, 16) for number in range(count)}
    for model in models.values():
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
    configuration = {name: {"type": WARMUP_COSINE, "params": PARAMS[WARMUP_COSINE]} for name in models}
    optimizers = build_optimizers(models, configuration)
    alone = list(optimizers.values())

    def together() -> None:
        optimizers.step()

    def one_by_one() -> None:
        for optimizer in alone:
            optimizer.step()

    sides = [Side("ComponentOptimizers.step()", together), Side("a loop", one_by_one)]
    ours, theirs = alternate(sides, rounds)
    return Measurement(ours, (theirs,))
