"""The modes of schedule-free optimizers, and the exact way from training to evaluation weights and back.

Their own `eval()` and `train()` are arithmetic on the weights, which rounds: there and back again is
not where it began. So copies of the training weights are kept meanwhile, and put back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = [
    "TrainingWeights",
    "evaluation_weights",
    "has_modes",
    "in_training_mode",
    "restore_training_weights",
    "switch_back",
    "switch_to_evaluation",
]


def has_modes(optimizer: Optimizer) -> bool:
    """Whether an optimizer has training and evaluation weights to switch between."""
    # A trainer's wrapper has both methods, whatever it wraps.
    inner = getattr(optimizer, "optimizer", None)
    if isinstance(inner, Optimizer):
        return has_modes(inner)
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


def in_training_mode(optimizer: Optimizer) -> bool:
    """Whether an optimizer with modes is in training mode, by the `train_mode` of its groups.

    That is where the schedulefree package and those after it keep it; one that doesn't is taken to
    be in training mode.
    """
    return has_modes(optimizer) and any(group.get("train_mode", True) for group in optimizer.param_groups)


@contextmanager
def evaluation_weights(*optimizers: Optimizer) -> Iterator[None]:
    """Evaluation weights inside the `with` block, the very same training weights after it.

    The weights of optimizers that leave the training mode are copied for the time of the block and
    put back bit for bit, also after an exception, so that training goes on as if there had been no
    evaluation. An optimizer in evaluation mode already stays in it; one without modes is left alone.
    What is loaded into the weights inside the block is lost after it.

    >>> import torch
    >>> from optim_core import evaluation_weights
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # or a schedule-free one
    >>> with evaluation_weights(optimizer):
    ...     published = {name: weight.clone() for name, weight in model.state_dict().items()}

    Args:
        *optimizers: plain optimizers, or a trainer's wrappers around them.
    """
    kept: list[TrainingWeights] = []
    try:
        switch_to_evaluation(optimizers, kept)
        yield
    finally:
        switch_back(kept)


@dataclass(frozen=True)
class TrainingWeights:
    """Copies of an optimizer's training weights, kept while it is in evaluation mode.

    Attributes:
        optimizer: whose they are.
        pairs: each parameter and the copy of its weights, by parameter group.
    """

    optimizer: Any
    pairs: Sequence[Sequence[tuple[Tensor, Tensor]]]

    @property
    def tensors(self) -> list[list[Tensor]]:
        """The copies, by parameter group, as they can be saved."""
        return [[weights for _, weights in group] for group in self.pairs]


def switch_to_evaluation(optimizers: Iterable[Any], kept: list[TrainingWeights]) -> None:
    """Switch optimizers that are in training mode to their evaluation weights.

    Args:
        optimizers: all of them; those without modes, or in evaluation mode, are left alone.
        kept: what is needed to `switch_back` is appended here, before each switch, so that it is
            known even where this function is interrupted.
    """
    for optimizer in optimizers:
        if in_training_mode(optimizer):
            pairs = [[(p, p.detach().clone()) for p in group["params"]] for group in optimizer.param_groups]
            kept.append(TrainingWeights(optimizer, pairs))
            optimizer.eval()


def switch_back(kept: list[TrainingWeights]) -> None:
    """Switch optimizers to training mode and put back the weights that were kept, bit for bit.

    Args:
        kept: what `switch_to_evaluation` filled in; empty afterwards.
    """
    try:
        _switch_back(kept)
    except KeyboardInterrupt:
        # Interrupted half-way: all of it again, and only then the interrupt.
        _switch_back(kept)
        kept.clear()
        raise
    kept.clear()


def restore_training_weights(optimizer: Any, tensors: Sequence[Sequence[Tensor]]) -> None:
    """Switch an optimizer to training mode, with the weights that `TrainingWeights.tensors` held.

    Args:
        optimizer: over the same parameters as the one that they were kept of.
        tensors: by parameter group.

    Raises:
        ValueError: the groups differ in number or size.
    """
    live = (group["params"] for group in optimizer.param_groups)
    pairs = [list(zip(params, saved, strict=True)) for params, saved in zip(live, tensors, strict=True)]
    switch_back([TrainingWeights(optimizer, pairs)])


def _switch_back(kept: Iterable[TrainingWeights]) -> None:
    # All of them, whichever fails.
    with ExitStack() as stack:
        for weights in kept:
            stack.callback(_put_back, weights)


def _put_back(weights: TrainingWeights) -> None:
    weights.optimizer.train()
    with torch.no_grad():
        for group in weights.pairs:
            for parameter, copy in group:
                parameter.copy_(copy)
