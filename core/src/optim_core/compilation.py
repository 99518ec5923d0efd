"""Keeping the compiler out of Python bookkeeping."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

__all__ = ["uncompiled"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def uncompiled(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """A function that runs as plain Python when code that calls it is compiled.

    `torch.compiler.disable`, which imports the compiler (as long as torch itself takes), at the first
    call only: whoever asks a plugin for its arguments doesn't wait for it.
    """
    disabled: Callable[_P, _T] | None = None

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        nonlocal disabled
        if disabled is None:
            disabled = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
        return disabled(*args, **kwargs)

    return call
