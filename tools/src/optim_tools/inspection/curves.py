"""What learning rates look like over time: curves as numbers, for whoever draws or examines them.

A `ScheduledOptimizer` is asked, as its rate is a pure function of the step. Any other optimizer is
stepped on a dummy parameter, and what it does is written down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch.optim import Optimizer

from optim_core import OptimError, OptimizerFactory, Schedule, ScheduledOptimizer
from optim_core.for_tools import PEAK, in_one_line
from optim_tools.inspection.dummy_steps import Track, numbers_of, recorded_steps
from optim_tools.inspection.trial import trial_optimizer
from optim_tools.inspection.turning_points import chosen_steps, first_highest

__all__ = ["Curve", "CurveError", "alike", "asked_curves", "curves_of", "peak_step", "stepped_curves"]

DEFAULT_HORIZON = 1_000
MOST_STEPS = 200_000
"""How many steps an optimizer is stepped unless more are asked for; these take some seconds."""
_EVERY_STEP = 2**18


@dataclass(frozen=True)
class Curve:
    """The learning rate of one component over its horizon, and the options that move with it.

    Attributes:
        component: its name.
        type: the registry key of its optimizer.
        horizon: how many optimizer updates the curve covers.
        steps: the updates that are looked at, counted from 0, ascending; among them the first, the
            last, the peak and where the curve turns.
        rates: the absolute learning rate that each of these applies.
        options: what else moves, by name, as in `betas[0]`: a value for each of `steps`.
        stepped: whether the optimizer was stepped, rather than its schedule asked.
        group: the number of the parameter group, where the groups of a component differ.
        begins_at: the update at which the optimizer begins.
        note: what isn't obvious about the curve.
    """

    component: str
    type: str
    horizon: int
    steps: tuple[int, ...]
    rates: tuple[float, ...]
    options: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    stepped: bool = False
    group: int | None = None
    begins_at: int = 0
    note: str | None = None

    @property
    def peak(self) -> tuple[int, float]:
        """The first step with the highest finite rate, and that rate."""
        finite = [(rate, -step) for step, rate in zip(self.steps, self.rates, strict=True) if math.isfinite(rate)]
        rate, step = max(finite, default=(math.nan, 0))
        return -step, rate


class CurveError(OptimError):
    """An optimizer that can't be built or stepped on a dummy parameter, or has no usable schedule.

    Attributes:
        component: the component's name.
        type: the registry key of its optimizer.
        what: what happened.
    """

    def __init__(self, component: str, type_key: str, what: str) -> None:
        super().__init__(component, type_key, what)
        self.component = component
        self.type = type_key
        self.what = what

    def __str__(self) -> str:
        subject = self.type if self.component == self.type else f"component {self.component!r} ({self.type})"
        return f"{subject}: {self.what}"


def peak_step(schedule: Schedule) -> int:
    """The first step at which a schedule has its highest learning rate.

    Exact where the rate rises all the way to one peak or plateau and falls from there, and for any
    schedule of up to some 16,000 steps; else a highest of the peaks that as many steps show.
    """
    peak = schedule.peak_lr
    return first_highest(lambda step: float(schedule.options_at(step, peak)["lr"]), schedule.total_steps)


def curves_of(
    factories: Mapping[str, OptimizerFactory],
    types: Mapping[str, str],
    params: Mapping[str, Mapping[str, Any]],
    *,
    steps: int | None = None,
    track: Track = lambda steps, _: steps,
) -> list[Curve]:
    """The curves of every component, in the order of `factories`.

    Args:
        factories: by component; each builds an optimizer over a dummy parameter.
        types: the registry keys, by component.
        params: what each factory was constructed with, defaults included. An optimizer that isn't
            asked has `total_steps` of it as its horizon, or the longest of the others.
        steps: the horizon of all, in optimizer updates, in place of their own.
        track: goes through the steps of an optimizer that is stepped.

    Raises:
        CurveError: an optimizer can't be built or stepped, or its schedule fails.
    """
    optimizers = {name: _built(name, types[name], factory) for name, factory in factories.items()}
    own = {name: _own_horizon(optimizer, params[name]) for name, optimizer in optimizers.items()}
    longest = max((horizon for horizon in own.values() if horizon is not None), default=DEFAULT_HORIZON)
    curves: list[Curve] = []
    done: dict[str, list[Curve]] = {}
    for name, optimizer in optimizers.items():
        horizon = steps or own[name] or longest
        if isinstance(optimizer, ScheduledOptimizer):
            curves += asked_curves(name, types[name], optimizer, horizon)
            continue
        # Stepping takes its time, and what is the same does the same.
        same = repr((types[name], params[name], horizon))
        if same not in done:
            limit = horizon if steps else min(horizon, MOST_STEPS)
            done[same] = stepped_curves(name, types[name], optimizer, limit, track)
            if limit < horizon:
                note = f"stepped for {limit:,} of {horizon:,} updates; --steps {horizon} steps it for all"
                done[same] = [replace(curve, note=_joined(curve.note, note)) for curve in done[same]]
        curves += [replace(curve, component=name) for curve in done[same]]
    return curves


def asked_curves(component: str, type_key: str, optimizer: ScheduledOptimizer, horizon: int) -> list[Curve]:
    """A curve for each distinct parameter group of an optimizer, from its schedule; no step is made.

    Raises:
        CurveError: the schedule fails, or gives no learning rate.
    """
    schedule = optimizer.schedule
    begins_at = optimizer.schedule_step
    note = f"training begins at step {begins_at:,}" if begins_at else None
    curves = []
    for group in optimizer.param_groups:
        try:
            curve = _sampled(
                lambda step, peak=group[PEAK]: numbers_of(schedule.options_at(step, peak)),  # type: ignore[misc]
                horizon,
                Curve(component, type_key, horizon, (), (), begins_at=begins_at, note=note),
            )
        except Exception as error:
            # A schedule may be anyone's.
            raise CurveError(component, type_key, f"its schedule fails: {_described(error)}") from error
        curves.append(curve)
    return _distinct(curves)


def stepped_curves(
    component: str, type_key: str, optimizer: Optimizer, horizon: int, track: Track = lambda steps, _: steps
) -> list[Curve]:
    """A curve for each distinct parameter group of an optimizer, which is stepped from now on.

    The rate of a step is the group's `lr` before it, or, for a schedule-free optimizer, its
    `scheduled_lr` after it.

    Raises:
        CurveError: a step fails.
    """
    try:
        records = recorded_steps(optimizer, track(range(horizon), component))
    except (Exception, SystemExit) as error:
        # An optimizer may be anyone's.
        raise CurveError(component, type_key, f"a step fails on a dummy parameter: {_described(error)}") from error
    empty = Curve(component, type_key, horizon, (), (), stepped=True)
    return _distinct([_sampled(record.at, horizon, empty, probes=_EVERY_STEP) for record in records])


def alike(curves: Iterable[Curve]) -> list[list[Curve]]:
    """The curves in sets that can't be told apart, in the order of the first of each."""
    sets: dict[Any, list[Curve]] = {}
    for curve in curves:
        # As text, in which two NaNs are equal.
        shape = (curve.steps, repr(curve.rates), repr(sorted(curve.options.items())), curve.note)
        sets.setdefault(shape, []).append(curve)
    return list(sets.values())


def _built(component: str, type_key: str, factory: OptimizerFactory) -> Optimizer:
    try:
        return trial_optimizer(factory)
    except Exception as error:
        # A factory may be anyone's.
        what = f"it can't be built over a dummy parameter: {_described(error)}"
        raise CurveError(component, type_key, what) from error


def _own_horizon(optimizer: Optimizer, params: Mapping[str, Any]) -> int | None:
    if isinstance(optimizer, ScheduledOptimizer):
        return optimizer.schedule.total_steps
    given = params.get("total_steps")
    return given if type(given) is int and given > 0 else None


def _sampled(values_at: Callable[[int], Mapping[str, float]], horizon: int, curve: Curve, **options: int) -> Curve:
    """`curve` with the values at well-chosen steps; the learning rate is among them as `lr`."""
    names = ["lr", *(name for name in values_at(0) if name != "lr")]

    def row_at(step: int) -> list[float]:
        values = values_at(step)
        return [values[name] for name in names]

    steps = chosen_steps(row_at, horizon, **options)
    rates, *others = zip(*map(row_at, steps), strict=True)
    moving = {
        name: values
        for name, values in zip(names[1:], others, strict=True)
        if len({value for value in values if math.isfinite(value)}) > 1
    }
    unusable = next((step for step, rate in zip(steps, rates, strict=True) if not math.isfinite(rate)), None)
    note = curve.note
    if all(map(math.isnan, rates)):
        note = _joined(note, "its parameter groups have no learning rate that is a number")
    elif unusable is not None:
        note = _joined(note, f"its learning rate at step {unusable:,} is no finite number")
    return replace(curve, steps=tuple(steps), rates=rates, options=moving, note=note)


def _distinct(curves: Sequence[Curve]) -> list[Curve]:
    """One curve for each set of groups that are alike, numbered where there are several."""
    firsts = [curves.index(same[0]) for same in alike(curves)]
    return [replace(curves[index], group=index if len(firsts) > 1 else None) for index in firsts]


def _joined(*notes: str | None) -> str | None:
    return "; ".join(filter(None, notes)) or None


def _described(error: BaseException) -> str:
    said = in_one_line(error)
    return said if len(said) <= 300 else f"{said[:297]}..."
