"""Fixtures for schedule-free RAdam's fused step: a process without compiled kernels, and one without a compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from optim_schedule_free_radam import kernel


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process in which nothing was compiled yet."""
    monkeypatch.setattr(kernel, "_kernels", {})


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, no_kernels: None) -> Iterator[list[str]]:
    """As where nothing can be compiled; the calls of what would have been compiled are noted."""
    calls: list[str] = []

    def compile_nothing(function: Callable[..., None], **_: Any) -> Callable[..., None]:
        def fail(*_: torch.Tensor) -> None:
            calls.append(function.__name__)
            raise RuntimeError("no compiler here\nsecond line")

        return fail

    monkeypatch.setattr(torch, "compile", compile_nothing)
    return calls
