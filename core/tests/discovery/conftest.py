"""What the tests of the registry share: a registry of its own for each, and distributions to find."""

from __future__ import annotations

import pytest

from core_support.distributions import FACTORY, Install
from optim_core.discovery.registry import OptimizerRegistry


@pytest.fixture
def registry() -> OptimizerRegistry:
    return OptimizerRegistry()


@pytest.fixture
def two_plugins(distribution: Install) -> None:
    distribution("alpha-plugin", "1.1", factories={"alpha": "alpha_plugin:Factory"}, modules={"alpha_plugin": FACTORY})
    distribution("beta-plugin", "2.2", factories={"beta": "beta_plugin:Factory"}, modules={"beta_plugin": FACTORY})
