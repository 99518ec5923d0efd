"""The update of schedule-free RAdam as one pass over memory, compiled once for each kind of tensor."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optim_schedule_free_radam.coefficients import Coefficients

__all__ = ["SERIAL", "exact_type", "update_by_kernel"]

SERIAL = 1 << 15
"""Up to how many elements a kernel has one thread; PyTorch's own kernels have the same limit."""


class Kind(NamedTuple):
    """What a kernel is compiled for: where tensors are, the types of their elements, and how many threads.

    One thread is for so few elements that several take longer to find each other than to do the work; on a
    busy machine, much longer. Where that is no matter, it is 0.
    """

    device: torch.device
    weights: torch.dtype
    gradient: torch.dtype
    z: torch.dtype
    exp_avg_sq: torch.dtype
    threads: int


Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]

_log = logging.getLogger(__name__)
_kernels: dict[Kind, Kernel | None] = {}
_EXAMPLE_SIZE = 1 << 18


def exact_type(dtype: torch.dtype) -> torch.dtype:
    """The type to calculate in: of what is kept in 16 bits, each result is rounded to them once."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _update(weights: Tensor, gradient: Tensor, z: Tensor, exp_avg_sq: Tensor, coefficients: Tensor) -> None:
    """Make one update, as `gathered.update` does; for the compiler, which makes one loop of it."""
    exact = exact_type(weights.dtype)
    (beta2, rest, bias_correction, eps, adaptive, weight_decay, average, weights_rate, rate) = coefficients.to(exact)
    y, base, direction = weights.to(exact), z.to(exact), gradient.to(exact)
    second = exp_avg_sq.to(exact) * beta2 + direction * direction * rest
    direction = torch.where(adaptive != 0, direction / (torch.sqrt(second / bias_correction) + eps), direction)
    direction = direction + weight_decay * y
    weights.copy_(torch.lerp(y, base, average) + weights_rate * direction)
    z.copy_(base - rate * direction)
    exp_avg_sq.copy_(second)


def update_by_kernel(
    weights: Tensor,
    gradient: Tensor,
    z: Tensor,
    exp_avg_sq: Tensor,
    numbers: Coefficients,
    on_failure: Callable[[str], None],
) -> bool:
    """Make one update in place, of tensors of one dimension, equal size, and two elements or more.

    Code for their kind is compiled when it is first needed, for any size, which takes some seconds, or less
    where an earlier run has left it in PyTorch's cache on disk.

    Args:
        weights: the parameter, or several together.
        gradient: is only read.
        z: as in `schedulefree.RAdamScheduleFree`.
        exp_avg_sq: the second moment.
        numbers: the update's coefficients.
        on_failure: called with the reason when compiling fails, the first time that it does in this process.

    Returns:
        Whether that was done; if not, nothing has changed.
    """
    device = weights.device
    threads = 0
    if device.type == "cpu":
        threads = 1 if weights.numel() <= SERIAL else torch.get_num_threads()
    kind = Kind(device, weights.dtype, gradient.dtype, z.dtype, exp_avg_sq.dtype, threads)
    if kind not in _kernels:
        try:
            _kernels[kind] = _compiled(kind)
        except Exception as error:  # whatever a compiler, a linker or a driver may raise
            first = None not in _kernels.values()
            _kernels[kind] = None
            if first:
                # In words: the error itself refers to the step that it ended, and to all that is in it.
                on_failure(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
    kernel = _kernels[kind]
    if kernel is None:
        return False
    try:
        # Without a trace of the parameter whose memory it is: the compiler would look at its shape.
        kernel(weights.detach(), gradient.detach(), z.detach(), exp_avg_sq.detach(), numbers.on(device))
    except Exception:
        # PyTorch makes the code anew where its settings have changed (autocast, deterministic operations),
        # and where it can't, says so before anything is done.
        _log.debug("no compiled code for this step", exc_info=True)
        return False
    return True


def _compiled(kind: Kind) -> Kernel:
    # The compiler keeps its results with a function's code and gives up after some: every kind has its own.
    function = types.FunctionType(_update.__code__.replace(), _update.__globals__, _update.__name__)
    options: dict[str, Any] | None = {"cpp.threads": 1} if kind.threads == 1 else None
    # Not fullgraph=True: where PyTorch compiles nothing (under a dispatch mode, after many changes of its
    # settings), the function is run as it is, and only then would it be an error.
    kernel: Kernel = torch.compile(function, dynamic=True, options=options)
    # A size of its own makes the code the same for all models, and the compiler share out what is worth it.
    device, *dtypes, _ = kind
    weights, gradient, z, exp_avg_sq = (torch.zeros(_EXAMPLE_SIZE, dtype=dtype, device=device) for dtype in dtypes)
    kernel(weights, gradient, z, exp_avg_sq, torch.ones(9, dtype=torch.float64, device=device))
    return kernel
