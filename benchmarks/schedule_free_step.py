"""Steps of the fused `schedule_free_radam`, against schedulefree's own and against fused AdamW."""

from __future__ import annotations

from functools import partial

from benchmarks.measuring import Stopwatch, wall
from benchmarks.optimizers import FOREACH, FUSED_ADAMW, LOOP, SCHEDULE_FREE
from benchmarks.row import Row
from benchmarks.sizes import Sizes
from benchmarks.steps import SMALL, measure_steps

__all__ = ["rows"]


def rows(
    sizes: Sizes, *, family: str = "schedule-free-step", device: str = "cpu", stopwatch: Stopwatch = wall
) -> list[Row]:
    """The rows: one pass over memory against several, as many bytes as AdamW's, and the cost of a call."""
    measure = partial(measure_steps, refresh=True, device=device, stopwatch=stopwatch)
    return [
        Row(
            f"{family}/large",
            f"{SCHEDULE_FREE}: step(), {sizes.large_text}",
            "RAdamScheduleFree, foreach or loop",
            partial(measure, [SCHEDULE_FREE, FOREACH, LOOP], sizes.large),
            bound=0.22,
        ),
        Row(
            f"{family}/large-adamw",
            f"{SCHEDULE_FREE}: step(), {sizes.large_text}",
            f"{FUSED_ADAMW}.step()",
            partial(measure, [SCHEDULE_FREE, FUSED_ADAMW], sizes.large),
            bound=1.10,
        ),
        *(
            Row(
                f"{family}/{count}-small",
                f"{SCHEDULE_FREE}: step(), {count:,} small tensors",
                "RAdamScheduleFree, foreach or loop",
                partial(measure, [SCHEDULE_FREE, FOREACH, LOOP], [SMALL] * count),
                bound=1.00,
            )
            for count in (4, 100, 1000)
        ),
    ]
