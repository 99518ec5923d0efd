"""`ScheduleFreeCallback`: the weights of schedule-free optimizers under Lightning's Trainer."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, ClassVar, Self

from torch import Tensor

from optim_core.optimizer.evaluation_weights import (
    TrainingWeights,
    has_modes,
    restore_training_weights,
    switch_back,
    switch_to_evaluation,
)

__all__ = ["ScheduleFreeCallback"]

# One project, published under two names whose classes are not related.
_PACKAGES = ("lightning.pytorch", "pytorch_lightning")
_KEY = "training_weights"
_made: dict[tuple[type, ...], type] = {}


class ScheduleFreeCallback:
    """A Lightning callback that switches schedule-free optimizers to their evaluation weights in time.

    `Trainer(callbacks=[ScheduleFreeCallback()])`, of `lightning` or of `pytorch_lightning`:

    - Validation (the sanity check too), testing and prediction see the evaluation weights; training
      goes on with the very same training weights, bit for bit, whatever happens meanwhile.
    - The `state_dict` of every checkpoint holds the evaluation weights, also with
      `save_weights_only=True`; the training weights travel with the callback's state, so that
      `fit(ckpt_path=...)` continues bit for bit.
    - After `fit` the module has the evaluation weights. A copy of the training weights is kept as
      long as the callback is, for a `save_checkpoint` that may follow.

    It works with any number of optimizers; those without modes are left alone.

    Raises:
        ModuleNotFoundError: neither package is installed.
    """

    _plain: ClassVar[type]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # A trainer wants an instance of its own package's Callback. Which package that is, is known
        # when the callback is made for it, and need not be when this module is imported.
        bases = _callback_classes()
        made: Self = object.__new__(cls if issubclass(cls, bases) else _derived(cls, bases))
        return made

    def __init__(self) -> None:
        self._while_evaluating: list[TrainingWeights] = []
        self._after_training: list[TrainingWeights] = []
        self._loaded: dict[int, Sequence[Sequence[Tensor]]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return self._plain.__new__, (self._plain,), vars(self).copy()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Before anything is restored: forget the last fit, and see to what this one saves."""
        if stage == "fit":
            self._while_evaluating, self._after_training, self._loaded = [], [], {}
            # No hook would do: for save_weights_only=True Lightning calls none of a callback's.
            trainer.save_checkpoint = functools.partial(self._save, trainer, trainer.save_checkpoint)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """After a fit that came to its end: leave the trainer as it was."""
        saving = vars(trainer).get("save_checkpoint")
        if stage == "fit" and isinstance(saving, functools.partial) and saving.func == self._save:
            del trainer.save_checkpoint

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """After everything is restored: continue from the training weights."""
        for index, optimizer in enumerate(trainer.optimizers):
            if index in self._loaded:
                restore_training_weights(optimizer, self._loaded[index])
            elif has_modes(optimizer):
                optimizer.train()
        self._loaded = {}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the evaluation weights in the module."""
        switch_to_evaluation(trainer.optimizers, self._after_training)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Switch to the evaluation weights."""
        switch_to_evaluation(trainer.optimizers, self._while_evaluating)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Put the training weights back, if there is more training to come."""
        switch_back(self._while_evaluating)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Put the training weights back where an evaluation was interrupted."""
        switch_back(self._while_evaluating)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the training weights to the checkpoint."""
        kept = {id(weights.optimizer): weights for weights in [*self._while_evaluating, *self._after_training]}
        tensors = {i: kept[id(o)].tensors for i, o in enumerate(trainer.optimizers) if id(o) in kept}
        if tensors:
            # Where Lightning keeps the state of callbacks: it warns of one that is missing on resuming.
            checkpoint["callbacks"][self._state_key] = {_KEY: tensors}

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep the checkpoint's training weights until the optimizers are there and restored."""
        if trainer.state.fn == "fit":
            self._loaded = checkpoint["callbacks"].get(self._state_key, {}).get(_KEY, {})

    @property
    def _state_key(self) -> str:
        key: str = self.state_key  # type: ignore[attr-defined]  # Callback's
        return key

    def _save(self, trainer: Any, save: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint while the module has the evaluation weights."""
        if self._while_evaluating:
            save(*args, **kwargs)
            return
        try:
            switch_to_evaluation(trainer.optimizers, self._while_evaluating)
            save(*args, **kwargs)
        finally:
            switch_back(self._while_evaluating)


def _callback_classes() -> tuple[type, ...]:
    """The Callback of each package that is in use; of the first that is installed, where none is yet."""
    in_use = [sys.modules[name] for name in _PACKAGES if sys.modules.get(name) is not None]
    for name in [] if in_use else _PACKAGES:
        try:
            in_use = [import_module(name)]
            break
        except ModuleNotFoundError:
            continue
    if not in_use:
        raise ModuleNotFoundError("ScheduleFreeCallback is for Lightning: pip install lightning")
    return tuple(module.Callback for module in in_use)


def _derived(cls: type, bases: tuple[type, ...]) -> type:
    """A class of the same name that is a subclass of the packages' Callback, too."""
    classes = (cls, *bases)
    if classes not in _made:
        _made[classes] = type(cls.__name__, classes, {"__module__": cls.__module__, "_plain": cls})
    return _made[classes]
