"""What tests of rules and policies share: plain factories, and what a build comes to or is refused for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.arguments.number_types import PeakLearningRate
from optim_core.building.build_optimizers import build_optimizers
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import ConfigurationError
from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer
from optim_core.schedules.warmup_cosine import WarmupCosine


class SGD:
    """Stochastic gradient descent."""

    def __init__(self, lr: PeakLearningRate = 0.1, momentum: float = 0.0, weight_decay: float = 0.01) -> None:
        self.options = vars() | {}
        del self.options["self"]

    def build(self, params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, **self.options)


class AdamW:
    """AdamW, by a factory that says nothing of its options."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(params, lr=0.1, weight_decay=0.5)


class ScheduledAdamW(ScheduledOptimizer, torch.optim.AdamW):
    """A mix of a schedule and PyTorch's class."""


class Scheduled:
    """Warmup of two steps to 0.1, and a cosine to 0.02 at the eighth."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        shape = WarmupCosine(peak_lr=0.1, total_steps=8, warmup_steps=2, start_lr=0.01, end_lr=0.02)
        return ScheduledAdamW(params, schedule=shape, weight_decay=0.5)


class LBFGS:
    """Takes no parameter groups."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(params)


@pytest.fixture
def registry() -> OptimizerRegistry:
    """The factories of this file."""
    registry = OptimizerRegistry()
    factories = {"sgd": SGD, "adamw": AdamW, "scheduled": Scheduled, "lbfgs": LBFGS}
    for key, factory in factories.items():
        registry.register(key, factory)
    return registry


@pytest.fixture
def build(registry: OptimizerRegistry) -> Callable[..., ComponentOptimizers]:
    """Builds the optimizer of one component, "net", with these entries."""

    def built(module: nn.Module, entries: Any, key: str = "sgd", **params: Any) -> ComponentOptimizers:
        spec = {"type": key, "params": params, "param_groups": entries}
        return build_optimizers({"net": module}, {"net": spec}, registry=registry)

    return built


@pytest.fixture
def groups(build: Callable[..., ComponentOptimizers]) -> Callable[..., list[dict[str, Any]]]:
    """The parameter groups of such a component."""
    return lambda *args, **params: build(*args, **params)["net"].param_groups


@pytest.fixture
def named(groups: Callable[..., list[dict[str, Any]]]) -> Callable[..., list[list[str]]]:
    """The names of the parameters in each of its groups."""
    return lambda *args, **params: [group["param_names"] for group in groups(*args, **params)]


@pytest.fixture
def refused(build: Callable[..., ComponentOptimizers]) -> Callable[..., Sequence[str]]:
    """Every problem for which such a component is refused; its module is as it was."""

    def problems(module: nn.Module, *args: Any, **params: Any) -> list[str]:
        before = [(p.requires_grad, p.grad) for p in module.parameters()]
        with pytest.raises(ConfigurationError) as caught:
            build(module, *args, **params)
        after = [(p.requires_grad, p.grad) for p in module.parameters()]
        assert [(asked, id(grad)) for asked, grad in after] == [(asked, id(grad)) for asked, grad in before]
        return [str(problem) for problem in caught.value.problems]

    return problems


@pytest.fixture
def net() -> nn.Sequential:
    """A matrix and a bias, a norm, a matrix and a bias: "0.weight" to "2.bias"."""
    return nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2))
