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
from typing import TYPE_CHECKING, Any, get_args, overload

import torch
from torch import Tensor

from optim_core.dry_step import is_dry_step
from optim_core.errors import InvalidArgumentsError, OptimWarning, Problem
from optim_core.schedule import Schedule
from optim_core.schedule_state import PEAK, SCHEDULER, STEP, LoadPlan, OnMismatch, plan_load, shape_of
from optim_core.step_hooks import without_hooks

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT, StateDict

__all__ = ["ScheduleWarning", "ScheduledOptimizer"]


class ScheduleWarning(OptimWarning):
    """A schedule is not what someone may believe: it is past its end, overwritten, or was changed."""


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
    # The rates as they were last written, object and value, to notice when somebody else writes them.
    # None where that is not known: a copied or unpickled optimizer has only what PyTorch keeps.
    _written: list[tuple[object, float]] | None = None

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
        self._written = []
        options.setdefault("lr", schedule.peak_lr)
        super().__init__(params, **options)
        if initial_step:
            self._move_to(initial_step)

    @property
    def schedule_step(self) -> int:
        """How many updates have been made; the next `step()` applies the schedule's value for it."""
        return int(self.param_groups[0][STEP])

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
        if closure is None and is_dry_step(self, [rate for rate, _ in self._written or []]):
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
        self._notice_overwritten()
        self._write_options(step)
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
        peak = _peak_of({"lr": self.defaults["lr"], **param_group}, type(self).__name__)
        super().add_param_group(dict(param_group))
        group = self.param_groups[-1]
        group[PEAK] = peak
        if isinstance(group["lr"], Tensor):
            # Every group has its own: one default is shared by all groups, and is the caller's.
            group["lr"] = group["lr"].detach().clone()
        group[STEP] = self.param_groups[0][STEP] if len(self.param_groups) > 1 else 0
        driven = self.schedule.options_at(group[STEP], group[PEAK])
        _write(group, driven)
        if self._written is not None:
            self._written.append((group["lr"], driven["lr"]))

    def state_dict(self) -> StateDict:
        """The optimizer's state, with the schedule's shape and position under `"scheduler"`."""

        def add_schedule(_: torch.optim.Optimizer, state: StateDict) -> None:
            state[SCHEDULER] = {
                "schedule": type(self.schedule).__name__,
                "step": self.schedule_step,
                **shape_of(self.schedule),
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
        plan = self._load(state_dict, policy)
        for notice in filter(None, (plan.inferred, plan.differing)):
            warnings.warn(notice, ScheduleWarning, stacklevel=2)

    def _load(
        self, state_dict: StateDict, on_mismatch: OnMismatch, keep: Sequence[Collection[str]] | None = None
    ) -> LoadPlan:
        """`load_state_dict` for the checkpoints of this package, which report differences themselves.

        Args:
            state_dict: what `state_dict()` returned.
            on_mismatch: whose schedule holds where they differ.
            keep: for each group, the options to keep as they are in this optimizer.
        """
        plan: list[LoadPlan] = []

        def decide(_: torch.optim.Optimizer, state: StateDict) -> None:
            plan.append(plan_load(type(self).__name__, self.schedule, self.param_groups, state, on_mismatch, keep))

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
        return plan[-1]

    def __getstate__(self) -> dict[str, Any]:
        # The base class's keeps `defaults`, `state` and `param_groups` only.
        return {**super().__getstate__(), "schedule": self.schedule, "on_mismatch": self.on_mismatch}

    def _restore(self, before: dict[str, Any]) -> None:
        """Go back to what `__getstate__()` returned before a load, which puts new objects in place."""
        self.__setstate__(before)
        # A rate that is a tensor is the same tensor before and after, with a new value in it.
        self._write_options(self.schedule_step)

    def _move_to(self, step: int) -> None:
        for group in self.param_groups:
            group[STEP] = step
        self._write_options(step)

    def _write_options(self, step: int) -> None:
        options_at = functools.cache(functools.partial(self.schedule.options_at, step))
        written = []
        for group in self.param_groups:
            options = options_at(group[PEAK])
            _write(group, options)
            written.append((group["lr"], options["lr"]))
        self._written = written

    def _notice_overwritten(self) -> None:
        """Warn, once, of a learning rate that isn't what was last written here."""
        if self._warned_overwritten or self._written is None:
            return
        for index, (group, (_, written)) in enumerate(zip(self.param_groups, self._written, strict=True)):
            if not _holds(group["lr"], written):
                self._warned_overwritten = True
                warnings.warn(
                    f"the learning rate of parameter group {index} of {type(self).__name__} was changed from outside, "
                    f"from {written:.6g} to {float(group['lr']):.6g}; its schedule's rate is used. This optimizer "
                    "steps its own schedule: take away the other scheduler, or, to change the rate, set "
                    f'param_groups[{index}]["{PEAK}"]',
                    ScheduleWarning,
                    stacklevel=4,
                )
                return

    def _was_skipped(self) -> bool:
        # torch.amp.GradScaler sets this attribute while it calls the step() of a fused optimizer,
        # whose kernel then makes no update if it holds a one. PyTorch has no public name for it.
        found_inf = getattr(self, "found_inf", None)
        return found_inf is not None and bool(found_inf)

    def _reset_counts(self) -> None:
        for state in self.state.values():
            count = state.get("step")
            if isinstance(count, Tensor):
                count.zero_()
            elif count is not None:
                state["step"] = 0

    def _apply_load(self, plan: LoadPlan) -> None:
        default, peak = self.defaults["lr"], plan.schedule.peak_lr
        if math.isclose(float(default), self.schedule.peak_lr, rel_tol=1e-6):
            # A group that is added later without a peak of its own has the schedule's.
            self.defaults = {
                **self.defaults,
                "lr": torch.full_like(default, peak) if isinstance(default, Tensor) else peak,
            }
        self.schedule = plan.schedule
        for group, peak, kept in zip(self.param_groups, plan.peaks, plan.kept, strict=True):
            if "lr" not in kept and isinstance(group["lr"], Tensor):
                group["lr"] = float(group["lr"])
            group.update(kept)
            group[PEAK] = peak
        self._move_to(plan.step)
        self._warned_past_end = self._warned_overwritten = False


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


def _schedule_problems(schedule: object) -> Iterator[Problem]:
    hint = "Use WarmupCosine, or a frozen dataclass with peak_lr, total_steps and options_at(step, peak_lr)"
    if not isinstance(schedule, Schedule) or not dataclasses.is_dataclass(schedule) or isinstance(schedule, type):
        yield Problem("schedule", f"= {schedule!r}: must be a schedule", hint)
        return
    for name, value in shape_of(schedule).items():
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


def _peak_of(group: Mapping[str, Any], optimizer: str) -> float:
    name = PEAK if PEAK in group else "lr"
    value = group[name]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    number = number or (isinstance(value, Tensor) and value.numel() == 1)
    if not number or not 0 <= float(value) < math.inf:
        raise InvalidArgumentsError(
            optimizer, [Problem(name, f"= {value!r}: a parameter group's rate must be a finite number, zero or more")]
        )
    return float(value)
