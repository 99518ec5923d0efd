"""`ScheduledOptimizer`: an optimizer that steps its own learning-rate schedule inside `step()`.

Everything follows from one rule: the learning rate is a pure function of one counter, and the
counter lives in `param_groups`, where every tool that saves, copies or shards an optimizer keeps it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import torch
from torch import Tensor

from optim_core.errors import InvalidArgumentsError, OptimWarning, Problem, StateMismatchError
from optim_core.schedule import Schedule
from optim_core.step_hooks import without_hooks

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT, StateDict

__all__ = ["Difference", "OnMismatch", "ScheduleWarning", "ScheduledOptimizer"]

OnMismatch = Literal["config", "checkpoint", "error"]
"""Whose values hold where a checkpoint and the configuration differ."""

# These two names stand in every saved state and can never change: a flattened distributed
# checkpoint can't be loaded into groups with other keys.
_STEP = "schedule_step"
_PEAK = "peak_lr"
_SCHEDULER = "scheduler"


class ScheduleWarning(OptimWarning):
    """A schedule is not what someone may believe: it is past its end, overwritten, or was changed."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """A value that a saved state and the optimizer it is loaded into disagree about."""

    name: str
    saved: object
    current: object

    def __str__(self) -> str:
        return f"{self.name} is {self.saved!r} in the checkpoint and {self.current!r} in the configuration"


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """What `load_state_dict` will do, decided before anything is changed."""

    step: int
    schedule: Schedule
    peaks: tuple[float, ...]
    restored: tuple[dict[str, Any], ...]
    notices: tuple[str, ...]


class ScheduledOptimizer(torch.optim.Optimizer):
    """A mix-in that makes any optimizer class step a `Schedule` of its own.

    Put it before the optimizer's class:

    >>> import torch
    >>> from optim_core import ScheduledOptimizer, WarmupCosine
    >>> class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    ...     "Stochastic gradient descent on a schedule."
    >>> optimizer = ScheduledSGD(
    ...     [torch.nn.Parameter(torch.ones(2))],
    ...     schedule=WarmupCosine(peak_lr=0.1, total_steps=100, warmup_steps=10),
    ...     momentum=0.9,
    ... )
    >>> optimizer.step()
    >>> optimizer.schedule_step, round(optimizer.param_groups[0]["lr"], 6)
    (1, 0.01)

    `param_groups[i]["lr"]` is always the rate that the next `step()` applies. A group with an `lr`
    of its own has that as its peak, kept in the group as `"peak_lr"`, and the whole curve in
    proportion; to change a group's rate while training, change its `"peak_lr"`. Steps are optimizer
    updates: a call of `step()` counts, also one without any gradient, but not one whose update a
    gradient scaler skipped. Past `schedule.total_steps` the last value holds, with one warning.

    `state_dict()` has the schedule's shape and position under `"scheduler"`; the position is also
    in each group, as `"schedule_step"`, and loading finds it there where a tool drops the key.

    Args:
        params: parameters or parameter groups; dictionaries given are not changed.
        schedule: the shape of the learning rate; a frozen dataclass of plain values.
        on_mismatch: what `load_state_dict` does where a saved schedule has another shape. The
            position is always the checkpoint's. "config" keeps this optimizer's shape and
            "checkpoint" takes the saved one, either with a warning that names every value that
            differs; "error" refuses.
        initial_step: number of updates already made, where training goes on without a state dict.
        **options: arguments of the optimizer's class. `lr` is the schedule's `peak_lr` if left out.

    Raises:
        InvalidArgumentsError: the schedule or `on_mismatch` is of no use, or a group's `lr` isn't a
            finite number of zero or more.
    """

    schedule: Schedule
    on_mismatch: OnMismatch
    _warned_past_end = False
    _warned_overwritten = False

    def __init__(
        self,
        params: ParamsT,
        *,
        schedule: Schedule,
        on_mismatch: OnMismatch = "config",
        initial_step: int = 0,
        **options: Any,
    ) -> None:
        problems = [*_schedule_problems(schedule), *_policy_problems(on_mismatch)]
        if not isinstance(initial_step, int) or initial_step < 0:
            problems.append(Problem("initial_step", f"= {initial_step!r}: must be an integer, zero or more"))
        if problems:
            raise InvalidArgumentsError(type(self).__name__, problems)
        # Before the base class, whose constructor already adds the parameter groups.
        self.schedule = schedule
        self.on_mismatch = on_mismatch
        options.setdefault("lr", schedule.peak_lr)
        super().__init__(params, **options)
        if initial_step:
            self._move_to(initial_step)

    @property
    def schedule_step(self) -> int:
        """How many updates have been made; the next `step()` applies the schedule's value for it."""
        return int(self.param_groups[0][_STEP])

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update at the schedule's current rate, then move the schedule on by one.

        Args:
            closure: reevaluates the model and returns the loss, as for the optimizer's own class.

        Returns:
            The closure's loss, or None without one.
        """
        update = without_hooks(super().step)
        if self._is_dry_step():
            update(self, None)
            self._reset_counts()
            return None
        step = self.schedule_step
        if step >= self.schedule.total_steps and not self._warned_past_end:
            self._warned_past_end = True
            warnings.warn(
                f"{type(self).__name__} is past the end of its schedule (total_steps={self.schedule.total_steps}): "
                "the last learning rate holds from here on. Give total_steps the number of updates of the whole "
                "training",
                ScheduleWarning,
                stacklevel=3,
            )
        self._write_options(step, expect_unchanged=True)
        loss: float | None = update(self, closure)
        if not self._was_skipped():
            self._move_to(step + 1)
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, which joins the schedule at its current position.

        Args:
            param_group: as for `torch.optim.Optimizer`; an `lr` in it is the group's peak. The
                dictionary is not changed.

        Raises:
            InvalidArgumentsError: the group's `lr` isn't a finite number of zero or more.
        """
        if not isinstance(param_group, dict):
            super().add_param_group(param_group)  # raises PyTorch's own error
            return
        peak = _own_peak(param_group, type(self).__name__)
        super().add_param_group(dict(param_group))
        group = self.param_groups[-1]
        group[_PEAK] = float(group["lr"]) if peak is None else peak
        if isinstance(group["lr"], Tensor):
            # Every group has its own: one default is shared by all groups, and is the caller's.
            group["lr"] = group["lr"].detach().clone()
        group[_STEP] = self.param_groups[0][_STEP] if len(self.param_groups) > 1 else 0
        _write(group, self.schedule.options_at(group[_STEP], group[_PEAK]))

    def state_dict(self) -> StateDict:
        """The optimizer's state, with the schedule's shape and position under `"scheduler"`."""

        def add_schedule(_: torch.optim.Optimizer, state: StateDict) -> None:
            state[_SCHEDULER] = {
                "schedule": type(self.schedule).__name__,
                "step": self.schedule_step,
                **_shape(self.schedule),
            }

        # A hook, so that the hooks that a user registered see the key; registered for this call
        # only, because PyTorch drops hooks when an optimizer is pickled or copied.
        handle = self.register_state_dict_post_hook(add_schedule, prepend=True)
        try:
            return super().state_dict()
        finally:
            handle.remove()

    def load_state_dict(self, state_dict: StateDict, *, on_mismatch: OnMismatch | None = None) -> None:
        """Restore optimizer and schedule; refuse what doesn't fit before anything is changed.

        A state without a schedule's position (of the bare optimizer class, say) continues from the
        number of updates it records, with a warning.

        Args:
            state_dict: what `state_dict()` returned; it is not changed.
            on_mismatch: overrides the optimizer's own `on_mismatch` for this call.

        Raises:
            StateMismatchError: the groups differ in number, size or parameter names, no position can
                be found, or the schedules differ and that is to be an error.
        """
        policy = self.on_mismatch if on_mismatch is None else on_mismatch
        if problems := _policy_problems(policy):
            raise InvalidArgumentsError(type(self).__name__, problems)
        for notice in self.load_state(state_dict, policy):
            warnings.warn(notice, ScheduleWarning, stacklevel=2)

    def load_state(
        self, state_dict: StateDict, on_mismatch: OnMismatch, keep: Sequence[Collection[str]] = ()
    ) -> tuple[str, ...]:
        """`load_state_dict` for a caller that reports differences itself: returns the warnings.

        Args:
            state_dict: what `state_dict()` returned.
            on_mismatch: whose schedule holds where they differ.
            keep: for each group, further options to keep as they are in this optimizer.
        """
        plan: list[_Loaded] = []

        def decide(_: torch.optim.Optimizer, state: StateDict) -> None:
            plan.append(self._plan_load(state, on_mismatch, keep))

        def apply(_: torch.optim.Optimizer) -> None:
            self._apply_load(plan[-1])

        # Hooks for this call only: what a user's own pre-hooks supply or remove is seen, and their
        # post-hooks see the schedule restored.
        handles = [
            self.register_load_state_dict_pre_hook(decide),
            self.register_load_state_dict_post_hook(apply, prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()
        return plan[-1].notices

    def schedule_differences(self, state_dict: Mapping[str, Any]) -> tuple[Difference, ...]:
        """What a saved schedule has other than this one: values of its shape, and peaks of groups."""
        return tuple(self._differences(state_dict))

    def __getstate__(self) -> dict[str, Any]:
        # The base class's keeps `defaults`, `state` and `param_groups` only.
        return {**super().__getstate__(), "schedule": self.schedule, "on_mismatch": self.on_mismatch}

    def _move_to(self, step: int) -> None:
        for group in self.param_groups:
            group[_STEP] = step
        self._write_options(step)

    def _write_options(self, step: int, *, expect_unchanged: bool = False) -> None:
        options_at = functools.cache(functools.partial(self.schedule.options_at, step))
        for index, group in enumerate(self.param_groups):
            options = options_at(group[_PEAK])
            if expect_unchanged and not self._warned_overwritten and not _holds(group["lr"], options["lr"]):
                self._warned_overwritten = True
                warnings.warn(
                    f"the learning rate of parameter group {index} of {type(self).__name__} was set to "
                    f"{float(group['lr']):.6g} from outside; its schedule sets it back to {options['lr']:.6g}. This "
                    "optimizer steps its own schedule: take away the other scheduler, or, to change the rate, set "
                    f'param_groups[{index}]["{_PEAK}"]',
                    ScheduleWarning,
                    stacklevel=4,
                )
            _write(group, options)

    def _was_skipped(self) -> bool:
        # torch.amp.GradScaler sets this attribute while it calls the step() of a fused optimizer,
        # whose kernel then makes no update if it holds a one. PyTorch has no public name for it.
        found_inf = getattr(self, "found_inf", None)
        return found_inf is not None and bool(found_inf)

    def _is_dry_step(self) -> bool:
        """Whether this is the step by which torch.distributed.checkpoint makes optimizers create state.

        It sets every rate to zero, every gradient to zeros, and steps an optimizer without state;
        nothing may come of it but the state's existence.
        """
        if self.state or any(float(group["lr"]) != 0 for group in self.param_groups):
            return False
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        return bool(gradients) and all(_is_zero(gradient) for gradient in gradients)

    def _reset_counts(self) -> None:
        for state in self.state.values():
            count = state.get("step")
            if isinstance(count, Tensor):
                count.zero_()
            elif count is not None:
                state["step"] = 0

    def _plan_load(self, state: StateDict, policy: OnMismatch, keep: Sequence[Collection[str]]) -> _Loaded:
        _require_same_groups(self.param_groups, state, type(self).__name__)
        step, notice = _saved_position(state, type(self).__name__)
        notices = [] if notice is None else [notice]
        differences = list(self._differences(state))
        listing = "; ".join(map(str, differences))
        if differences and policy == "error":
            raise StateMismatchError(f"{type(self).__name__}: the saved schedule differs: {listing}")
        schedule = self.schedule
        groups = state["param_groups"]
        peaks = [float(group[_PEAK]) for group in self.param_groups]
        if policy == "checkpoint":
            schedule = self._saved_schedule(state) or schedule
            peaks = [float(saved.get(_PEAK, peak)) for saved, peak in zip(groups, peaks, strict=True)]
        if differences:
            whose = "the configuration's values hold" if policy == "config" else "the checkpoint's values hold"
            notices.append(f"{type(self).__name__}: the saved schedule differs, and {whose} from step {step}: {listing}")
        restored = []
        foreign = self._driven_by_saved_only(state, schedule)
        for index, group in enumerate(self.param_groups):
            names = {*foreign, *(keep[index] if keep else ())} - {"lr"}
            kept = {name: group[name] for name in names if name in group}
            if isinstance(group["lr"], Tensor):
                kept["lr"] = group["lr"]
            restored.append(kept)
        return _Loaded(step, schedule, tuple(peaks), tuple(restored), tuple(notices))

    def _apply_load(self, plan: _Loaded) -> None:
        self.schedule = plan.schedule
        for group, peak, kept in zip(self.param_groups, plan.peaks, plan.restored, strict=True):
            if "lr" not in kept and isinstance(group["lr"], Tensor):
                group["lr"] = float(group["lr"])
            group.update(kept)
            group[_PEAK] = peak
        self._move_to(plan.step)
        self._warned_past_end = self._warned_overwritten = False

    def _differences(self, state: Mapping[str, Any]) -> Iterator[Difference]:
        saved = state.get(_SCHEDULER)
        saved_peak: object = None
        if isinstance(saved, Mapping) and "schedule" in saved:
            name = type(self.schedule).__name__
            if saved["schedule"] != name:
                yield Difference("schedule", saved["schedule"], name)
            else:
                shape = _shape(self.schedule)
                saved_peak = saved.get("peak_lr")
                for key in [*shape, *(k for k in saved if k not in shape and k not in ("schedule", "step"))]:
                    if saved.get(key) != shape.get(key):
                        yield Difference(key, saved.get(key), shape.get(key))
        for index, (theirs, ours) in enumerate(zip(state["param_groups"], self.param_groups, strict=False)):
            peak = theirs.get(_PEAK)
            default = peak == saved_peak and ours[_PEAK] == self.schedule.peak_lr
            if peak is not None and peak != ours[_PEAK] and not default:
                yield Difference(f"{_PEAK} of parameter group {index}", float(peak), ours[_PEAK])

    def _saved_schedule(self, state: Mapping[str, Any]) -> Schedule | None:
        """The schedule that a state was saved with, where it is of this one's class."""
        saved = state.get(_SCHEDULER)
        if not isinstance(saved, Mapping) or "schedule" not in saved:
            return None
        name = type(self.schedule).__name__
        fields = {key: value for key, value in saved.items() if key not in ("schedule", "step")}
        if saved["schedule"] != name:
            raise StateMismatchError(
                f"{type(self).__name__}: the checkpoint's schedule is a {saved['schedule']}, this optimizer's a {name}; "
                "it can't be taken over. Build the optimizer that the checkpoint is of, or load with "
                'on_mismatch="config"'
            )
        try:
            return dataclasses.replace(self.schedule, **fields)  # type: ignore[type-var]
        except (TypeError, ValueError) as error:
            message = f"{type(self).__name__}: the checkpoint's schedule can't be taken over: {error}"
            raise StateMismatchError(message) from error

    def _driven_by_saved_only(self, state: Mapping[str, Any], schedule: Schedule) -> set[str]:
        """Options that hold a position of the saved schedule's curve which the new one won't rewrite."""
        driven = set(schedule.options_at(0, schedule.peak_lr))
        try:
            saved = self._saved_schedule(state)
        except StateMismatchError:
            return {"betas", "momentum"} - driven
        return set() if saved is None else set(saved.options_at(0, saved.peak_lr)) - driven


def _write(group: dict[str, Any], options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        current = group.get(name)
        if isinstance(value, tuple) and isinstance(current, (tuple, list)):
            value = tuple(old if new is None else new for old, new in zip(current, value, strict=True))
        if isinstance(current, Tensor):
            current.fill_(value)
        else:
            group[name] = value


def _holds(current: object, value: float) -> bool:
    """Whether a group's rate is still what the schedule set; not asked of a tensor on a device."""
    if not isinstance(current, Tensor):
        return current == value
    return current.device.type != "cpu" or math.isclose(float(current), value, rel_tol=1e-2, abs_tol=1e-30)


def _is_zero(gradient: Tensor) -> bool:
    if gradient.is_sparse:
        return False
    # A sharded gradient (DTensor) is asked for its own part: no communication here.
    local = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return not bool(torch.count_nonzero(local))


def _shape(schedule: Schedule) -> dict[str, Any]:
    return {field.name: getattr(schedule, field.name) for field in dataclasses.fields(schedule)}  # type: ignore[arg-type]


def _schedule_problems(schedule: object) -> Iterator[Problem]:
    hint = "Use WarmupCosine, or a frozen dataclass with peak_lr, total_steps and options_at(step, peak_lr)"
    if not isinstance(schedule, Schedule) or not dataclasses.is_dataclass(schedule) or isinstance(schedule, type):
        yield Problem("schedule", f"= {schedule!r}: must be a schedule", hint)
        return
    for name, value in _shape(schedule).items():
        plain = (bool, int, float, str, type(None))
        if not isinstance(value, plain) and not (isinstance(value, tuple) and all(isinstance(v, plain) for v in value)):
            yield Problem(f"schedule.{name}", f"= {value!r}: must be a plain number or string, to be saved", hint)
        if name in ("schedule", "step"):
            yield Problem(f"schedule.{name}", "this name is taken in the saved state", "Rename the field")


def _policy_problems(policy: object) -> list[Problem]:
    allowed = get_args(OnMismatch)
    if policy in allowed:
        return []
    return [Problem("on_mismatch", f"= {policy!r}: must be one of {', '.join(map(repr, allowed))}")]


def _own_peak(group: Mapping[str, Any], optimizer: str) -> float | None:
    """The peak that a group brings along, or None where it has the default."""
    name = _PEAK if _PEAK in group else "lr"
    if name not in group:
        return None
    value = group[name]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    number = number or (isinstance(value, Tensor) and value.numel() == 1)
    if not number or not 0 <= float(value) < math.inf:
        raise InvalidArgumentsError(
            optimizer, [Problem(name, f"= {value!r}: a parameter group's rate must be a finite number, zero or more")]
        )
    return float(value)


def _require_same_groups(groups: list[dict[str, Any]], state: Mapping[str, Any], optimizer: str) -> None:
    if not isinstance(state.get("param_groups"), list) or not isinstance(state.get("state"), Mapping):
        raise StateMismatchError(f"{optimizer}: this is no optimizer's state: it lacks 'state' or 'param_groups'")
    saved = state["param_groups"]
    ours, theirs = [len(g["params"]) for g in groups], [len(g["params"]) for g in saved]
    if ours != theirs:
        raise StateMismatchError(
            f"{optimizer}: the checkpoint has {_counted(theirs)}, the optimizer {_counted(ours)}. Build it over the "
            "same parameters, in the same groups, as the one that was saved"
        )
    for index, (own, other) in enumerate(zip(groups, saved, strict=True)):
        if "param_names" not in own or "param_names" not in other:
            continue
        own_names, other_names = list(own["param_names"]), list(other["param_names"])
        if own_names != other_names:
            raise StateMismatchError(
                f"{optimizer}: the parameters of group {index} differ: in the checkpoint {other_names}, in the "
                f"optimizer {own_names}"
            )


def _counted(sizes: list[int]) -> str:
    groups = "1 parameter group" if len(sizes) == 1 else f"{len(sizes)} parameter groups"
    return f"{groups} with {', '.join(map(str, sizes))} parameters"


def _saved_position(state: Mapping[str, Any], optimizer: str) -> tuple[int, str | None]:
    """The number of updates a saved state has behind it, and a notice where that had to be inferred."""
    saved = state.get(_SCHEDULER)
    saved = saved if isinstance(saved, Mapping) else {}
    in_groups = [group[_STEP] for group in state["param_groups"] if _STEP in group]
    counts = [s["step"] for s in state["state"].values() if isinstance(s, Mapping) and "step" in s]
    if in_groups:
        return _as_step(max(in_groups), optimizer), None
    if "step" in saved:
        return _as_step(saved["step"], optimizer), None
    if "last_epoch" in saved:
        step = _as_step(saved["last_epoch"], optimizer)
        source = "a torch.optim.lr_scheduler's last_epoch"
    elif counts or not state["state"]:
        step = _as_step(max(map(float, counts), default=0.0), optimizer)
        source = "the number of updates that its parameters' state records"
    else:
        raise StateMismatchError(
            f"{optimizer}: the checkpoint has no position of a schedule and no count of updates to infer one from. To "
            "use it, put the number of updates made as {'scheduler': {'step': ...}} into the state"
        )
    return step, (
        f"{optimizer}: the checkpoint has no position of this optimizer's schedule; it continues from step {step}, "
        f"{source}. If that is wrong, put the right number as {{'scheduler': {{'step': ...}}}} into the state"
    )


def _as_step(value: object, optimizer: str) -> int:
    number = float(value) if isinstance(value, (int, float, Tensor)) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or number < 0 or number != int(number):
        raise StateMismatchError(f"{optimizer}: the checkpoint's position {value!r} is no number of updates")
    return int(number)
