"""What PyTorch's own tools expect of an optimizer: hooks, gradient scaling, distributed checkpoints, the compiler."""

from __future__ import annotations

import contextlib
import copy
import math
import textwrap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from optim_core.for_tools import in_one_line
from optim_tools.conformance.check import Deviation, check
from optim_tools.conformance.comparison import difference, empty_entries, snapshot, weights_difference, without_counters
from optim_tools.conformance.continuation import course, parting
from optim_tools.conformance.not_applicable import NotApplicable
from optim_tools.conformance.small_problem import Training
from optim_tools.conformance.subject import Subject

__all__: list[str] = []

# Results of the same mathematics by other kernels.
_RTOL, _ATOL = 1e-3, 1e-4
# Some values are found to change, and some states to exist, only in the updates after the first.
_WARMING, _COMPILED = 4, 12

_EMPTY_ENTRIES = "`state` has empty entries before the first step, so that it is taken for one that has been created"
_DROPPED = (
    "what is restored is in a key of its own of state_dict(), which torch.distributed.checkpoint drops: keep it in "
    "`param_groups` or in `state`; or a step at a rate of zero moves the weights"
)
_FLAT = (
    "a parameter group has a key that a fresh optimizer's doesn't have, and is not restored: give every group all of "
    "its keys when it is added"
)


@check(
    "tools-step-hooks",
    why="Profilers, loggers and weight averaging hang on the step hooks, and count each call as one update.",
    cause="step() is called or patched in a way that PyTorch's wrapper around it doesn't expect",
)
def step_hooks(subject: Subject) -> None:
    training = Training(subject)
    _require_hooks_once(training, "")
    bases: tuple[Any, ...] = type(training.optimizer).__mro__[1:]
    for base in bases:
        if not issubclass(base, torch.optim.Optimizer) or base is torch.optim.Optimizer:
            continue
        # Making an instance puts a wrapper that runs hooks around the `step` of its class, for good.
        with contextlib.suppress(Exception):
            base([nn.Parameter(torch.ones(2, 2))])
        _require_hooks_once(training, f" after a plain {base.__name__} was made")
        _require_hooks_once(Training(subject), f" where a plain {base.__name__} was made before")


@check(
    "tools-grad-scaler",
    why="In mixed precision an update whose gradients overflow is skipped; the schedule must not move on by it.",
    cause="step() can't be called by torch.amp.GradScaler",
    claim="grad_scaler",
)
def grad_scaler(subject: Subject) -> None:
    if subject.claims.needs_closure:
        raise NotApplicable("torch.amp.GradScaler has no closures")
    _require_overflows_skipped(subject)
    if subject.accepts("fused"):
        try:
            Training(subject, fused=True)
        except Exception:
            return  # not for these parameters on this device
        _require_overflows_skipped(subject, fused=True)


@check(
    "tools-distributed-reading",
    why="torch.distributed.checkpoint steps a fresh optimizer at a rate of zero, only to see what its state will be.",
    cause="step() fails where every rate and every gradient is zero",
    claim="distributed_checkpoint",
)
def distributed_reading(subject: Subject) -> None:
    state_dict = _distributed_state(subject)
    expected = course(_training(subject), subject.within_horizon(6))
    for frozen in (False, True):
        training = _training(subject)
        before = _without_state(training)
        training.model.requires_grad_(not frozen)
        try:
            for _ in range(3 if frozen else 1):
                state_dict.get_optimizer_state_dict(training.model, training.optimizer)
        except Exception:
            if not frozen:
                raise
            continue  # a step without any gradient is another check's
        training.model.requires_grad_(True)
        which = "a fresh optimizer over frozen parameters" if frozen else "a fresh optimizer"
        after = _without_state(training)
        # Neither the state is compared nor, from here on, the weights: PyTorch's own classes count the dry step in
        # their state, and others do in their groups. Where there is a schedule, it goes by such a count.
        if not subject.has_schedule:
            before, after = _without_counts(before, after), _without_counts(after, before)
        found = difference(before, after) or parting(training, expected, weights=False)
        if found:
            raise Deviation(
                f"get_optimizer_state_dict() of {which}: {found}",
                "weights, parameter groups and rates are as if it hadn't been read",
                "step() counts the dry step, in which every rate and gradient is zero, as an update: see "
                "optim_core.authoring.is_dry_step",
            )


@check(
    "tools-distributed-round-trip",
    why="Sharded models are saved by torch.distributed.checkpoint, which keeps `state` and `param_groups` only.",
    cause="load_state_dict() needs a key that torch.distributed.checkpoint doesn't keep, such as 'scheduler'; "
    "keep the position in `param_groups`",
    claim="distributed_checkpoint",
)
def distributed_round_trip(subject: Subject) -> None:
    module = _distributed_state(subject)
    made = subject.within_horizon(5)
    training = _training(subject).run(made)
    plain = training.resumed()
    saved = []
    for flat in (False, True):
        options = module.StateDictOptions(flatten_optimizer_state_dict=flat)
        try:
            state = module.get_optimizer_state_dict(training.model, training.optimizer, options=options)
        except NotImplementedError as error:
            raise Deviation(
                f"get_optimizer_state_dict() in flattened form: {in_one_line(error)}",
                "a state that torch.distributed.checkpoint can flatten",
                "`state` holds a list, None or an object: keep tensors and numbers there, and dictionaries of these",
            ) from error
        # A copy: loading shares tensors with what is loaded.
        saved.append((training.with_weights(), copy.deepcopy(state), options))
    expected = course(training, subject.within_horizon(10, made))
    if parting(plain, expected):
        raise NotApplicable("load_state_dict() doesn't restore the training either (state-round-trip)")
    for fresh, state, options in saved:
        hollow = empty_entries(fresh.optimizer) > 0
        module.set_optimizer_state_dict(fresh.model, fresh.optimizer, state, options=options)
        if found := parting(fresh, expected):
            form = " in flattened form" if options.flatten_optimizer_state_dict else ""
            raise Deviation(
                f"resumed with set_optimizer_state_dict(){form}, {found}",
                "the training goes on bit for bit as the uninterrupted one",
                _EMPTY_ENTRIES if hollow else _FLAT if options.flatten_optimizer_state_dict else _DROPPED,
            )


@check(
    "tools-compile",
    why="A compiled training step that is compiled anew whenever the rate moves is slower than one that isn't.",
    cause="step() does something that the compiler can't follow: keep it out with optim_core.authoring.keep_uncompiled",
    claim="compile",
)
def compiled(subject: Subject) -> None:
    if subject.claims.needs_closure:
        raise NotApplicable("a step that needs a closure decides by the loss how to go on, which isn't compiled")
    updates = subject.within_horizon(_COMPILED)
    if updates < _COMPILED:
        raise NotApplicable(f"the schedule has less than {_COMPILED} updates")
    _require_compiler()
    training, reference = _compilable(subject)
    reference.run(updates)
    try:
        compilations = _compile(training, updates)
    except Exception as error:
        raise Deviation(
            f"{textwrap.shorten(in_one_line(error), 300)}, in update {training.batch + 1} under torch.compile",
            "no exception, as without it",
        ) from error
    late = [number for number, count in enumerate(compilations, 1) if count and number > _WARMING]
    # One or two may be of what step() does now and then.
    if len(late) > 2:
        raise Deviation(
            f"updates {', '.join(map(str, late))} of {updates} are compiled anew{_reason(subject)}",
            f"hardly any compilation after {_WARMING} updates",
            "step() goes by a Python value that is another in each update: make it a tensor that is filled in place, "
            "or keep the bookkeeping out with optim_core.authoring.keep_uncompiled",
        )
    if found := weights_difference(reference.weights(), training.weights(), rtol=_RTOL, atol=_ATOL):
        raise Deviation(
            f"after {updates} updates, compiled and not, {found}",
            "the same weights within the precision of other kernels",
            "a value that changes was compiled as a constant: a rate or a counter that is a Python number",
        )


def _training(subject: Subject) -> Training:
    return Training(subject, groups=subject.group_count)


def _require_hooks_once(training: Training, when: str) -> None:
    calls: list[str] = []

    def noting(which: str) -> Callable[..., None]:
        def hook(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            # One that is made of others, for some of the parameters each, may run theirs, too.
            if optimizer is training.optimizer or _parameters_of(optimizer) == _parameters_of(training.optimizer):
                calls.append(which)

        return hook

    optimizer, names = training.optimizer, ("global pre", "pre", "post", "global post")
    handles = [
        register_optimizer_step_pre_hook(noting("global pre")),
        optimizer.register_step_pre_hook(noting("pre")),
        optimizer.register_step_post_hook(noting("post")),
        register_optimizer_step_post_hook(noting("global post")),
    ]
    try:
        training.run(1)
    finally:
        for handle in handles:
            handle.remove()
    counts = {name: calls.count(name) for name in names}
    if wrong := {name: count for name, count in counts.items() if count != 1}:
        listing = ", ".join(f"the {name}-hook ran {_times(count)}" for name, count in wrong.items())
        more = max(wrong.values()) > 1
        raise Deviation(
            f"in one step(){when}, {listing}",
            "each step hook runs once",
            "step() calls super().step(), which PyTorch wraps too: call it through optim_core.authoring.without_hooks"
            if more
            else "the instance has a `step` of its own, which hides the class's that PyTorch has wrapped",
        )


def _parameters_of(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def _times(count: int) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _require_overflows_skipped(subject: Subject, **changes: Any) -> None:
    training, unscaled = Training(subject, **changes), Training(subject, **changes)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    how = "".join(f" with {name}={value}" for name, value in changes.items())
    # The first, too: a scaler begins with a scale that is too large.
    for overflows in (True, False, False, True, False, False):
        if training.batch >= subject.within_horizon(training.batch + 1):
            break
        before = snapshot(training.optimizer)
        training.optimizer.zero_grad()
        loss: Tensor = scaler.scale(training.loss(training.batch))
        torch.autograd.backward(loss * math.inf if overflows else loss)
        torch.default_generator.manual_seed(training.batch)
        scaler.step(training.optimizer)
        scaler.update()
        if not overflows:
            unscaled.run(1)
            training.batch += 1
            continue
        after = snapshot(training.optimizer)
        if not before["state"]:
            # A fused step makes the state, and then leaves it at zero.
            before, after = ({**taken, "state": {}} for taken in (before, after))
        if found := difference(before, after):
            raise _moved_by_overflow(f"in an update{how} whose gradients overflow, {found}")
    expected = course(unscaled, subject.within_horizon(3, unscaled.batch))
    if found := parting(training, expected, rtol=1e-4, atol=1e-6):
        raise _moved_by_overflow(f"after overflows{how}, {found}")


def _moved_by_overflow(seen: str) -> Deviation:
    return Deviation(
        seen,
        "parameters, state, rate and position are those of a training without the skipped updates",
        "step() advances the schedule, or its own state, without looking at `self.found_inf`, which the scaler sets "
        "while it calls a step() that skips the update by itself",
    )


def _distributed_state(subject: Subject) -> Any:
    """The module `torch.distributed.checkpoint.state_dict`."""
    if not torch.distributed.is_available():
        raise NotApplicable("PyTorch is built without torch.distributed here")
    if subject.claims.needs_closure:
        raise NotApplicable("torch.distributed.checkpoint calls step() without a closure")
    # Of these two checks alone, and slow to import.
    from torch.distributed.checkpoint import state_dict

    return state_dict


def _without_state(training: Training) -> dict[str, Any]:
    return {name: value for name, value in snapshot(training.optimizer).items() if name != "state"}


def _without_counts(taken: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    pairs = zip(taken["param_groups"], other["param_groups"], strict=True)
    return {**taken, "param_groups": [without_counters(group, first) for group, first in pairs]}


def _compilable(subject: Subject) -> tuple[Training, Training]:
    """A training whose step doesn't have to be compiled for each rate, and the same to run uncompiled."""
    if not subject.has_schedule:
        return Training(subject), Training(subject)
    if subject.accepts("capturable"):
        with contextlib.suppress(Exception):
            return Training(subject, capturable=True), Training(subject)
    rate = subject.default_rate
    try:
        return Training(subject, rate=torch.tensor(rate)), Training(subject, rate=rate)
    except Exception as error:
        raise NotApplicable(
            f"it takes neither capturable=True nor a parameter group with a tensor as its lr ({in_one_line(error)}), "
            "and a rate that is a Python number is compiled anew whenever it changes"
        ) from error


def _require_compiler() -> None:
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        compiled.append(graph)
        return _run_uncompiled(graph, inputs)

    def double(value: Tensor) -> Tensor:
        return value * 2

    torch.compiler.reset()
    try:
        torch.compile(double, backend=backend)(torch.ones(2))
    except Exception as error:
        raise NotApplicable(f"torch.compile doesn't work here: {in_one_line(error)}") from error
    if not compiled:
        raise NotApplicable("torch.compile is switched off here")


def _run_uncompiled(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
    """A backend: it is what the compiler's front end makes of the step that is checked."""
    return graph.forward


def _compile(training: Training, updates: int) -> list[int]:
    """Make compiled updates; how many compilations each of them needed."""
    counts = [0] * updates

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        counts[training.batch] += 1
        return graph.forward

    try:
        update = torch.compile(_update_of(training), backend=backend)
        for _ in range(updates):
            _advance(training, update)
    finally:
        torch.compiler.reset()
    return counts


def _reason(subject: Subject) -> str:
    """What the compiler says about a compilation after the first updates."""
    training, _ = _compilable(subject)
    try:
        update = torch.compile(_update_of(training), backend=_run_uncompiled)
        for _ in range(_WARMING):
            _advance(training, update)
        with torch.compiler.set_stance("fail_on_recompile"):
            for _ in range(_COMPILED - _WARMING):
                _advance(training, update)
    except RuntimeError as error:
        lines = [line.strip(" -") for line in str(error).splitlines()]
        # As in "0/1: len(optimizer.param_groups) == 1".
        found = [line.partition(": ")[2] for line in lines if line[:1].isdigit() and ": " in line]
        return f", as {' '.join(found[0].partition(' # ')[0].split())} no longer holds" if found else ""
    finally:
        torch.compiler.reset()
    return ""


def _update_of(training: Training) -> Callable[[Tensor, Tensor], None]:
    model, optimizer = training.model, training.optimizer

    def update(inputs: Tensor, arms: Tensor) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(inputs), arms))
        optimizer.step()

    return update


def _advance(training: Training, update: Callable[[Tensor, Tensor], None]) -> None:
    inputs, arms = training.data(training.batch)
    torch.default_generator.manual_seed(training.batch)
    update(inputs.contiguous(), arms.contiguous())
    training.batch += 1
