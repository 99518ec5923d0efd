"""Scenarios: the two sets of weights of the schedule-free optimizer, on two processes."""

import copy
import functools

import torch
from checkpoints import ROUTES, assert_has_state, get, set_
from torch.distributed import checkpoint
from training import (
    SUBJECTS,
    UPDATES,
    Training,
    assert_close,
    assert_same,
    assert_same_options,
    group_options,
    network,
    whole,
)

from optim_core import ComponentOptimizers, build_optimizers


def evaluates_the_average(subject, wrap):
    training = Training(subject, wrap)
    bases, highest = [], 0.0
    for _ in range(UPDATES):
        training.history(training.updates + 1)
        highest = max(highest, training.optimizer.param_groups[0]["scheduled_lr"])
        # Each weighs as much as the square of the highest rate so far (the paper's gamma_t^2).
        bases.append((highest**2, _bases(training)))
    trained = training.weights()

    training.optimizer.eval()

    total = sum(weight for weight, _ in bases)
    average = {name: sum(weight * base[name] for weight, base in bases) / total for name in trained}
    assert_close(training.weights(), average)
    inputs, _ = training.batch()
    plain = network()
    plain.load_state_dict(average)
    with torch.no_grad():
        assert_close(training.model(inputs), plain(inputs))
    training.optimizer.train()
    if wrap == "fsdp":
        training.model.reshard()
    assert_close(training.weights(), trained)


def _bases(training):
    return {name: whole(training.optimizer.state[p]["z"]) for name, p in training.named_parameters().items()}


@functools.cache
def _with_switches(subject, wrap, after):
    """The weights after each update where the optimizer is switched to evaluation and back once."""
    training = Training(subject, wrap)
    training.history(after)
    training.optimizer.eval()
    evaluated = training.weights()
    training.optimizer.train()
    return evaluated, training.history(UPDATES)


def continues_from_evaluation_mode(subject, wrap, route, after, folder):
    training = Training(subject, wrap)
    training.history(after)
    training.optimizer.eval()

    state = get(training, ROUTES[route][0])
    resumed = Training(subject, wrap, seed=1)
    if route.startswith("on disk"):
        checkpoint.save(state, checkpoint_id=folder)
        state = get(resumed, ROUTES[route][0])
        checkpoint.load(state, checkpoint_id=folder)
    else:
        state = copy.deepcopy(state)
    set_(resumed, state, ROUTES[route][1])
    resumed.updates = after

    evaluated, expected = _with_switches(subject, wrap, after)
    for each in (training, resumed):
        assert [group["train_mode"] for group in each.optimizer.param_groups] == [False]
        assert_same(each.weights(), evaluated)
        each.optimizer.train()
        assert_same(each.history(UPDATES), expected)
    assert_same_options(group_options(resumed.optimizer), group_options(training.optimizer))


def reading_in_evaluation_mode_changes_nothing(subject, wrap, route):
    training, untouched = Training(subject, wrap), Training(subject, wrap)
    training.optimizer.eval()
    options, weights = group_options(training.optimizer), training.weights()

    get(training, ROUTES[route][0])

    assert_same_options(group_options(training.optimizer), options)
    assert_same(training.weights(), weights)
    assert_has_state(training)
    training.optimizer.train()
    assert_same(training.history(UPDATES), untouched.history(UPDATES))


def switching_before_the_first_update_leaves_no_state(subject, wrap):
    training = Training(subject, wrap)
    training.optimizer.eval()
    training.optimizer.train()
    training.optimizer.eval()
    assert not training.optimizer.state, f"there are {len(training.optimizer.state)} states"
    training.optimizer.train()
    assert_same(training.history(UPDATES), Training(subject, wrap).history(UPDATES))


def _built(subject, wrap):
    """A training, and the optimizers of its network's only component, built over the wrapped network."""
    training = Training(subject, wrap)
    if subject.startswith("naive"):
        return training, ComponentOptimizers({"network": training.optimizer})
    spec = {"type": "schedule_free_radam", "params": SUBJECTS[subject].arguments()}
    optimizers = build_optimizers({"network": training.model}, {"network": spec})
    training.optimizer = optimizers["network"]
    return training, optimizers


def evaluation_leaves_training_as_it_was(subject, wrap, reshard):
    """Evaluate inside `eval_mode()`; "by hand" shards the weights again there, as one can without it."""
    training, optimizers = _built(subject, wrap)
    training.history(5)
    inputs, _ = training.batch()
    with optimizers.eval_mode(), torch.no_grad():
        training.model(inputs)
        if reshard == "by hand":
            training.model.reshard()
    assert_same(training.history(UPDATES), Training(subject, wrap).history(UPDATES)[5:])


def evaluation_is_of_the_evaluation_weights(subject, wrap):
    training, optimizers = _built(subject, wrap)
    training.history(5)
    inputs, _ = training.batch()
    plain = network()
    with torch.no_grad():
        training.model(inputs)
        with optimizers.eval_mode():
            outputs = training.model(inputs)
            if wrap == "fsdp":
                training.model.reshard()
            plain.load_state_dict(training.weights())
        assert_close(outputs, plain(inputs))
