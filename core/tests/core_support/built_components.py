"""A network of two components, a factory that remembers what it is given, and what a build comes to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from optim_core.arguments.number_types import PeakLearningRate
from optim_core.building.build_optimizers import build_optimizers
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.errors import ConfigurationError, Problem

SGD_SPEC = {"type": "sgd", "params": {"lr": 0.1}}


class SGD:
    """Stochastic gradient descent; remembers what it was given."""

    built: list[list[torch.Tensor]]

    def __init__(self, lr: PeakLearningRate, momentum: float = 0.0) -> None:
        self.lr, self.momentum = lr, momentum

    def build(self, params: Any) -> torch.optim.Optimizer:
        params = list(params)
        self.built.append(params)
        return torch.optim.SGD(params, lr=self.lr, momentum=self.momentum)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))  # type: ignore[no-any-return]


def ids(params: Any) -> list[int]:
    return [id(p) for p in params]


def owned(optimizers: ComponentOptimizers, component: str) -> list[int]:
    return [id(p) for group in optimizers[component].param_groups for p in group["params"]]


def problems_of(*args: Any, **kwargs: Any) -> tuple[Problem, ...]:
    with pytest.raises(ConfigurationError) as caught:
        build_optimizers(*args, **kwargs)
    return caught.value.problems


BOTH = {"backbone": SGD_SPEC, "head": SGD_SPEC}
