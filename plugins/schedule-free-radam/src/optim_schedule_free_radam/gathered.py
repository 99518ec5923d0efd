"""Small tensors, updated together: gathered in buffers that stay in the processor's cache, and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optim_schedule_free_radam.coefficients import Coefficients
from optim_schedule_free_radam.kernel import SERIAL, update_by_kernel

__all__ = ["Gathered", "Row", "batch_size", "update"]

Row = tuple[Tensor, Tensor, Tensor, Tensor]
"""A parameter, its gradient, its `z` and its second moment."""


# Up to this size, PyTorch's single operations are faster than to call compiled code. Its square root is shared
# out among threads from here on, which takes long on a busy machine.
_FEW = 1 << 11


def batch_size(device: torch.device) -> int:
    """How many elements are gathered at a time: on a CPU, so many that the buffers stay in its cache."""
    return SERIAL if device.type == "cpu" else 1 << 22


def update(
    weights: Tensor, gradient: Tensor, z: Tensor, exp_avg_sq: Tensor, denominator: Tensor, numbers: Coefficients
) -> None:
    """Make one update in place, with PyTorch's single operations; gradient and denominator are used up.

    These are the operations of `schedulefree.RAdamScheduleFree` 1.4, so that rounding is the same.
    """
    exp_avg_sq.mul_(numbers.beta2).addcmul_(gradient, gradient, value=1 - numbers.beta2)
    if numbers.adaptive:
        torch.div(exp_avg_sq, numbers.bias_correction, out=denominator)
        gradient.div_(denominator.sqrt_().add_(numbers.eps))
    if numbers.weight_decay:
        gradient.add_(weights, alpha=numbers.weight_decay)
    weights.lerp_(z, numbers.average).add_(gradient, alpha=numbers.weights_rate)
    z.sub_(gradient, alpha=numbers.rate)


class Gathered:
    """Buffers in which tensors are updated, batch by batch, and the place of each tensor in them.

    Args:
        device: of the tensors.
        dtype: to calculate in; tensors of another are converted on the way in and on the way out.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._shapes: list[torch.Size] = []
        self._batches: list[_Batch] = []

    def update(self, rows: Sequence[Row], numbers: Coefficients, on_failure: Callable[[str], None]) -> None:
        """Update tensors of any shapes and strides.

        Args:
            rows: the tensors.
            numbers: the update's coefficients.
            on_failure: see `update_by_kernel`.
        """
        shapes = [row[0].shape for row in rows]
        if shapes != self._shapes:
            self._shapes, self._batches = shapes, self._laid_out(shapes)
        for batch in self._batches:
            weights, gradients, zs, exp_avg_sqs = zip(*rows[batch.tensors], strict=True)
            # PyTorch has no name without an underscore for it. It copies all in one call, in a third of the time.
            torch._foreach_copy_(batch.places, [*weights, *gradients, *zs, *exp_avg_sqs])
            few = batch.buffers[0].numel() <= _FEW
            if few or not update_by_kernel(*batch.buffers[:4], numbers, on_failure):
                update(*batch.buffers, numbers)
            torch._foreach_copy_([*weights, *zs, *exp_avg_sqs], batch.results)

    def _laid_out(self, shapes: Sequence[torch.Size]) -> list[_Batch]:
        batches = list(_batched([shape.numel() for shape in shapes], batch_size(self._device)))
        capacity = max((sum(sizes) for _, sizes in batches), default=0)
        buffers = torch.empty(5, capacity, dtype=self._dtype, device=self._device)
        laid_out = []
        for tensors, sizes in batches:
            weights, gradient, z, exp_avg_sq, denominator = buffers[:, : sum(sizes)]
            of_batch = weights, gradient, z, exp_avg_sq, denominator
            views = [
                [part.view(shape) for part, shape in zip(torch.split(buffer, sizes), shapes[tensors], strict=True)]
                for buffer in of_batch[:4]
            ]
            places = [view for column in views for view in column]
            results = [view for index in (0, 2, 3) for view in views[index]]
            laid_out.append(_Batch(tensors, of_batch, places, results))
        return laid_out


@dataclass(frozen=True, slots=True)
class _Batch:
    """Tensors that are in the buffers at one time.

    Attributes:
        tensors: which of all.
        buffers: for weights, gradients, `z`, second moments and denominators.
        places: in the first four of them, of each tensor, in this order.
        results: those of them that are put back.
    """

    tensors: slice
    buffers: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
    places: list[Tensor]
    results: list[Tensor]


def _batched(sizes: Sequence[int], most: int) -> Iterator[tuple[slice, list[int]]]:
    """Runs of tensors that have `most` elements together, or one tensor of more."""
    start, total = 0, 0
    for stop, size in enumerate(sizes):
        if stop > start and total + size > most:
            yield slice(start, stop), list(sizes[start:stop])
            start, total = stop, 0
        total += size
    if sizes:
        yield slice(start, len(sizes)), list(sizes[start:])
