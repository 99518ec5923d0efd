"""What saving, restoring, copying and dropping an optimizer has to do."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from optim_core.for_tools import SCHEDULER, in_one_line
from optim_tools.conformance.check import Deviation, check
from optim_tools.conformance.comparison import difference, snapshot, without_counters
from optim_tools.conformance.continuation import course, parting
from optim_tools.conformance.not_applicable import NotApplicable
from optim_tools.conformance.small_problem import Classifier, Training
from optim_tools.conformance.subject import Subject

__all__: list[str] = []

_MOMENTS = (0, 1, 7)
# A schedule that is longer is followed for its first part only: each check is to take less than a second.
_LONGEST = 120
_SCALARS = (Tensor, torch.nn.Parameter, bool, int, float, complex, str, bytes, type(None))
_PLAIN = (*_SCALARS, torch.dtype, torch.device, torch.Size, dict, OrderedDict, list, tuple, set)

_NOT_KEPT = (
    "step() uses something that is in neither `state` nor `param_groups`, an attribute of the optimizer for instance, "
    "or load_state_dict() doesn't restore it"
)
_POSITION_NOT_KEPT = (
    "the position of the schedule isn't saved, or load_state_dict() doesn't restore it together with the rate in "
    "`param_groups`: keep the position there, or inherit from optim_core.ScheduledOptimizer"
)
_RESTORED_TOO_EARLY = "load_state_dict() restores its own part before the base class has compared the groups"
_ALIKE = "the training goes on bit for bit as the uninterrupted one"


@check(
    "state-round-trip",
    why="A training that is resumed from a checkpoint has to give what the uninterrupted one gives.",
    cause="state_dict() or load_state_dict() depends on something that a new process doesn't have",
)
def round_trip(subject: Subject) -> None:
    whole = subject.within_horizon(_LONGEST)
    uninterrupted = course(_training(subject), whole)
    for made in _moments(subject):
        training = _training(subject, made)
        resumed, state = training.with_weights(), copy.deepcopy(training.optimizer.state_dict())
        given = copy.deepcopy(state)
        if made == 1:
            resumed.optimizer.load_state_dict(state_dict=given)
        else:
            resumed.optimizer.load_state_dict(given)
        if found := difference(state, given):
            raise Deviation(
                f"load_state_dict() changes the dictionary that it is given: {found}",
                "the dictionary stays as it is, for whoever loads it once more",
                "it pops or sets keys in it: copy it first",
            )
        expected = uninterrupted[made:] if made == _MOMENTS[-1] else uninterrupted[made : made + 10]
        if found := parting(resumed, expected):
            raise Deviation(f"resumed after {_updates(made)}, {found}", _ALIKE, _cause_of(found))
        if found := parting(training, expected):
            raise Deviation(
                f"saved after {_updates(made)}, {found}",
                "state_dict() changes nothing in the optimizer",
                "state_dict() takes something out of the optimizer, or turns it into another form in place",
            )


@check(
    "state-rewind",
    why="After a divergence, a training goes back to an earlier checkpoint with the optimizer that it has.",
    cause="load_state_dict() can only load into a fresh optimizer",
)
def rewind(subject: Subject) -> None:
    for made in (0, 2):
        training = _training(subject, made)
        state, weights = copy.deepcopy((training.optimizer.state_dict(), training.weights()))
        expected = course(training, subject.within_horizon(8, made))
        training.model.load_state_dict(weights)
        training.optimizer.load_state_dict(state)
        training.batch = made
        if found := parting(training, expected):
            raise Deviation(
                f"taken back by {_updates(len(expected) - 1)}, {found}",
                "the training repeats itself bit for bit",
                "load_state_dict() leaves something as it was: an attribute, a buffer, or a position that only grows",
            )


@check(
    "state-half-precision",
    why="A training of parameters in half precision is resumed as any other, whatever the precision of its moments.",
    cause="load_state_dict() can't load moments of another precision than their parameter's",
    claim="bfloat16",
)
def half_precision(subject: Subject) -> None:
    made = _moments(subject)[-1]
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        training = _training(subject, made, dtype)
        resumed = training.resumed()
        found[dtype] = parting(resumed, course(training, subject.within_horizon(10, made)))
    if found[torch.float32]:
        raise NotApplicable("it can't be resumed in full precision either (state-round-trip)")
    if found[torch.bfloat16]:
        raise Deviation(
            f"with parameters of bfloat16, resumed after {_updates(made)}, {found[torch.bfloat16]}",
            _ALIKE,
            "torch.optim.Optimizer.load_state_dict() gives moments the precision of their parameter: keep them in "
            "it, or restore theirs after it",
        )


@check(
    "state-own-memory",
    why="What an optimizer remembers must not be a gradient or a parameter itself, which change, nor another's memory.",
    cause="the state can't be looked at",
)
def own_memory(subject: Subject) -> None:
    training = _training(subject, _moments(subject)[-1])
    owners: dict[int, str] = {}
    for name, parameter in training.model.named_parameters():
        owned = [
            (name, parameter),
            (f"the gradient of {name}", parameter.grad),
            *((f"{key!r} of {name}", v) for key, v in training.optimizer.state.get(parameter, {}).items()),
        ]
        for what, value in owned:
            if not isinstance(value, Tensor) or value.numel() < 2:
                continue
            place = value.untyped_storage().data_ptr()
            if owners.setdefault(place, what) != what:
                raise Deviation(
                    f"{what} is in the same memory as {owners[place]}",
                    "memory of its own",
                    "a buffer is made once and used for several parameters, or a parameter or gradient is kept without "
                    "clone()",
                )


@check(
    "state-weights-only",
    why="torch.load refuses by default what could run code, so a checkpoint with other objects in it can't be loaded.",
    cause="the state dict holds something other than tensors and plain values",
)
def weights_only(subject: Subject) -> None:
    state = _training(subject, _moments(subject)[-1]).optimizer.state_dict()
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
    except Exception as error:
        seen = _first_not_plain(state) or in_one_line(error)
        raise Deviation(
            f"{seen}: torch.load(..., weights_only=True) refuses it",
            "tensors, numbers, strings and containers of these only",
            "state_dict() passes on an object of the optimizer's: save the numbers that it is made of",
        ) from error
    if found := difference(state, loaded):
        raise Deviation(found, "what was saved is what is loaded", "a value of the state has a pickling of its own")


@check(
    "state-pickle",
    why="Process launchers and whole-object checkpoints pickle a model together with its optimizer.",
    cause="an attribute can't be pickled, or is lost: torch.optim.Optimizer.__getstate__ keeps `defaults`, `state` and "
    "`param_groups` only, so add what step() needs there",
)
def pickled(subject: Subject) -> None:
    _require_faithful_copies(subject, "unpickled", lambda pair: pickle.loads(pickle.dumps(pair)))


@check(
    "state-deepcopy",
    why="Averaging, searching for learning rates and comparing runs copy a model together with its optimizer.",
    cause="an attribute can't be copied, or is lost: torch.optim.Optimizer.__getstate__ keeps `defaults`, `state` and "
    "`param_groups` only, so add what step() needs there",
)
def deep_copied(subject: Subject) -> None:
    _require_faithful_copies(subject, "copied with copy.deepcopy", copy.deepcopy)


@check(
    "state-scheduler-key",
    why="Whoever opens a checkpoint finds under one key what the learning rate follows, and how far it is.",
    cause="state_dict() can't describe the schedule",
)
def scheduler_key(subject: Subject) -> None:
    _require_schedule(subject)
    made = subject.within_horizon(5)
    training = Training(subject)
    first = copy.deepcopy(training.optimizer.state_dict())
    last = training.run(made).optimizer.state_dict()
    if not first.get(SCHEDULER):
        raise Deviation(
            f"state_dict() has the keys {list(first)}",
            f"a key {SCHEDULER!r} with the schedule's shape and position",
            "the class doesn't override state_dict(), or inherits from its optimizer before ScheduledOptimizer",
        )
    if found := _first_not_plain(last[SCHEDULER], f"state_dict()[{SCHEDULER!r}]"):
        raise Deviation(found, "numbers, strings and containers of these only", "it is the schedule's own object")
    if difference(first[SCHEDULER], last[SCHEDULER]) is None:
        raise Deviation(
            f"state_dict()[{SCHEDULER!r}] is the same before the first update and after {_updates(made)}: "
            f"{last[SCHEDULER]!r}",
            "it holds the schedule's position",
            "the position isn't among what is saved there, or is the one at construction",
        )


@check(
    "state-without-schedule",
    why="A checkpoint without a position must not restart the schedule unnoticed: it may be a plain optimizer's.",
    cause="load_state_dict() expects what a plain optimizer's state doesn't have",
)
def without_schedule(subject: Subject) -> None:
    _require_schedule(subject)
    made = _moments(subject)[-1]
    start = Training(subject).optimizer.state_dict()
    training = Training(subject).run(made)
    state = copy.deepcopy(training.optimizer.state_dict())
    without_key = {name: value for name, value in state.items() if name != SCHEDULER}
    pairs = zip(state["param_groups"], start["param_groups"], strict=True)
    bare = {**without_key, "param_groups": [without_counters(group, first) for group, first in pairs]}
    fresh = [(training.with_weights(), copy.deepcopy(given)) for given in (without_key, bare)]
    whole = training.resumed()
    expected = course(training, subject.within_horizon(8, made))
    if parting(whole, expected):
        raise NotApplicable("a state with all of it doesn't restore the training either (state-round-trip)")
    for (resumed, given), lacking in zip(fresh, ("", " and without counters in its groups"), strict=True):
        _require_noticed(resumed, given, expected, f"a state without {SCHEDULER!r}{lacking}, of {_updates(made)},")


@check(
    "state-foreign-refused",
    why="Whoever gives the wrong checkpoint has to learn it, and can go on with the right one.",
    cause="load_state_dict() fails while it is under way",
)
def foreign_refused(subject: Subject) -> None:
    made = subject.within_horizon(3)
    other = Training(subject).run(subject.within_horizon(7)).optimizer.state_dict()
    expected = course(Training(subject).run(made), subject.within_horizon(6, made))
    for what, foreign in _foreign_states(copy.deepcopy(other)):
        training = Training(subject).run(made)
        before = _everything(training)
        try:
            training.optimizer.load_state_dict(foreign)
        except Exception as error:
            refusal = f"a state with {what} is refused ({type(error).__name__}), but "
        else:
            raise Deviation(
                f"a state with {what} is loaded",
                "an exception that says what doesn't fit",
                "load_state_dict() isn't the base class's, and doesn't compare the groups with its own",
            )
        _require_untouched(before, training, refusal, _RESTORED_TOO_EARLY)
        if found := parting(training, expected):
            raise Deviation(f"{refusal}{found}", "the training goes on as if it hadn't been given", _RESTORED_TOO_EARLY)


@check(
    "state-device-move",
    why="A checkpoint that was saved on one device is resumed, examined or exported on another.",
    cause="something stays on the device that it was saved from, or was made on one that the parameters aren't on",
)
def device_move(subject: Subject) -> None:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        raise NotApplicable("there is no device other than the CPU here")
    cpu = torch.device("cpu")
    for source, target in ((cpu, accelerator), (accelerator, cpu)):
        training = Training(subject, device=source).run(subject.within_horizon(7))
        state = copy.deepcopy(training.optimizer.state_dict())
        moved = training.with_weights(device=target)
        moved.optimizer.load_state_dict(copy.deepcopy(state))
        loaded = moved.optimizer.state_dict()
        way = f"moved from {source.type} to {target.type}, "
        for part in ("state", SCHEDULER):
            found = difference(_on(cpu, state.get(part)), _on(cpu, loaded.get(part)), part)
            _require_none(found and way + found, "the same values", "load_state_dict() rebuilds a value")
        stray = next(_stray_states(moved.optimizer), None)
        _require_none(
            stray and way + stray,
            "what has the shape of a parameter is on its device",
            "load_state_dict() bypasses the base class's, which moves the state to the parameters",
        )
        found = parting(moved, course(training, subject.within_horizon(3, 7)), weights=False)
        _require_none(found and way + found, "the same rates on both", _POSITION_NOT_KEPT)


@check(
    "state-memory-freed",
    why="Parameters and moments are most of a device's memory: they have to go with the last reference to them.",
    cause="the optimizer can't be dropped",
)
def memory_freed(subject: Subject) -> None:
    enabled = gc.isenabled()
    gc.disable()
    try:
        training = Training(subject).run(subject.within_horizon(3))
        gone = weakref.ref(training.optimizer)
        del training.optimizer
        if gone() is not None:
            raise Deviation(
                f"after `del optimizer`, the optimizer is still there, held by {_holders_of(gone)}",
                "it is freed without the garbage collector",
                "it and an object of its own refer to each other: a torch.optim.lr_scheduler, a bound method or a "
                "closure over `self`",
            )
    finally:
        if enabled:
            gc.enable()


def _training(subject: Subject, made: int = 0, dtype: torch.dtype = torch.float32) -> Training:
    return Training(subject, groups=subject.group_count, uneven=True, dtype=dtype).run(made)


def _moments(subject: Subject) -> list[int]:
    return [made for made in _MOMENTS if made < subject.within_horizon(made + 1)]


def _updates(count: int) -> str:
    return "1 update" if count == 1 else f"{count} updates"


def _cause_of(found: str) -> str:
    return _POSITION_NOT_KEPT if "learning rate" in found else _NOT_KEPT


def _require_schedule(subject: Subject) -> None:
    if not subject.has_schedule:
        raise NotApplicable("the optimizer has no schedule")


def _require_none(found: str | None, expected: str, cause: str) -> None:
    if found:
        raise Deviation(found, expected, cause)


def _require_faithful_copies(subject: Subject, how: str, duplicate: Callable[[Any], Any]) -> None:
    for made in (0, _moments(subject)[-1]):
        expected = course(_training(subject, made), subject.within_horizon(10, made))
        training = _training(subject, made)
        pair: tuple[Classifier, torch.optim.Optimizer] = duplicate((training.model, training.optimizer))
        if found := parting(training.around(*pair), expected):
            raise Deviation(
                f"{how} after {_updates(made)}, {found}",
                "the copy goes on bit for bit as the original",
                "the copy lacks an attribute, or has it from the class: torch.optim.Optimizer.__getstate__ keeps "
                "`defaults`, `state` and `param_groups` only, so add what step() needs there",
            )
        if found := parting(training, expected):
            raise Deviation(
                f"{how} after {_updates(made)} and the copy trained on, the original differs: {found}",
                "copy and original have nothing in common",
                "the copy shares a tensor or an object with the original",
            )


def _require_noticed(resumed: Training, given: Any, expected: Any, what: str) -> None:
    """Require that a state without a position is refused, loads with a warning, or continues where it should."""
    before = _everything(resumed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            resumed.optimizer.load_state_dict(given)
        except Exception as error:
            refusal = f"{what} is refused ({type(error).__name__}), but "
            _require_untouched(before, resumed, refusal, "the base class loads its part before the rest is looked for")
            return
    if any(not issubclass(w.category, (DeprecationWarning, FutureWarning)) for w in caught):
        return
    try:
        found = parting(resumed, expected)
    except Exception:
        return  # refused, if late
    if found:
        raise Deviation(
            f"{what} is loaded without a word, and {found}",
            "an exception or a warning, or the right position",
            "load_state_dict() takes a position that it doesn't find for zero",
        )


def _require_untouched(before: Any, training: Training, refusal: str, cause: str) -> None:
    if found := difference(before, _everything(training)):
        raise Deviation(f"{refusal}{found}", "nothing has changed", cause)


def _everything(training: Training) -> Any:
    whole = copy.deepcopy(training.optimizer.state_dict())
    return {"optimizer": snapshot(training.optimizer), SCHEDULER: whole.get(SCHEDULER)}


def _foreign_states(state: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """States of an optimizer over other parameters or groups than one over the same network."""
    # An optimizer may make several groups of what it is given.
    (*others, group), values = state["param_groups"], state["state"]
    *kept, last = group["params"]
    names = {"param_names": group["param_names"][:-1]} if "param_names" in group else {}
    fewer = {name: value for name, value in values.items() if name != last}
    smaller = {**group, **names, "params": kept}
    yield (
        "one parameter less in a group",
        copy.deepcopy({**state, "state": fewer, "param_groups": [*others, smaller]}),
    )
    more = {**values, last + 1: values[last]} if last in values else values
    second = {**group, "params": [last + 1]}
    yield (
        "one parameter group more",
        copy.deepcopy({**state, "state": more, "param_groups": [*others, group, second]}),
    )


def _first_not_plain(value: Any, where: str = "state_dict()") -> str | None:
    """The first value in a state that `torch.load` wouldn't take, as a path and its type."""
    if type(value) not in _PLAIN:
        return f"{where} is {_with_article(type(value))}"
    items: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, dict):
        items = iter(value.items())
    elif isinstance(value, (list, tuple, set)):
        items = iter(enumerate(value))
    found = (_first_not_plain(inner, f"{where}[{name!r}]") for name, inner in items)
    return next((text for text in found if text), None)


def _with_article(kind: type) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _on(device: torch.device, value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _on(device, inner) for name, inner in value.items()}
    return [_on(device, inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _stray_states(optimizer: torch.optim.Optimizer) -> Iterator[str]:
    for parameter, values in optimizer.state.items():
        if not isinstance(parameter, Tensor):
            continue
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.device != parameter.device:
                yield f"state[...][{name!r}] is on {value.device} and its parameter on {parameter.device}"


def _holders_of(reference: Callable[[], Any]) -> str:
    optimizer = reference()
    own = vars(optimizer)
    found = (type(holder) for holder in gc.get_referrers(optimizer) if holder is not own and type(holder).__name__)
    names = {kind.__name__ for kind in found if kind.__name__ not in ("frame", "dict", "list", "tuple", "cell")}
    return ", ".join(sorted(names)) or "a container"
