"""Keeping the compiler out of Python bookkeeping."""

from __future__ import annotations

import torch

__all__ = ["keep_uncompiled"]

_kept: set[tuple[type, str]] = set()


def keep_uncompiled(owner: type, *methods: str) -> None:
    """Have methods of a class run as plain Python where code that calls them is compiled.

    This is `torch.compiler.disable`, which imports the compiler, for as long again as torch itself
    takes: so it is not for the class's definition, where a plugin that is only asked for its arguments
    would wait for it, but for its constructor (and `__setstate__`, which an unpickled instance has in its
    place), before any compiled code can come by. Calls after the first do nothing.

    Args:
        owner: the class that defines the methods.
        methods: their names; `step` is not to be among them, as PyTorch wraps it by itself.

    >>> class Counter:
    ...     def __init__(self):
    ...         keep_uncompiled(Counter, "advance")
    ...         self.steps = 0
    ...     def advance(self):
    ...         self.steps += 1
    """
    for name in methods:
        if (owner, name) not in _kept:
            setattr(owner, name, torch.compiler.disable(vars(owner)[name]))  # type: ignore[no-untyped-call]
            _kept.add((owner, name))
