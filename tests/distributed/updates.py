"""Scenarios: where the schedule is under data-parallel and sharded training, and what the weights are."""

from torch import distributed
from training import UPDATES, Training, assert_close, whole


def counts_updates(subject, wrap, layout):
    training, alone = Training(subject, wrap, layout), Training(subject, "none", layout)
    training.history(UPDATES)
    alone.history(UPDATES)
    assert_close(training.weights(), alone.weights())
    _assert_same_everywhere(training)


def counts_updates_and_not_backward_passes(subject, wrap):
    training, alone = Training(subject, wrap), Training(subject, "none")
    for _ in range(UPDATES):
        training.update(parts=2)
        training.assert_position()
    alone.history(UPDATES)
    assert_close(training.weights(), alone.weights())
    _assert_same_everywhere(training)


def implementation_makes_no_difference(subject, wrap, implementation):
    # One of PyTorch's ways to calculate an update.
    training, alone = Training(subject, wrap, **{implementation: True}), Training(subject, "none")
    training.history(UPDATES)
    alone.history(UPDATES)
    assert_close(training.weights(), alone.weights())


def _assert_same_everywhere(training):
    options = [
        {name: float(whole(v)) if hasattr(v, "item") else v for name, v in group.items() if name != "params"}
        for group in training.optimizer.param_groups
    ]
    everywhere = [None] * distributed.get_world_size()
    distributed.all_gather_object(everywhere, options)
    assert all(other == options for other in everywhere), everywhere
