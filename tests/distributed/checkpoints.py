"""Scenarios: an optimizer's state through torch.distributed.checkpoint."""

import contextlib
import copy
import functools
import warnings

import torch
from torch import distributed
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from training import LATE, UPDATES, Training, assert_close, assert_same, assert_same_options, group_options, whole

_FULL = {"full_state_dict": True}
_FLAT = {"flatten_optimizer_state_dict": True}
_TO_RANK_0 = {**_FULL, "cpu_offload": True}
_FROM_RANK_0 = {**_FULL, "broadcast_from_rank0": True}
# How to get a state, and how to set it. PyTorch's way back from a flattened state that is also a full
# one ends in a KeyError for any optimizer if both are asked for; that it is flattened it sees by itself.
ROUTES = {
    "sharded": ({}, {}),
    "full": (_FULL, _FULL),
    "full, by rank 0": (_TO_RANK_0, _FROM_RANK_0),
    "flattened": (_FLAT, _FLAT),
    "flattened full": ({**_FULL, **_FLAT}, _FULL),
    "flattened full, by rank 0": ({**_TO_RANK_0, **_FLAT}, _FROM_RANK_0),
    "on disk": ({}, {}),
    "on disk, flattened": (_FLAT, _FLAT),
}


def get(training, options):
    """Weights and optimizer, as they are saved."""
    options = StateDictOptions(**options)
    return {
        "model": get_model_state_dict(training.model, options=options),
        "optimizer": get_optimizer_state_dict(training.model, training.optimizer, options=options),
    }


def set_(training, state, options):
    options = StateDictOptions(**options)
    set_model_state_dict(training.model, state["model"], options=options)
    set_optimizer_state_dict(training.model, training.optimizer, state["optimizer"], options=options)


def fresh(subject, wrap, layout, updates, **options):
    """Another network, with other weights, and an optimizer to load what was saved after `updates`."""
    training = Training(subject, wrap, layout, seed=1, **options)
    if layout == "late group" and updates > LATE:
        training.add_second_group()
    return training


@functools.cache
def uninterrupted(subject, wrap, layout):
    """The weights after each update of a training that nothing is saved of."""
    return Training(subject, wrap, layout).history(UPDATES)


def continues_exactly(subject, wrap, layout, route, after, folder):
    how_to_get, how_to_set = ROUTES[route]
    training = Training(subject, wrap, layout)
    training.history(after)

    state = get(training, how_to_get)
    resumed = fresh(subject, wrap, layout, after)
    if route.startswith("on disk"):
        checkpoint.save(state, checkpoint_id=folder)
        state = get(resumed, how_to_get)
        checkpoint.load(state, checkpoint_id=folder)
    else:
        # What PyTorch returns shares its tensors with the optimizer.
        state = copy.deepcopy(state)
    set_(resumed, state, how_to_set)
    resumed.updates = after

    resumed.assert_position()
    expected = uninterrupted(subject, wrap, layout)[after:]
    assert_same(training.history(UPDATES), expected)
    assert_same(resumed.history(UPDATES), expected)
    assert_same_options(group_options(resumed.optimizer), group_options(training.optimizer))


def rewinds_exactly(subject, wrap, route):
    training = Training(subject, wrap)
    training.history(3)
    state = copy.deepcopy(get(training, ROUTES[route][0]))
    training.history(UPDATES)

    set_(training, state, ROUTES[route][1])
    training.updates = 3

    training.assert_position()
    assert_same(training.history(UPDATES), uninterrupted(subject, wrap, "plain")[3:])


def assert_has_state(training):
    """Every trainable parameter has a state, no other one has, and none is empty."""
    parameters = [p for group in training.optimizer.param_groups for p in group["params"] if p.requires_grad]
    state = training.optimizer.state
    assert set(state) == set(parameters), f"{len(state)} states of {len(parameters)} trainable parameters"
    empty = [own for own in state.values() if not own]
    assert not empty, f"{len(empty)} states are empty"


def reading_changes_nothing(subject, wrap, layout, route):
    training = Training(subject, wrap, layout)
    options, weights = group_options(training.optimizer), training.weights()

    state = get(training, ROUTES[route][0])
    again = get(training, ROUTES[route][0])

    assert_same_options(group_options(training.optimizer), options)
    assert_same(training.weights(), weights)
    training.assert_position()
    assert all(parameter.grad is None for parameter in training.model.parameters())
    assert_has_state(training)
    counts = [float(own["step"]) for own in training.optimizer.state.values() if "step" in own]
    assert_same(counts, [0.0] * len(counts))
    assert set(state["optimizer"]) == set(again["optimizer"])
    assert_same(training.history(4), uninterrupted(subject, wrap, layout)[:4])


@contextlib.contextmanager
def _single_process():
    """For calls that PyTorch warns of in a process without a group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is .*unavailable or uninitialized", UserWarning)
        yield


def _whole_state(training):
    """A copy of what the optimizer keeps of each parameter."""
    return [
        {k: whole(v) if isinstance(v, torch.Tensor) else v for k, v in training.optimizer.state[parameter].items()}
        for group in training.optimizer.param_groups
        for parameter in group["params"]
        if parameter.requires_grad
    ]


def stateless_optimizer_stays_where_it_is(wrap, route):
    # Without momentum there is never a state, and PyTorch makes its step of zeros at every reading.
    training, resumed, untouched = (Training("sgd", wrap, seed=seed, momentum=0.0) for seed in (0, 1, 0))
    training.history(5)
    training.model.zero_grad()

    state = copy.deepcopy(get(training, ROUTES[route][0]))
    set_(resumed, state, ROUTES[route][1])
    resumed.updates = 5

    training.assert_position()
    resumed.assert_position()
    expected = untouched.history(UPDATES)[5:]
    assert_same(training.history(UPDATES), expected)
    assert_same(resumed.history(UPDATES), expected)


def save(subject, wrap, layout, route, after, folder):
    """The first half of a resumption on another number of processes; `resume` is the second."""
    training = Training(subject, wrap, layout)
    training.history(after)
    state = get(training, ROUTES[route][0])
    if distributed.is_initialized():
        checkpoint.save(state, checkpoint_id=folder)
    else:
        with _single_process():
            checkpoint.save(state, checkpoint_id=folder)
    expected = {
        "weights": training.weights(),
        "state": _whole_state(training),
        "options": group_options(training.optimizer),
    }
    training.history(UPDATES)
    expected["end"] = training.weights()
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        torch.save(expected, f"{folder}-expected.pt")


def resume(subject, wrap, layout, route, after, folder):
    expected = torch.load(f"{folder}-expected.pt", weights_only=True)
    resumed = fresh(subject, wrap, layout, after)
    how_to_get, how_to_set = ROUTES[route]
    state = get(resumed, how_to_get)
    if distributed.is_initialized():
        checkpoint.load(state, checkpoint_id=folder)
    else:
        with _single_process():
            checkpoint.load(state, checkpoint_id=folder)
    set_(resumed, state, how_to_set)
    resumed.updates = after

    resumed.assert_position()
    # What was saved is there to the last bit; the gradients that follow are sums in another order.
    assert_same(resumed.weights(), expected["weights"])
    assert_same(_whole_state(resumed), expected["state"])
    assert_same_options(group_options(resumed.optimizer), expected["options"])
    resumed.history(UPDATES)
    assert_close(resumed.weights(), expected["end"])


def refuses(subject, wrap, saved_layout, layout, route):
    """The state of other groups, or (where the layout is "renamed") of a parameter of another name."""
    saved = Training(subject, wrap, "plain" if saved_layout == "renamed" else saved_layout)
    saved.history(4)
    state = copy.deepcopy(get(saved, ROUTES[route][0]))["optimizer"]
    if saved_layout == "renamed":
        state = _renamed(state, "4.bias", "4.offset")
    training = Training(subject, wrap, layout, seed=1)
    training.history(2)
    weights, kept, options = training.weights(), _whole_state(training), group_options(training.optimizer)

    refused = False
    with warnings.catch_warnings():
        # A warning is no refusal.
        warnings.simplefilter("ignore")
        try:
            how_to_set = StateDictOptions(**ROUTES[route][1])
            set_optimizer_state_dict(training.model, training.optimizer, state, options=how_to_set)
        except (ValueError, KeyError, TypeError, RuntimeError):
            refused = True
    assert refused, f"a state of {saved_layout} was taken for one of {layout}"

    assert_same(training.weights(), weights)
    assert_same(_whole_state(training), kept)
    assert_same_options(group_options(training.optimizer), options)
    training.history(UPDATES)


def _renamed(value, old, new):
    if isinstance(value, dict):
        return {_renamed(key, old, new): _renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, old, new) for item in value]
    return value.replace(old, new) if isinstance(value, str) else value
