"""`ReadOnlyScheduler`: what to give a trainer that insists on a learning-rate scheduler."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from optim_core.component_optimizers.component_optimizers import rate_of
from optim_core.optimizer.schedule_state import PEAK

__all__ = ["ReadOnlyScheduler"]


class ReadOnlyScheduler(LRScheduler):
    """A scheduler that reports an optimizer's learning rates and changes nothing.

    For trainers that add a scheduler of their own where they are given none, and that log what a
    scheduler reports; the optimizer steps its own schedule.

    >>> import torch
    >>> from optim_core.integrations import ReadOnlyScheduler
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    >>> scheduler = ReadOnlyScheduler(optimizer)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.1]

    Args:
        optimizer: one optimizer, with or without a schedule of its own, or a trainer's wrapper
            around one.

    Raises:
        TypeError: `optimizer` has no parameter groups.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        # Not LRScheduler's constructor, which wraps the optimizer's step() and writes to its groups.
        if not isinstance(getattr(optimizer, "param_groups", None), list):
            raise TypeError(
                f"a {type(optimizer).__name__} has no parameter groups: give ReadOnlyScheduler one optimizer"
            )
        self.optimizer = optimizer
        # Where a torch scheduler stands after its construction.
        self.last_epoch = 0
        self._step_count = 1
        self._last_lr = self._rates()

    @property
    def base_lrs(self) -> list[Any]:  # type: ignore[override]
        """The peak of each group where the optimizer has a schedule; its rate where it has none."""
        return [float(group.get(PEAK, group.get("initial_lr", group["lr"]))) for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[Any]:
        """The absolute learning rate of each parameter group, as of the last call of `step()`.

        That is what torch schedulers report: after `step()` the rate that the next update will apply,
        and between an update and `step()`, where trainers log, the rate that this update applied. For a
        schedule-free optimizer, which only knows its rate when it applies it, it is always the latter.
        """
        rates = self._rates()
        for index, rate in enumerate(self._last_lr):
            if "scheduled_lr" not in self.optimizer.param_groups[index]:
                rates[index] = rate
        return rates

    def get_lr(self) -> list[Any]:
        """What `get_last_lr` returns."""
        return self.get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        """Take note of the optimizer's rates and count the call; the optimizer is not touched."""
        self._step_count += 1
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._last_lr = self._rates()

    def state_dict(self) -> dict[str, Any]:
        """The count of calls and the rates, as plain numbers."""
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": self.get_last_lr(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count of calls, from any scheduler's state; the rates are the optimizer's."""
        self.last_epoch = int(state_dict.get("last_epoch", self.last_epoch))
        self._step_count = int(state_dict.get("_step_count", self._step_count))
        self._last_lr = self._rates()

    def _rates(self) -> list[Any]:
        return [rate_of(group) for group in self.optimizer.param_groups]
