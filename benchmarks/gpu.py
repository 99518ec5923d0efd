"""The steps on a GPU: the table of the processor's rows again, and what only a GPU has.

A GPU works while Python goes on, so there are three times to a step: until the call returns, which is
what it costs the processor; until the GPU is done, which is what a loop with nothing else to do waits
for; and the GPU's own, by its events, which is what matters once the processor is ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks import adamw_step, schedule_free_step
from benchmarks.measuring import Side, alternate, wall
from benchmarks.optimizers import (
    BY_HAND,
    FUSED_ADAMW,
    ONE_CYCLE,
    PEAK_LR,
    SCHEDULE_FREE,
    WARMUP_COSINE,
    parameters_of,
    stepping,
)
from benchmarks.row import Measurement, NotAvailableError, Row
from benchmarks.sizes import Shape, Sizes
from benchmarks.steps import SMALL, first_step, measure_steps

__all__ = ["rows"]

DEVICE = "cuda"
# Parameter, gradient and two of state are read; the parameter and the two of state are written.
PASSES = 7
CALLS_IN_A_ROW = 20


def until_returned(run: Callable[[], object]) -> float:
    """How long a call takes to return, with the GPU idle at its start."""
    torch.cuda.synchronize()
    return wall(run)


def until_done(run: Callable[[], object]) -> float:
    """How long a call takes until the GPU is done with it."""

    def run_and_wait() -> None:
        run()
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return wall(run_and_wait)


def on_device(run: Callable[[], object]) -> float:
    """How long the GPU takes for what a call gives it to do.

    Of several calls in a row: the GPU waits for the first to be given to it, and for no other.
    """
    started, ended = _event(), _event()
    torch.cuda.synchronize()
    started.record()
    for _ in range(CALLS_IN_A_ROW):
        run()
    ended.record()
    torch.cuda.synchronize()
    seconds: float = started.elapsed_time(ended) / 1e3
    return seconds / CALLS_IN_A_ROW


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def rows(sizes: Sizes) -> list[Row]:
    """The rows; without a GPU they say so instead of being measured."""
    many = 1000
    found = [
        *adamw_step.rows(sizes, family="gpu/adamw-step", device=DEVICE, stopwatch=until_done),
        *schedule_free_step.rows(sizes, family="gpu/schedule-free-step", device=DEVICE, stopwatch=until_done),
    ]
    for name in (WARMUP_COSINE, ONE_CYCLE, SCHEDULE_FREE):
        found.append(
            Row(
                f"gpu/memory-limit/{name.partition(',')[0]}",
                f"{name}: step(), {sizes.large_text}",
                f"copying as many bytes ({PASSES} passes) from device to device",
                partial(_against_copy, name, sizes.large),
            )
        )
    for key, schedulers in BY_HAND.items():
        fused = [f"{FUSED_ADAMW} + {scheduler}" for scheduler in schedulers]
        found.append(
            Row(
                f"gpu/overhead/{key}",
                f"{key}: step() until it returns, {many:,} small tensors",
                f"{FUSED_ADAMW} + {' or '.join(schedulers)}",
                partial(measure_steps, [key, *fused], [SMALL] * many, device=DEVICE, stopwatch=until_returned),
                bound=1.00,
            )
        )
        found += [
            Row(
                f"gpu/graph/{name}/{key}",
                f"{key}: step() from a graph, {text}",
                "AdamW(fused=True, capturable=True)'s, without any schedule",
                partial(_graphs, key, shapes),
            )
            for name, text, shapes in (
                ("large", sizes.large_text, sizes.large),
                ("1000-small", f"{many:,} small tensors", [SMALL] * many),
            )
        ]
    return [replace(row, what=f"GPU: {row.what}", measure=partial(_with_gpu, row.measure)) for row in found]


def _with_gpu(measure: Callable[[int], Measurement], rounds: int) -> Measurement:
    if not torch.cuda.is_available():
        raise NotAvailableError("there is no GPU (torch.cuda.is_available() is false)")
    try:
        return measure(rounds)
    finally:
        torch.cuda.empty_cache()


def _against_copy(name: str, shapes: Sequence[Shape], rounds: int) -> Measurement:
    """A step's time on the GPU, over what the GPU takes to move as many bytes as fast as it can."""
    parameters = parameters_of(shapes, DEVICE)
    built = stepping(name, parameters)
    notes = first_step(built)
    size = sum(parameter.nbytes for parameter in parameters)
    source, target = (torch.ones(size, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    sides = [Side(name, built.step), Side("device copy", partial(target.copy_, source))]
    step, copy = alternate(sides, rounds, stopwatch=on_device)
    # A copy reads and writes: two passes.
    limit = copy.scaled(PASSES / 2)
    notes.append(f"{PASSES * size / step.median / 1e9:,.0f} GB/s; a copy has {2 * size / copy.median / 1e9:,.0f} GB/s")
    return Measurement(step, (limit,), note="; ".join(notes))


def _graphs(key: str, shapes: Sequence[Shape], rounds: int) -> Measurement:
    """The time of replaying a captured step, the schedule's part captured with it."""
    bare = "AdamW(fused=True, capturable=True)"
    options: dict[str, dict[str, Any]] = {
        key: {"capturable": True},
        FUSED_ADAMW: {"capturable": True, "lr": torch.tensor(PEAK_LR, device=DEVICE)},
    }
    # The parameters are held on to: a graph knows only where they were.
    built = [stepping(name, parameters_of(shapes, DEVICE), **own) for name, own in options.items()]
    sides = [Side(name, _captured(each.step)) for name, each in zip((key, bare), built, strict=True)]
    ours, theirs = alternate(sides, rounds, stopwatch=on_device)
    return Measurement(ours, (theirs,))


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    """Capture a step in a graph, after some uncaptured ones on a stream beside, as PyTorch asks for."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
