"""What is legal in a configuration, but may surprise: the notes of its factories and of its schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch.optim import Optimizer

from optim_core.arguments import notes_on
from optim_core.configuration import ComponentSpec, Configuration
from optim_core.errors import Problem
from optim_core.inspection.curves import peak_step
from optim_core.registry import OptimizerRegistry
from optim_core.scheduled_optimizer import ScheduledOptimizer

__all__ = ["configuration_notes"]


def configuration_notes(
    configuration: Configuration, registry: OptimizerRegistry, optimizers: Mapping[str, Optimizer]
) -> list[Problem]:
    """Every note, in the order of the file.

    Args:
        configuration: as read.
        registry: where its types are looked up.
        optimizers: those that could be built, by component; over whatever parameters.
    """
    notes: list[Problem] = []
    scheduled = {name: o for name, o in optimizers.items() if isinstance(o, ScheduledOptimizer)}
    peaks = {name: peak_step(optimizer.schedule) for name, optimizer in scheduled.items()}
    for name in optimizers:
        spec = configuration.specs[name]
        found = notes_on(registry.get(spec.type), spec.params)
        if name in scheduled:
            found += _schedule_notes(name, spec, scheduled, peaks)
        notes += [configuration.locate(note, spec, "params") for note in found]
    return sorted(notes, key=lambda note: note.line or 0)


def _schedule_notes(
    name: str, spec: ComponentSpec, scheduled: Mapping[str, ScheduledOptimizer], peaks: Mapping[str, int]
) -> Iterator[Problem]:
    schedule, position = scheduled[name].schedule, scheduled[name].schedule_step
    first, last = (schedule.options_at(step, schedule.peak_lr)["lr"] for step in (0, schedule.total_steps - 1))
    if peaks[name] == 0 and first != last:
        yield Problem(_named("warmup", spec), f"no warmup: the first update already has the highest rate, {first:g}")
    if position >= schedule.total_steps:
        message = f"starts at update {position:,}, past its horizon of {schedule.total_steps:,}: its rate never moves"
        yield Problem(_named("epoch", spec), message)
    later = {other: peak for other, peak in peaks.items() if peak >= schedule.total_steps and other != name}
    if later:
        others = ", ".join(f"{other!r} ({peak:,} updates)" for other, peak in later.items())
        message = f"its horizon of {schedule.total_steps:,} updates ends before the warmup of {others} does"
        yield Problem(_named("total_steps", spec), message)


def _named(part: str, spec: ComponentSpec) -> str:
    """The first given argument whose name has `part` in it: where a person would look; else nothing."""
    return next((name for name in spec.params if part in name), "")
