"""The fused step: large tensors each in one pass, by compiled code, and small ones together."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optim_schedule_free_radam.coefficients import Coefficients, coefficients_of
from optim_schedule_free_radam.gathered import Gathered, Row, batch_size
from optim_schedule_free_radam.kernel import exact_type, update_by_kernel

__all__ = ["FusedStep"]

# Up to this size, to gather a tensor takes less time than to call compiled code.
_SMALL = 1 << 13


class FusedStep:
    """Updates of parameter groups with the options, counters and state of `schedulefree.RAdamScheduleFree`."""

    def __init__(self) -> None:
        self._gathered: dict[tuple[int, torch.device, torch.dtype], Gathered] = {}

    def update(
        self,
        groups: Sequence[dict[str, Any]],
        state: MutableMapping[Tensor, dict[str, Any]],
        on_failure: Callable[[str], None],
    ) -> None:
        """Make one update of all parameters that have a gradient; gradients stay as they are.

        Args:
            groups: the parameter groups, whose counters are moved on.
            state: of the parameters; what is missing is made.
            on_failure: see `update_by_kernel`.
        """
        for index, group in enumerate(groups):
            numbers = coefficients_of(group)
            small: dict[tuple[int, torch.device, torch.dtype], list[Row]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                row = _row(parameter, state[parameter])
                weights = row[0]
                device = weights.device
                rows = [row] if weights.numel() <= _SMALL else _left_by_kernel(row, numbers, on_failure)
                if rows:
                    small.setdefault((index, device, exact_type(weights.dtype)), []).extend(rows)
            for key, rows in small.items():
                if key not in self._gathered:
                    self._gathered[key] = Gathered(*key[1:])
                self._gathered[key].update(rows, numbers, on_failure)
            group.update(numbers.counters)


def _left_by_kernel(row: Row, numbers: Coefficients, on_failure: Callable[[str], None]) -> list[Row]:
    """Update a large tensor; or return it, in parts where that can be, for it to be gathered."""
    flat = _flattened(row)
    if flat is None:
        return [row]
    if update_by_kernel(*flat, numbers, on_failure):
        return []
    size = batch_size(row[0].device)
    return list(zip(*(torch.split(tensor, size) for tensor in flat), strict=True))


def _row(parameter: Tensor, state: dict[str, Any]) -> Row:
    if "z" not in state:
        state["z"] = parameter.clone(memory_format=torch.preserve_format)
        state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    gradient: Any = parameter.grad
    # Some gradients of complex numbers are negative by a mark only, of which compiled code knows nothing.
    row: Any = (parameter, gradient.resolve_neg(), state["z"], state["exp_avg_sq"])
    # A parameter that is sharded over processes (DTensor): the update is of each element by itself.
    return tuple(tensor.to_local() for tensor in row) if hasattr(parameter, "to_local") else row


def _flattened(row: Row) -> Row | None:
    """The same memory as tensors of one dimension with the elements in one order; None where that can't be.

    The gradient is only read: where its elements lie in another order, it may be a copy.
    """
    weights, gradient, z, exp_avg_sq = row
    strides = weights.stride()
    if z.stride() != strides or exp_avg_sq.stride() != strides:
        return None
    # In the order in which they lie in memory: channels-last weights are as good as others.
    order = sorted(range(len(strides)), key=lambda dimension: -strides[dimension])
    if not weights.permute(order).is_contiguous():
        return None
    if gradient.stride() != strides:
        gradient = torch.empty_like(weights, dtype=gradient.dtype).copy_(gradient)
    weights, gradient, z, exp_avg_sq = (tensor.permute(order).view(-1) for tensor in (weights, gradient, z, exp_avg_sq))
    return weights, gradient, z, exp_avg_sq
