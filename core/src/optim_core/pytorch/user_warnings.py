"""Warnings that point at the user's line, however many layers of PyTorch lie between."""

from __future__ import annotations

import inspect
import os
import warnings
from pathlib import Path

import torch

__all__ = ["warn_caller"]

_LAYERS = tuple(f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], Path(str(torch.__file__)).parent))


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn of something at the line that led here, outside this package, PyTorch and the caller's file.

    Args:
        message: the warning.
        category: its class.
    """
    files = []
    frame = inspect.currentframe()
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    outside = [level for level, file in enumerate(files, start=1) if not file.startswith(_LAYERS)]
    # A class may warn that is written in the very script that uses it.
    beyond = [level for level in outside if files[level - 1] != files[1]]
    warnings.warn(message, category, stacklevel=min(beyond or outside or [1]))
