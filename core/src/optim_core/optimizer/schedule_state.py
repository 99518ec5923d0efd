"""What a saved optimizer says of its schedule: position and shape, compared before it is loaded."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Literal

from torch import Tensor
from torch.nn.parameter import is_lazy

from optim_core.errors import StateMismatchError
from optim_core.pytorch.sharding import is_sharded
from optim_core.schedules.schedule import Schedule

__all__ = [
    "PEAK",
    "SCHEDULER",
    "STEP",
    "Difference",
    "LoadPlan",
    "OnMismatch",
    "differences",
    "driven_by_saved_only",
    "plan_load",
    "require_same_groups",
    "same_value",
    "saved_default_peak",
    "shape_differences",
    "shape_of",
]

OnMismatch = Literal["config", "checkpoint", "error"]
"""Whose values hold where a checkpoint and the configuration differ."""

# These names stand in every saved state and can never change; the first two above all: a flattened
# distributed checkpoint can't be loaded into groups with other keys.
STEP = "schedule_step"
PEAK = "peak_lr"
SCHEDULER = "scheduler"

_Groups = Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Difference:
    """A value that a saved state and the optimizer it is loaded into disagree about."""

    name: str
    saved: object
    current: object

    def __str__(self) -> str:
        return f"{self.name} is {self.saved!r} in the checkpoint and {self.current!r} in the configuration"


@dataclasses.dataclass(frozen=True)
class LoadPlan:
    """What loading a state will do, decided before anything is changed.

    Attributes:
        step: the position to go on from.
        schedule: the shape that holds from there.
        peaks: the peak of each group.
        kept: for each group, options that stay as they are in the optimizer.
        inferred: what to warn about where the position is not in the state, but was inferred.
        differing: what to warn about where the schedules differ.
    """

    step: int
    schedule: Schedule
    peaks: tuple[float, ...]
    kept: tuple[Mapping[str, Any], ...]
    inferred: str | None
    differing: str | None


def plan_load(
    owner: str,
    schedule: Schedule,
    groups: _Groups,
    state: Mapping[str, Any],
    policy: OnMismatch,
    keep: Sequence[Collection[str]] | None = None,
    per_element: Sequence[str] = (),
) -> LoadPlan:
    """Decide how to load `state` into an optimizer with this schedule and these groups.

    Args:
        owner: the name of the optimizer's class, for messages.
        schedule: the optimizer's.
        groups: the optimizer's `param_groups`.
        state: a state dict.
        policy: whose shape holds where the two differ.
        keep: for each group, the options that are to stay as they are in the optimizer under
            "config", its peak among them; None where that isn't known, and every peak stays.
        per_element: see `require_same_groups`.

    Raises:
        StateMismatchError: it can't be loaded, or not under this policy.
    """
    require_same_groups(groups, state, owner, per_element)
    step, inferred = _saved_position(state, owner)
    differing = None
    found = list(differences(schedule, groups, state))
    listing = "; ".join(map(str, found))
    if found and policy == "error":
        raise StateMismatchError(f"{owner}: the saved schedule differs: {listing}")
    if found:
        whose = "configuration" if policy == "config" else "checkpoint"
        differing = f"{owner}: the saved schedule differs; the {whose}'s values hold from step {step}: {listing}"
    peaks = [float(group[PEAK]) for group in groups]
    if policy == "checkpoint":
        schedule = _saved_schedule(schedule, state, owner) or schedule
    for index, saved in enumerate(state["param_groups"]):
        if policy == "checkpoint" or (keep is not None and PEAK not in keep[index]):
            peaks[index] = float(saved.get(PEAK, peaks[index]))
    stale = driven_by_saved_only(schedule, state, owner)
    kept = []
    for index, group in enumerate(groups):
        own = keep[index] if keep is not None and policy == "config" else ()
        names = {*stale, *own} - {"lr", PEAK, STEP}
        options = {name: group[name] for name in names if name in group}
        kept.append(options)
    return LoadPlan(step, schedule, tuple(peaks), tuple(kept), inferred, differing)


def differences(schedule: Schedule, groups: _Groups, state: Mapping[str, Any]) -> Iterator[Difference]:
    """What a saved schedule has other than this one: values of its shape, and peaks of groups."""
    yield from shape_differences(schedule, state)
    saved_peak = saved_default_peak(state)
    for index, (theirs, ours) in enumerate(zip(state["param_groups"], groups, strict=False)):
        peak = theirs.get(PEAK)
        # A group without a peak of its own differs where its schedule does, which is said already.
        default = peak is not None and same_value(peak, saved_peak) and same_value(ours[PEAK], schedule.peak_lr)
        if peak is not None and not same_value(peak, ours[PEAK]) and not default:
            yield Difference(f"{PEAK} of parameter group {index}", float(peak), ours[PEAK])


def shape_differences(schedule: Schedule, state: Mapping[str, Any]) -> Iterator[Difference]:
    """The values that a saved schedule's shape has other than this one's."""
    kind, saved = _saved_shape(state)
    name = type(schedule).__name__
    if kind is None:
        return
    if kind != name:
        yield Difference("schedule", kind, name)
        return
    shape = shape_of(schedule)
    for key in dict.fromkeys([*shape, *saved]):
        if not same_value(saved.get(key), shape.get(key)):
            yield Difference(key, saved.get(key), shape.get(key))


def saved_default_peak(state: Mapping[str, Any]) -> object:
    """The peak of the groups that had none of their own when a state was saved; None if not known."""
    _, saved = _saved_shape(state)
    return saved.get("peak_lr")


def same_value(first: object, second: object) -> bool:
    """Whether two saved values are the same; a rate given as a float32 tensor is the one given as a float."""
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (first, second))
    if numbers and float in (type(first), type(second)):
        return math.isclose(first, second, rel_tol=1e-6)  # type: ignore[arg-type]
    return first == second


def shape_of(schedule: Schedule) -> dict[str, Any]:
    """The fields of a schedule by name."""
    return {name: getattr(schedule, name) for name in _field_names(type(schedule))}


@functools.lru_cache(maxsize=256)
def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _saved_shape(state: Mapping[str, Any]) -> tuple[object, dict[str, Any]]:
    """The class name and the fields of a saved schedule; None and nothing where there is none."""
    saved = state.get(SCHEDULER)
    if not isinstance(saved, Mapping) or "schedule" not in saved:
        return None, {}
    return saved["schedule"], {key: value for key, value in saved.items() if key not in ("schedule", "step")}


def _saved_schedule(schedule: Schedule, state: Mapping[str, Any], owner: str) -> Schedule | None:
    """The schedule that a state was saved with, where it is of this one's class; None if it has none."""
    kind, fields = _saved_shape(state)
    name = type(schedule).__name__
    if kind is None:
        return None
    if kind != name:
        raise StateMismatchError(
            f"{owner}: the checkpoint's schedule is a {kind}, this optimizer's a {name}; it can't be "
            'taken over. Build the optimizer that the checkpoint is of, or load with on_mismatch="config"'
        )
    try:
        return dataclasses.replace(schedule, **fields)  # type: ignore[type-var]
    except (TypeError, ValueError) as error:
        raise StateMismatchError(f"{owner}: the checkpoint's schedule can't be taken over: {error}") from error


def driven_by_saved_only(schedule: Schedule, state: Mapping[str, Any], owner: str) -> set[str]:
    """Options that hold a position of the saved schedule's curve, which this one won't rewrite."""
    if _saved_shape(state) == (type(schedule).__name__, shape_of(schedule)):
        return set()
    driven = set(schedule.options_at(0, schedule.peak_lr))
    try:
        saved = _saved_schedule(schedule, state, owner)
    except StateMismatchError:
        return {"betas", "momentum"} - driven
    return set() if saved is None else set(saved.options_at(0, saved.peak_lr)) - driven


def require_same_groups(groups: _Groups, state: Mapping[str, Any], owner: str, per_element: Sequence[str] = ()) -> None:
    """Refuse a state whose parameter groups aren't those of an optimizer.

    Args:
        groups: the optimizer's `param_groups`.
        state: a state dict.
        owner: the name of the optimizer's class, for the message.
        per_element: what a parameter's state has of each of its elements, by name.

    Raises:
        StateMismatchError: with both sides, where the groups differ in number, size or the names of
            their parameters (which are compared where both have them), or the state in shape; and where
            a tool that fits a state to other parameters by their names has found nothing for a group
            or parameter.
    """
    if not isinstance(state.get("param_groups"), list) or not isinstance(state.get("state"), Mapping):
        raise StateMismatchError(f"{owner}: this is no optimizer's state: it lacks 'state' or 'param_groups'")
    saved = state["param_groups"]
    ours, theirs = [len(g["params"]) for g in groups], [len(g.get("params", ())) for g in saved]
    if ours != theirs:
        raise StateMismatchError(
            f"{owner}: the checkpoint has {_counted(theirs)}, the optimizer {_counted(ours)}. Build it over the "
            "same parameters, in the same groups, as the one that was saved"
        )
    for index, (own, other) in enumerate(zip(groups, saved, strict=True)):
        if "param_names" not in own or "param_names" not in other:
            continue
        own_names, other_names = list(own["param_names"]), list(other["param_names"])
        if own_names != other_names:
            raise StateMismatchError(
                f"{owner}: the parameters of group {index} differ: in the checkpoint {other_names}, in the "
                f"optimizer {own_names}"
            )
    misfits = [] if _fits(groups, state, per_element) else list(_misfits(groups, state, per_element))
    if misfits:
        raise StateMismatchError(
            f"{owner}: the checkpoint is of parameters of other shapes: {'; '.join(misfits)}. Build the optimizer "
            "over the same parameters, in the same order, as the one that was saved"
        )
    # What PyTorch's set_optimizer_state_dict leaves of a group or a parameter that is not in the state.
    hollow = [f"group {index}" for index, group in enumerate(saved) if not group.keys() - {"params", "param_names"}]
    kept = {key: value for key, value in state["state"].items() if isinstance(value, dict)}
    # The types of all first, in a loop that is not Python's: there may be very many.
    if dict in map(type, chain.from_iterable(map(dict.values, kept.values()))):
        hollow += [f"parameter {key}" for key, value in kept.items() if _holds_an_empty_mapping(value)]
    if hollow:
        raise StateMismatchError(
            f"{owner}: the checkpoint has nothing for {', '.join(hollow)}. It is of other parameters, or of parameters "
            "in other groups"
        )


_shape = attrgetter("shape")


def _fits(groups: _Groups, state: Mapping[str, Any], per_element: Sequence[str]) -> bool:
    """Whether what a state has of each element has the shapes of the parameters, as far as can be told quickly."""
    saved = [key for group in state["param_groups"] for key in group["params"]]
    params = [p for group in groups for p in group["params"]]
    if not per_element or saved != list(state["state"]):
        return not per_element
    states = list(state["state"].values())
    try:
        shapes = list(map(_shape, params))
        names = [name for name in per_element if name in states[0]] if states else []
        return all(list(map(_shape, map(itemgetter(name), states))) == shapes for name in names)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        return False


def _misfits(groups: _Groups, state: Mapping[str, Any], per_element: Sequence[str]) -> Iterator[str]:
    for index, (own, other) in enumerate(zip(groups, state["param_groups"], strict=True)):
        for place, (parameter, key) in enumerate(zip(own["params"], other["params"], strict=True)):
            values = state["state"].get(key, {})
            found = {values[n].shape for n in per_element if n in values and isinstance(values[n], Tensor)}
            # What is sharded over processes, or has no shape yet, is PyTorch's to fit.
            if is_lazy(parameter) or is_sharded(parameter) or found <= {parameter.shape}:
                continue
            shapes = " and ".join(str(tuple(shape)) for shape in sorted(found))
            yield f"parameter {place} of group {index} is {tuple(parameter.shape)}, in the checkpoint {shapes}"


def _holds_an_empty_mapping(state: Mapping[str, Any]) -> bool:
    return any(isinstance(value, dict) and not value for value in state.values())


def _counted(sizes: list[int]) -> str:
    groups = "1 parameter group" if len(sizes) == 1 else f"{len(sizes)} parameter groups"
    return f"{groups} with {', '.join(map(str, sizes))} parameters"


def _saved_position(state: Mapping[str, Any], owner: str) -> tuple[int, str | None]:
    """The number of updates a saved state has behind it, and a notice where that had to be inferred."""
    saved = state.get(SCHEDULER)
    saved = saved if isinstance(saved, Mapping) else {}
    in_groups = [group[STEP] for group in state["param_groups"] if STEP in group]
    if in_groups:
        return _as_step(max(in_groups), owner), None
    if "step" in saved:
        return _as_step(saved["step"], owner), None
    counts = [s["step"] for s in state["state"].values() if isinstance(s, Mapping) and "step" in s]
    if "last_epoch" in saved:
        step = _as_step(saved["last_epoch"], owner)
        source = "a torch.optim.lr_scheduler's last_epoch"
    elif counts or not state["state"]:
        step = _as_step(max(map(float, counts), default=0.0), owner)
        source = "the number of updates that its parameters' state records"
    else:
        raise StateMismatchError(
            f"{owner}: the checkpoint has no position of a schedule and no count of updates to infer one from. To "
            "use it, put the number of updates made as {'scheduler': {'step': ...}} into the state"
        )
    return step, (
        f"{owner}: the checkpoint has no position of this optimizer's schedule; it continues from step {step}, "
        f"{source}. If that is wrong, put the right number as {{'scheduler': {{'step': ...}}}} into the state"
    )


def _as_step(value: object, owner: str) -> int:
    number = float(value) if isinstance(value, (int, float, Tensor)) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or number < 0 or number != int(number):
        raise StateMismatchError(f"{owner}: the checkpoint's position {value!r} is no number of updates")
    return int(number)
