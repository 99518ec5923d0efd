"""`ScheduleFreeTrainerCallback`: the weights of schedule-free optimizers under Transformers' Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from optim_core.errors import OptimWarning
from optim_core.optimizer.evaluation_weights import (
    TrainingWeights,
    has_modes,
    in_training_mode,
    restore_training_weights,
    switch_back,
    switch_to_evaluation,
)
from optim_core.pytorch.user_warnings import warn_caller

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    message = "ScheduleFreeTrainerCallback is for Transformers: pip install transformers accelerate"
    raise ModuleNotFoundError(message, name=error.name) from error

__all__ = ["ScheduleFreeTrainerCallback"]

_KEY = "training_weights"


class ScheduleFreeTrainerCallback(TrainerCallback):  # type: ignore[misc]
    """A callback for Transformers' Trainer that sees to it which weights are saved and published.

    The Trainer itself calls `optimizer.train()` before a training step and `optimizer.eval()` before
    an evaluation. With `Trainer(callbacks=[ScheduleFreeTrainerCallback()])`:

    - What it saves are the evaluation weights, also where no evaluation came before; the training
      weights travel in the optimizer's saved state.
    - Neither evaluations nor saves change the training by a single bit, and resuming continues bit
      for bit.
    - After `train()` the model has the evaluation weights.

    Put it last among the callbacks, so that it sees what others ask the Trainer to do.
    """

    def __init__(self) -> None:
        self._kept: list[TrainingWeights] = []
        self._loaded: Sequence[Sequence[Tensor]] | None = None
        self._attached: Optimizer | None = None

    def on_init_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Before a checkpoint is loaded: attach to the optimizer."""
        self._attach(optimizer)

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Attach to an optimizer that the Trainer didn't have before; end an evaluation that was interrupted."""
        switch_back(self._kept)
        if self._attach(optimizer) and not in_training_mode(optimizer):
            warn_caller(
                f"{type(self).__name__} did not see the optimizer's state being loaded, so that the training weights "
                "are those that it calculates from the evaluation weights, which rounds. Give optimizer and callback "
                "to Trainer(optimizers=..., callbacks=...)",
                OptimWarning,
            )

    def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Before the Trainer calls `optimizer.train()`: put the training weights back."""
        if self._loaded is not None:
            restore_training_weights(optimizer, self._loaded)
            self._loaded = None
        switch_back(self._kept)

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Switch to the evaluation weights if an evaluation, a save or the end comes next."""
        if control.should_evaluate or control.should_save or control.should_training_stop:
            switch_to_evaluation([optimizer], self._kept)

    on_epoch_end = on_step_end

    def on_train_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Leave the evaluation weights in the model."""
        best_is_loaded = args.load_best_model_at_end and state.best_model_checkpoint is not None
        if in_training_mode(optimizer) and not best_is_loaded:
            optimizer.eval()
        self._kept.clear()
        self._loaded = None

    def _attach(self, optimizer: Any) -> bool:
        """Let the training weights travel with an optimizer's state; whether it was a new optimizer."""
        # The Trainer wraps the optimizer before it saves or loads; hooks run on the one inside.
        inner = getattr(optimizer, "optimizer", optimizer)
        if inner is None or inner is self._attached or not has_modes(inner):
            return False
        inner.register_state_dict_post_hook(self._add_training_weights)
        inner.register_load_state_dict_pre_hook(self._take_training_weights)
        self._attached = inner
        return True

    def _add_training_weights(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
        for weights in self._kept:
            state_dict[_KEY] = weights.tensors

    def _take_training_weights(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict.pop(_KEY, None)
        # Weights of an evaluation that was interrupted before are of no use any more.
        self._kept.clear()
