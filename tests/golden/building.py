"""How the cases configure and build their optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from optim_core import (
    OPTIMIZER_BUILDER_REGISTRY,
    ComponentOptimizers,
    OptimizerRegistry,
    ScheduledOptimizer,
    WarmupCosine,
    build_optimizers,
)

from .models import Models

__all__ = [
    "FREE",
    "ONE_CYCLE",
    "SGD",
    "WARMUP",
    "ScheduledSGD",
    "bare",
    "components",
    "named",
    "one_of",
    "sgd",
    "spec",
]

# Rates are high, so that a wrong one moves weights by far more than rounding does.
WARMUP = {"peak_lr": 0.05, "total_steps": 12, "warmup_steps": 3, "start_lr": 0.001, "end_lr": 0.002}
ONE_CYCLE = {"max_lr": 0.05, "total_steps": 12, "weight_decay": 0.1}
FREE = {"lr": 0.05, "weight_decay": 0.1}

KEYS = {"warmup": "adamw_warmup_cosine_decay", "one_cycle": "adamw_cosine_schedule", "free": "schedule_free_radam"}
PARAMS = {"warmup": WARMUP, "one_cycle": ONE_CYCLE, "free": FREE}


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    """Stochastic gradient descent on a schedule: any optimizer with the mix-in, as a user makes one."""


@dataclass(frozen=True, kw_only=True)
class SGDFactory:
    """Stochastic gradient descent with momentum on a schedule."""

    peak_lr: float
    total_steps: int
    momentum: float = 0.9
    nesterov: bool = False

    def build(self, params: Any) -> ScheduledSGD:
        """Make the optimizer."""
        return sgd(params, self.peak_lr, self.total_steps, momentum=self.momentum, nesterov=self.nesterov)


# A registry of its own: what one test registers in the shared one, others see.
_REGISTRY = OptimizerRegistry()
_REGISTRY.register("scheduled_sgd", SGDFactory)
SGD = {"backbone": {"type": "scheduled_sgd", "params": {"peak_lr": 0.05, "total_steps": 12, "nesterov": True}}}


def sgd(params: Any, peak_lr: float = 0.05, total_steps: int = 12, **options: Any) -> ScheduledSGD:
    """Stochastic gradient descent, warmed up over two updates."""
    schedule = WarmupCosine(peak_lr=peak_lr, total_steps=total_steps, warmup_steps=2)
    return ScheduledSGD(params, schedule=schedule, **options)


def spec(kind: str, *, groups: Any = None, **params: Any) -> dict[str, Any]:
    """The configuration of a component.

    Args:
        kind: "warmup", "one_cycle" or "free".
        groups: its `param_groups`.
        **params: other params than the usual ones, or more.
    """
    found: dict[str, Any] = {"type": KEYS[kind], "params": {**PARAMS[kind], **params}}
    return found if groups is None else {**found, "param_groups": groups}


def components(
    configuration: Mapping[str, Any] | None = None, **specs: Mapping[str, Any]
) -> Callable[[Models], ComponentOptimizers]:
    """What builds the optimizers of components, whatever else there is in the models."""

    def build(models: Models) -> ComponentOptimizers:
        configured = {**(configuration or {}), **specs}
        registry = _REGISTRY if configured == SGD else OPTIMIZER_BUILDER_REGISTRY
        return build_optimizers(models, configured, registry=registry, uncovered="ignore")

    return build


def one_of(kind: str, **options: Any) -> Callable[[dict[str, nn.Module]], Optimizer]:
    """What builds the backbone's optimizer by a configuration, alone; see `spec`."""

    def build(models: dict[str, nn.Module]) -> Optimizer:
        return components(backbone=spec(kind, **options))(models)["backbone"]

    return build


def bare(kind: str, **params: Any) -> Callable[[dict[str, nn.Module]], Optimizer]:
    """What builds an optimizer of the backbone's parameters, which have no names."""

    def build(models: dict[str, nn.Module]) -> Optimizer:
        return _factory(kind, params).build(models["backbone"].parameters())

    return build


def named(kind: str, **params: Any) -> Callable[[dict[str, nn.Module]], Optimizer]:
    """What builds an optimizer of the backbone's parameters with their names, as PyTorch has it."""

    def build(models: dict[str, nn.Module]) -> Optimizer:
        return _factory(kind, params).build(models["backbone"].named_parameters())

    return build


def _factory(kind: str, params: Mapping[str, Any]) -> Any:
    return OPTIMIZER_BUILDER_REGISTRY[KEYS[kind]](**{**PARAMS[kind], **params})
