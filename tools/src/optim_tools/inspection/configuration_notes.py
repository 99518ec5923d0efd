"""What is legal in a configuration, but may surprise: the notes of its factories and of its schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch.optim import Optimizer

from optim_core import ComponentSpec, OptimizerRegistry, Problem, ScheduledOptimizer
from optim_core.for_tools import Configuration, in_one_line, in_order, notes_on
from optim_tools.inspection.curves import peak_step

__all__ = ["configuration_notes"]


@dataclass(frozen=True)
class _Course:
    """How a component's rate goes: at its first step, at its last, where it is highest, where it begins."""

    first: float
    last: float
    peak_lr: float
    peak_step: int
    highest: float
    total_steps: int
    begins_at: int


def configuration_notes(
    configuration: Configuration, registry: OptimizerRegistry, optimizers: Mapping[str, Optimizer]
) -> tuple[list[Problem], list[Problem]]:
    """Every note, in the order of the file, and what keeps notes from being had.

    Args:
        configuration: as read.
        registry: where its types are looked up.
        optimizers: those that could be built, by component; over whatever parameters.
    """
    notes: list[Problem] = []
    problems: list[Problem] = []
    courses: dict[str, _Course] = {}
    for name, optimizer in optimizers.items():
        spec = configuration.specs[name]
        try:
            notes += [
                configuration.locate(note, spec, "params") for note in notes_on(registry.get(spec.type), spec.params)
            ]
            if isinstance(optimizer, ScheduledOptimizer):
                courses[name] = _course(optimizer)
        except Exception as error:
            # A note's condition, or a schedule, may be anyone's.
            message = f"its schedule or its notes fail: {in_one_line(error)}"
            problems.append(configuration.locate(Problem("type", message, cause=error), spec))
    for name in courses:
        spec = configuration.specs[name]
        notes += [configuration.locate(note, spec, "params") for note in _schedule_notes(name, spec, courses)]
    return in_order(notes), problems


def _course(optimizer: ScheduledOptimizer) -> _Course:
    schedule = optimizer.schedule
    first, last = (float(schedule.options_at(s, schedule.peak_lr)["lr"]) for s in (0, schedule.total_steps - 1))
    peak = peak_step(schedule)
    highest = float(schedule.options_at(peak, schedule.peak_lr)["lr"])
    return _Course(first, last, schedule.peak_lr, peak, highest, schedule.total_steps, optimizer.schedule_step)


def _schedule_notes(name: str, spec: ComponentSpec, courses: Mapping[str, _Course]) -> Iterator[Problem]:
    course = courses[name]
    if course.peak_step == 0 and course.first != course.last:
        message = f"no warmup: the first update already has the highest rate, {course.first:g}"
        yield Problem(_given(spec, "warmup_steps", "warmup"), message)
    if course.highest < course.peak_lr / 2:
        message = f"its rate never comes near its peak of {course.peak_lr:g}: the highest is {course.highest:g}"
        yield Problem(_given(spec, "total_steps"), message)
    if course.begins_at >= course.total_steps:
        message = (
            f"starts at update {course.begins_at:,}, past its horizon of {course.total_steps:,}: its rate never moves"
        )
        yield Problem(_given(spec, "last_epoch", "initial_step"), message)
    later = {o: c.peak_step for o, c in courses.items() if c.peak_step >= course.total_steps and o != name}
    if later:
        others = ", ".join(f"{other!r} ({peak:,} updates)" for other, peak in later.items())
        message = f"its horizon of {course.total_steps:,} updates ends before the warmup of {others} does"
        yield Problem(_given(spec, "total_steps"), message)


def _given(spec: ComponentSpec, *names: str) -> str:
    """The first of the usual names that was given, so that the note stands at its line; else nothing."""
    return next((name for name in names if name in spec.params), "")
