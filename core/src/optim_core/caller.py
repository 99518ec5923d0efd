"""Warnings that point at the user's line, however many layers of PyTorch lie between."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import torch

__all__ = ["warn_caller"]

_LAYERS = tuple(f"{Path(module).parent}/" for module in (__file__, str(torch.__file__)))


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn of something at the line that led here, outside this package, PyTorch and the caller's file.

    Args:
        message: the warning.
        category: its class.
    """
    level, frame = 1, inspect.currentframe()
    caller = frame.f_back.f_code.co_filename if frame is not None and frame.f_back is not None else ""
    while frame is not None and frame.f_code.co_filename.startswith((*_LAYERS, caller)):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
