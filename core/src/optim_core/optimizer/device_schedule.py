"""A schedule whose position is on a device: looked up there, without the program waiting for it.

Work for a device is only queued by Python, and a captured graph runs again without any Python. So
where the counter is a tensor on a device, the values of all steps are laid out there once, and moving
on is arithmetic on the device: part of every captured graph, with nothing read back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from optim_core.errors import CaptureError, InvalidArgumentsError, Problem
from optim_core.optimizer.group_options import tensors_of
from optim_core.optimizer.schedule_state import PEAK, STEP
from optim_core.schedules.schedule import Schedule

__all__ = ["DeviceSchedule", "is_capturing"]


MOST_STEPS = 20_000_000


def is_capturing(counter: Tensor) -> bool:
    """Whether work on a tensor is being recorded into a CUDA graph, where it can't be read."""
    return counter.is_cuda and torch.cuda.is_current_stream_capturing()


class DeviceSchedule:
    """The values of one schedule at every step, on the devices where they were asked for.

    Args:
        schedule: the shape.

    Raises:
        InvalidArgumentsError: the horizon is so far that its values are too many.
    """

    def __init__(self, schedule: Schedule) -> None:
        if schedule.total_steps > MOST_STEPS:
            what = f"= {schedule.total_steps}: must be at most {MOST_STEPS} where the learning rate is on a device"
            hint = "Every step's values are laid out there. Give the number of updates of the whole training"
            raise InvalidArgumentsError(type(schedule).__name__, [Problem("total_steps", what, hint)])
        self.schedule = schedule
        self._tables: dict[tuple[float, torch.dtype, torch.device], list[Tensor]] = {}

    def write(self, group: dict[str, Any]) -> None:
        """Put the values for a group's position into the tensors of its driven options.

        Raises:
            CaptureError: a graph is being captured, and these values were not laid out before, or can't
            be captured.
        """
        if is_capturing(group[STEP]):
            self._require_capturable(group)
        tensors = list(tensors_of(group, self.schedule.options_at(0, group[PEAK])))
        # The last entry of a table is for all steps from the horizon on.
        index = group[STEP].clamp(max=self.schedule.total_steps).reshape(1)
        for tensor, values in zip(tensors, self._tables_of(group), strict=True):
            tensor.copy_(values.index_select(0, index).reshape(tensor.shape))

    def _tables_of(self, group: Mapping[str, Any]) -> list[Tensor]:
        key = _key(group)
        if key not in self._tables:
            _, dtype, device = key
            steps = range(self.schedule.total_steps + 1)
            rows = [tuple(_numbers(self.schedule.options_at(step, group[PEAK]))) for step in steps]
            self._tables[key] = list(torch.tensor(rows, dtype=dtype).T.contiguous().to(device))
        return self._tables[key]

    def _require_capturable(self, group: Mapping[str, Any]) -> None:
        if _key(group) not in self._tables:
            raise CaptureError(
                "the first step() of an optimizer with a schedule can't be captured in a CUDA graph. Make a few "
                f"steps before the capture, as PyTorch asks for, and one after each change of {PEAK!r}"
            )
        if group.get("fused") and isinstance(group.get("betas", (None,))[0], Tensor):
            raise CaptureError(
                "the fused kernel takes betas as numbers, so that a graph would repeat those of the capture. To "
                "capture a schedule that moves betas, build the optimizer with fused=False"
            )


def _key(group: Mapping[str, Any]) -> tuple[float, torch.dtype, torch.device]:
    return group[PEAK], group["lr"].dtype, group["lr"].device


def _numbers(options: Mapping[str, Any]) -> Iterator[float]:
    """The numbers in a schedule's values, in the order of `tensors_of`."""
    for value in options.values():
        elements = value if isinstance(value, tuple) else (value,)
        yield from (float(element) for element in elements if element is not None)
