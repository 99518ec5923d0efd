"""A registry with one factory, and what that factory has built."""

from __future__ import annotations

import pytest
import torch

from core_support.built_components import SGD
from optim_core.discovery.registry import OptimizerRegistry


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[list[torch.Tensor]]:
    """What `SGD.build` was called with, call by call."""
    calls: list[list[torch.Tensor]] = []
    monkeypatch.setattr(SGD, "built", calls, raising=False)
    return calls


@pytest.fixture
def registry(built: list[list[torch.Tensor]]) -> OptimizerRegistry:
    registry = OptimizerRegistry()
    registry.register("sgd", SGD)
    return registry
