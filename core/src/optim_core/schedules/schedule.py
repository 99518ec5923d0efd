"""What a schedule is: a pure function of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

__all__ = ["Schedule"]


@runtime_checkable
class Schedule(Protocol):
    """The shape of a learning rate over training: a frozen dataclass of plain numbers and strings.

    Its fields are saved with the optimizer and compared when a checkpoint is loaded.

    Attributes:
        peak_lr: the highest learning rate of a parameter group that has none of its own.
        total_steps: the horizon, in optimizer updates; what holds at its last step holds after it.
    """

    @property
    def peak_lr(self) -> float: ...

    @property
    def total_steps(self) -> int: ...

    def options_at(self, step: int, peak_lr: float) -> Mapping[str, Any]:
        """The group options that the update number `step` (counted from 0) applies.

        Args:
            step: how many updates came before; any number from 0, also past the horizon.
            peak_lr: the peak of the parameter group. A group whose peak is not the schedule's has
                the same curve in proportion.

        Returns:
            Values by option: `lr`, and others that the schedule drives. None within a tuple, as in
            `{"betas": (0.9, None)}`, leaves that element as the group has it.
        """
