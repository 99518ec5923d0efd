"""`ScheduledOptimizer`: an optimizer that steps its own learning-rate schedule inside `step()`.

Everything follows from one rule: the learning rate is a pure function of one counter, and the
counter lives in `param_groups`, where every tool that saves, copies or shards an optimizer keeps it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, get_args, overload

import torch
from torch import Tensor

from optim_core.errors import InvalidArgumentsError, Problem, ScheduleWarning
from optim_core.optimizer.device_schedule import DeviceSchedule, is_capturing
from optim_core.optimizer.group_options import (
    adopt,
    holds,
    is_rate,
    on_device,
    own_copy,
    use_tensors,
    write,
    written_value,
)
from optim_core.optimizer.schedule_state import PEAK, SCHEDULER, STEP, LoadPlan, OnMismatch, plan_load, shape_of
from optim_core.optimizer.state_matching import matched_by_name, names_for_group
from optim_core.pytorch.compilation import keep_uncompiled
from optim_core.pytorch.dry_step import is_dry_step
from optim_core.pytorch.step_hooks import without_hooks
from optim_core.pytorch.user_warnings import warn_caller
from optim_core.schedules.schedule import Schedule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT, StateDict

__all__ = ["ScheduledOptimizer"]

# Options of groups that say by which of PyTorch's implementations a step is made.
_WAYS = ("capturable", "foreach", "fused")


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

    Where a group's `lr` is a tensor, it is copied, and the copy filled in place from then on; so is
    what else the schedule drives, and the group's counter. `capturable=True` makes it one, on the
    device of the group's parameters. Compiled training steps need that, and captured graphs.

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
    # What a parameter's state has of each of its elements, where that is known.
    _PER_ELEMENT: ClassVar[Sequence[str]] = ()
    # After a user's own hooks, unlike a hook that is registered where an optimizer is built.
    _matches_by_name = True
    _warned_past_end = False
    _warned_overwritten = False
    _in_dry_step = False
    # Whether the state was made by a dry step, at a rate of zero, and no other has come since.
    _state_is_dry = False
    _options_before: Sequence[Mapping[str, Any]] = ()
    # Calls of step() since a position on a device was last read; replays of a graph aren't among them.
    _calls = 0
    # What was last written into each group.
    _written: list[_Written]
    _device_schedule: DeviceSchedule | None = None

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
        keep_uncompiled(ScheduledOptimizer, "_begin_uncompiled", "_finish_uncompiled")
        # Before the base class, whose constructor already adds the parameter groups.
        self.schedule = schedule
        self.on_mismatch = on_mismatch
        self._written = []
        # A copy: groups that are added later are made from it, and the caller may go on using theirs.
        options["lr"] = own_copy(options.get("lr", schedule.peak_lr))
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

        Raises:
            InvalidArgumentsError: a group's `"peak_lr"` was set to what is no finite number of zero or
                more; nothing has changed.
        """
        if torch.compiler.is_compiling():
            self._begin_uncompiled(closure is not None)
            loss = self._step_of_class(closure)
            self._finish_uncompiled()
        else:
            self._begin(closure is not None)
            loss = self._step_at_these_rates(closure)
            self._finish()
        return loss

    def _step_of_class(self, closure: Callable[[], float] | None) -> float | None:
        loss: float | None = without_hooks(super().step)(self, closure)
        return loss

    def _step_at_these_rates(self, closure: Callable[[], float] | None) -> float | None:
        """Make the update of the optimizer's own class, at the rates that are in the groups; not when compiled."""
        return self._step_of_class(closure)

    # To call what is kept from the compiler takes a microsecond, which a step that isn't compiled saves.
    def _begin_uncompiled(self, has_closure: bool) -> None:
        self._begin(has_closure)

    def _finish_uncompiled(self) -> None:
        self._finish()

    def _begin(self, has_closure: bool) -> None:
        # Only without state can it be a dry step, which is quick to ask.
        self._in_dry_step = (
            not self.state
            and not has_closure
            and is_dry_step(self, (written.options["lr"] for written in self._written))
        )
        if self._in_dry_step:
            self._options_before = [dict(group) for group in self.param_groups]
            return
        if self._state_is_dry:
            # A step at a rate of zero may leave its mark on what an optimizer keeps.
            self.state.clear()
            self._state_is_dry = False
        groups, written = self.param_groups, self._written
        if len(groups) != len(written) or not all(map(_Written.is_untouched, written, groups)):
            self._put_back()
            self._write_options()
        self._notice_the_end()

    def _finish(self) -> None:
        if self._in_dry_step:
            self._reset_counts()
            for group, options in zip(self.param_groups, self._options_before, strict=True):
                group.update(options)
            self._state_is_dry, self._options_before = True, ()
            return
        # torch.amp.GradScaler sets this attribute while it calls the step() of a fused optimizer,
        # whose kernel then makes no update unless it holds a zero. PyTorch has no public name for it.
        found_inf = getattr(self, "found_inf", None)
        skipped: bool | None = None
        for group in self.param_groups:
            counter = group[STEP]
            if type(counter) is not int and on_device(counter):
                # Decided there, too: a captured graph makes this decision at each replay.
                counter.add_(1 if found_inf is None else (found_inf == 0).to(counter).reshape(()))
                continue
            if skipped is None:
                skipped = found_inf is not None and bool(found_inf)
            if not skipped:
                group[STEP] += 1  # in place, where it is a tensor
        self._write_options()

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
        peak = _peak_of(param_group, self.defaults["lr"], type(self).__name__)
        super().add_param_group(names_for_group(param_group, self.param_groups))
        group = self.param_groups[-1]
        group[PEAK] = peak
        group[STEP] = self.schedule_step if len(self.param_groups) > 1 else 0
        group["lr"] = _own_rate(group, self.defaults["lr"])
        for name in self.schedule.options_at(0, peak).keys() & group.keys() - {"lr"}:
            group[name] = own_copy(group[name])
        self._written.append(self._write_into(group, self.schedule.options_at))

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
            warn_caller(notice, ScheduleWarning)

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
        live: list[dict[str, Any]] = []

        def decide(_: torch.optim.Optimizer, state: StateDict) -> StateDict:
            owner, groups = type(self).__name__, self.param_groups
            state = matched_by_name(groups, state, owner)
            plan.append(plan_load(owner, self.schedule, groups, state, on_mismatch, keep, self._PER_ELEMENT))
            live.extend(dict(group) for group in self.param_groups)
            # Where and how steps run is this program's affair. PyTorch places the counts of updates by it.
            pairs = zip(self.param_groups, state["param_groups"], strict=True)
            placed = [{**saved, **{name: own[name] for name in _WAYS if name in own}} for own, saved in pairs]
            return {**state, "param_groups": placed}

        def apply(_: torch.optim.Optimizer) -> None:
            self._apply_load(plan[-1], live)

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
        more = {"schedule": self.schedule, "on_mismatch": self.on_mismatch, "_state_is_dry": self._state_is_dry}
        return {**super().__getstate__(), **more}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # PyTorch's load_state_dict ends here too, without a schedule: that one is finished in a hook.
        if "schedule" in state:
            keep_uncompiled(ScheduledOptimizer, "_begin_uncompiled", "_finish_uncompiled")
            self._calls = self.schedule_step
            self._written = [self._found_in(group) for group in self.param_groups]

    def _restorer(self) -> Callable[[], None]:
        """What puts everything back to what it is now, after a load."""
        # References, not copies: loading puts new objects in place, apart from tensors that the
        # schedule writes to, which are as they were when they are written again.
        before, step = dict(self.__getstate__()), self.schedule_step

        def restore() -> None:
            self.__setstate__(before)
            self._move_to(step)

        return restore

    def _move_to(self, step: int) -> None:
        for group in self.param_groups:
            group[STEP] = group[STEP].fill_(step) if isinstance(group[STEP], Tensor) else step
        self._calls = step
        self._write_options()

    def _rate_of(self, group: Mapping[str, Any]) -> float:
        """The rate that belongs to a group's position."""
        rate: float = self.schedule.options_at(int(group[STEP]), group[PEAK])["lr"]
        return rate

    def _found_in(self, group: dict[str, Any]) -> _Written:
        """A group as if all that is in it had been written here."""
        names = {STEP, "lr", *self.schedule.options_at(0, group[PEAK])} & group.keys()
        rate = None if on_device(group[STEP]) else self._rate_of(group)
        return _Written(group, {name: group[name] for name in names}, rate, None)

    def _write_options(self) -> None:
        options_at = self.schedule.options_at
        if len(self.param_groups) > 1:
            options_at = functools.cache(options_at)
        for index, group in enumerate(self.param_groups):
            written = self._written[index]
            if type(group["lr"]) is float and type(group[STEP]) is int and group is written.group:
                written.rewrite(options_at)
            elif not written.is_up_to_date():
                self._written[index] = self._write_into(group, options_at)

    def _write_into(self, group: dict[str, Any], options_at: Callable[[int, float], Mapping[str, Any]]) -> _Written:
        """Write the values that belong to a group's position."""
        if on_device(group["lr"]):
            driven = options_at(0, group[PEAK])
            use_tensors(group, driven)
            if self._device_schedule is None or self._device_schedule.schedule is not self.schedule:
                self._device_schedule = DeviceSchedule(self.schedule)
            self._device_schedule.write(group)
            return _Written(group, {STEP: group[STEP], **{name: group[name] for name in driven}}, None, None)
        step, peak = int(group[STEP]), group[PEAK]
        options = options_at(step, peak)
        if isinstance(group["lr"], Tensor):
            use_tensors(group, options)
        write(group, options)
        written = {STEP: group[STEP]}
        for name in options:
            written[name] = group[name]
        return _Written(group, written, options["lr"], (step, peak))

    def _notice_the_end(self) -> None:
        """Warn, once, of a step after the last one."""
        if self._warned_past_end:
            return
        counter = self.param_groups[0][STEP]
        if type(counter) is int and counter < self.schedule.total_steps:
            return
        if on_device(counter):
            # Reading it waits for the device: only where the number of calls says that it may be so far.
            self._calls += 1
            if self._calls <= self.schedule.total_steps or is_capturing(counter):
                return
            self._calls = int(counter)
        if int(counter) >= self.schedule.total_steps:
            self._warned_past_end = True
            warn_caller(
                f"{type(self).__name__} is past the end of its schedule (total_steps={self.schedule.total_steps}): "
                "the last learning rate holds from here on. Give total_steps the number of updates of the whole "
                "training",
                ScheduleWarning,
            )

    def _put_back(self) -> None:
        """Undo what others have put in place of what was last written; warn of a rate, once.

        A position is another matter: a tool that restores options one by one (PyTorch's
        ZeroRedundancyOptimizer does) restores it so, and the rates that belong to it.
        """
        for index, group in enumerate(self.param_groups):
            peak = group[PEAK]
            if type(peak) is not float or not 0 <= peak < math.inf:
                group[PEAK] = _checked_rate(f"param_groups[{index}][{PEAK!r}]", peak, type(self).__name__)
        if [id(written.group) for written in self._written] != [id(group) for group in self.param_groups]:
            # Somebody has taken groups away, or put them in another order.
            self._written = [self._found_in(group) for group in self.param_groups]
        for index, (group, written) in enumerate(zip(self.param_groups, self._written, strict=True)):
            found, own = group["lr"], written.options["lr"]
            for name, value in written.options.items():
                if group[name] is value:
                    continue
                if name == STEP and isinstance(value, Tensor):
                    value.fill_(int(group[name]))
                # Compiled code and captured graphs have the very tensors that were there.
                group[name] = adopt(value, group[name])
                written.key = None
            if not holds(found, own, written.rate):
                written.key = None
                self._notice_overwritten(index, found, own)

    def _notice_overwritten(self, index: int, found: Any, own: object) -> None:
        group, before = self.param_groups[index], self._written[index].rate
        if self._warned_overwritten or is_rate(found, self._rate_of(group), own):
            return
        self._warned_overwritten = True
        change = f"to {float(found):.6g}" if before is None else f"from {before:.6g} to {float(found):.6g}"
        warn_caller(
            f"the learning rate of parameter group {index} of {type(self).__name__} was changed from outside, "
            f"{change}; its schedule's rate is used (other options, such as betas, are left as they are found). This "
            "optimizer steps its own schedule: take away the other scheduler (where a trainer adds one, give it "
            "optim_core.integrations.ReadOnlyScheduler(optimizer) instead), or, to change the rate, set "
            f'param_groups[{index}]["{PEAK}"]',
            ScheduleWarning,
        )

    def _reset_counts(self) -> None:
        for state in self.state.values():
            count = state.get("step")
            if isinstance(count, Tensor):
                count.zero_()
            elif count is not None:
                state["step"] = 0

    def _apply_load(self, plan: LoadPlan, live: Sequence[Mapping[str, Any]]) -> None:
        default, peak = self.defaults["lr"], plan.schedule.peak_lr
        if math.isclose(float(default), self.schedule.peak_lr, rel_tol=1e-6):
            # A group that is added later without a peak of its own has the schedule's.
            self.defaults = {
                **self.defaults,
                "lr": torch.full_like(default, peak) if isinstance(default, Tensor) else peak,
            }
        if plan.schedule != self.schedule:
            self.schedule = plan.schedule
        driven = self.schedule.options_at(0, peak)
        for group, before, peak, kept in zip(self.param_groups, live, plan.peaks, plan.kept, strict=True):
            group.update(kept)
            group[PEAK] = peak
            for name in {"lr", STEP, *driven} & before.keys():
                group[name] = adopt(before[name], group.get(name, before[name]))
        self._written = [self._found_in(group) for group in self.param_groups]
        self._state_is_dry = False
        self._move_to(plan.step)
        self._warned_past_end = self._warned_overwritten = False


@dataclasses.dataclass(slots=True)
class _Written:
    """What was last written into a parameter group.

    Attributes:
        group: the group.
        options: the counter and what the schedule drives, by name: the very objects, to notice when
            somebody else writes, and to put tensors back.
        rate: the rate's value; None where it was written on a device.
        key: the position and the peak that the values belong to; None where that isn't known.
    """

    group: dict[str, Any]
    options: dict[str, Any]
    rate: float | None
    key: tuple[int, float] | None

    def is_up_to_date(self) -> bool:
        """Whether the group's values are those of its present position and peak."""
        return self.key is not None and self.key == (int(self.group[STEP]), self.group[PEAK])

    def rewrite(self, options_at: Callable[[int, float], Mapping[str, Any]]) -> None:
        """Put the values for its position into a group of plain numbers."""
        group, options = self.group, self.options
        step, peak = group[STEP], group[PEAK]
        driven = options_at(step, peak)
        for name, value in driven.items():
            # A number in place of a number, as it mostly is, without a call.
            current = group.get(name)
            plain = type(value) is type(current) is float
            options[name] = group[name] = value if plain else written_value(current, value)
        options[STEP] = step
        self.rate = driven["lr"]
        self.key = step, peak

    def is_untouched(self, group: dict[str, Any]) -> bool:
        """Whether this is the group, and all that was written is in it; never sure of what is in a tensor."""
        if group is not self.group or self.key is None or group[PEAK] is not self.key[1]:
            return False
        # Asked at every step; all() would take as long again.
        for name, value in self.options.items():  # noqa: SIM110
            if group[name] is not value or isinstance(value, Tensor):
                return False
        return True


def _own_rate(group: Mapping[str, Any], default: Any) -> Any:
    """A group's rate as an object of its own: a tensor where it, or the default, is one, or to be captured.

    One default is shared by all groups.
    """
    rate = group["lr"]
    parameter = next(iter(group["params"]), None)
    # To be captured: a number would be a constant of the graph.
    capturable = bool(group.get("capturable"))
    device = parameter.device if capturable and parameter is not None else None
    if isinstance(rate, Tensor):
        rate = own_copy(rate).to(device)
        return rate if rate.is_floating_point() else rate.float()
    if isinstance(default, Tensor):
        dtype = default.dtype if default.is_floating_point() else torch.float32
        return torch.tensor(float(rate), dtype=dtype, device=device or default.device)
    return torch.tensor(float(rate), dtype=torch.float32, device=device) if capturable else rate


def _schedule_problems(schedule: Any) -> Iterator[Problem]:
    hint = "Use WarmupCosine, or a frozen dataclass with peak_lr, total_steps and options_at(step, peak_lr)"
    kind: Any = type(schedule)
    if not _is_schedule_class(kind):
        yield Problem("schedule", f"= {schedule!r}: must be a schedule", hint)
        return
    for name, value in shape_of(schedule).items():
        if not all(isinstance(v, _PLAIN) for v in (value if isinstance(value, tuple) else (value,))):
            yield Problem(f"schedule.{name}", f"= {value!r}: must be a plain number or string, to be saved", hint)
        if name in ("schedule", "step"):
            yield Problem(f"schedule.{name}", "this name is taken in the saved state", "Rename the field")


_PLAIN = (bool, int, float, str, type(None))


@functools.lru_cache(maxsize=256)
def _is_schedule_class(kind: Hashable) -> bool:
    """What isinstance(schedule, Schedule) asks, once for all schedules of a class."""
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        return False
    names = {*dir(kind), *(field.name for field in dataclasses.fields(kind))}
    return names.issuperset(("peak_lr", "total_steps", "options_at"))


def _policy_problems(policy: object) -> list[Problem]:
    allowed = get_args(OnMismatch)
    if policy in allowed:
        return []
    return [Problem("on_mismatch", f"= {policy!r}: must be one of {', '.join(map(repr, allowed))}")]


def _peak_of(group: Mapping[str, Any], default: Any, optimizer: str) -> float:
    # In the group of another optimizer, which has a position, `lr` is the rate of that. PyTorch's
    # ZeroRedundancyOptimizer puts every argument into every group, peak_lr beside a group's own lr.
    name = PEAK if PEAK in group and (STEP in group or "lr" not in group) else "lr"
    return _checked_rate(name, group.get(name, default), optimizer)


def _checked_rate(name: str, value: Any, optimizer: str) -> float:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    number = number or (isinstance(value, Tensor) and value.numel() == 1)
    if not number or not 0 <= float(value) < math.inf:
        raise InvalidArgumentsError(
            optimizer, [Problem(name, f"= {value!r}: a parameter group's rate must be a finite number, zero or more")]
        )
    return float(value)
