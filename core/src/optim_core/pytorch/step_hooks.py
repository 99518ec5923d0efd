"""PyTorch's step hooks, and how a subclass calls its base class's `step` without running them twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["without_hooks"]


def without_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """A base class's `step`, given as `super().step`, as a plain function that runs no hooks.

    Making an optimizer replaces the `step` of its class by a wrapper that runs every step hook, so
    once a plain AdamW was made anywhere, `AdamW.step` is such a wrapper. The `step` of the subclass
    has one around it already; calling the base's would run every hook a second time.

    PyTorch marks a wrapper with the attribute `hooked`, and `functools.wraps` keeps what is below it
    as `__wrapped__`; there is no public way to ask.

    >>> import torch
    >>> class Quiet(torch.optim.SGD):
    ...     def step(self, closure=None):
    ...         return without_hooks(super().step)(self, closure)
    """
    function: Any = getattr(step, "__func__", step)
    while getattr(function, "hooked", False):
        function = function.__wrapped__
    result: Callable[..., Any] = function
    return result
