"""What happens in the runs of the cases before they are saved, and when they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .run import Run

__all__ = [
    "change_by_hand",
    "evaluate",
    "join_head",
    "switch_to_evaluation",
    "switch_to_training",
    "thaw",
    "train",
    "train_and_join_head",
    "train_and_thaw",
]

# So many that schedule-free RAdam has left its first phase, in which it doesn't move the weights.
LONG = 8


def train(updates: int = 4) -> Callable[[Run], None]:
    """What makes some updates."""
    return lambda run: run.train(updates)


def evaluate(run: Run) -> None:
    """Train, and switch to the evaluation weights."""
    run.train(LONG)
    switch_to_evaluation(run)


def switch_to_evaluation(run: Run) -> None:
    """Switch to the evaluation weights."""
    for optimizer in _with_modes(run):
        optimizer.eval()


def switch_to_training(run: Run) -> None:
    """Switch to the training weights."""
    for optimizer in _with_modes(run):
        optimizer.train()


def thaw(run: Run) -> None:
    """Train what rules have frozen."""
    run.models["backbone"].requires_grad_(True)


def train_and_thaw(run: Run) -> None:
    """Train; then train what rules have frozen, too."""
    run.train(3)
    thaw(run)
    run.train(2)


def join_head(**options: Any) -> Callable[[Run], None]:
    """What adds the head's parameters to the first optimizer, as a group of their own with these options."""

    def act(run: Run) -> None:
        optimizer = next(iter(run.each.values()))
        optimizer.add_param_group({"params": list(run.models["head"].parameters()), **options})

    return act


def train_and_join_head(**options: Any) -> Callable[[Run], None]:
    """What trains, adds the head to the first optimizer, and trains on."""

    def act(run: Run) -> None:
        run.train(LONG - 2)
        join_head(**options)(run)
        run.train(2)

    return act


def change_by_hand(run: Run) -> None:
    """Train, and change options that the configuration sets, as a training loop may."""
    run.train(3)
    for optimizer in run.each.values():
        optimizer.param_groups[0].update(weight_decay=0.5, peak_lr=0.03)
    run.train(2)


def _with_modes(run: Run) -> list[Any]:
    return [optimizer for optimizer in run.each.values() if hasattr(optimizer, "eval")]
