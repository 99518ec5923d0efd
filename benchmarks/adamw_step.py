"""Steps of the built-in AdamW, schedule included, against bare AdamW and PyTorch's schedulers."""

from __future__ import annotations

from functools import partial

from benchmarks.measuring import Stopwatch, wall
from benchmarks.optimizers import ADAMW, BY_HAND, FUSED_ADAMW
from benchmarks.row import Row
from benchmarks.sizes import Shape, Sizes
from benchmarks.steps import SMALL, measure_steps

__all__ = ["rows"]

# 48 tensors, 1.6 million parameters: a small transformer's mixture of matrices and vectors.
MIXED: tuple[Shape, ...] = ((256, 256), (256,)) * 24


def rows(sizes: Sizes, *, family: str = "adamw-step", device: str = "cpu", stopwatch: Stopwatch = wall) -> list[Row]:
    """The rows, for each of the two optimizers.

    Built as a configuration builds them, with no choice made of an implementation. The large ones are
    held against a step without any schedule, as the schedule's share in them must be too small to
    see; the small ones against a step and the step of a scheduler, the fastest that does as much.
    """
    measure = partial(measure_steps, device=device, stopwatch=stopwatch)
    found = []
    for key, schedulers in BY_HAND.items():
        fused = [f"{FUSED_ADAMW} + {scheduler}" for scheduler in schedulers]
        loop = [f"{ADAMW} + {scheduler}" for scheduler in schedulers]
        found += [
            Row(
                f"{family}/large/{key}",
                f"{key}: step(), {sizes.large_text}",
                f"{FUSED_ADAMW}.step()",
                partial(measure, [key, FUSED_ADAMW], sizes.large),
                bound=1.03,
            ),
            *(
                Row(
                    f"{family}/{count}-small/{key}",
                    f"{key}: step(), {count:,} small tensors",
                    f"{FUSED_ADAMW} + {' or '.join(schedulers)}",
                    partial(measure, [key, *fused], [SMALL] * count),
                    bound=1.00,
                )
                for count in (4, 1000)
            ),
            Row(
                f"{family}/48-tensors/{key}",
                f"{key}: step(), 1.6 M parameters in {len(MIXED)} tensors",
                f"{ADAMW} + {' or '.join(schedulers)}",
                partial(measure, [key, *loop], MIXED),
                bound=0.35,
            ),
        ]
    return found
