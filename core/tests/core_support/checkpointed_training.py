"""Two small networks, their optimizers on a schedule and with modes, and what is compared after saving and loading."""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from optim_core import OptimizerRegistry, ScheduledOptimizer, WarmupCosine, build_optimizers


class ScheduledAdamW(ScheduledOptimizer, torch.optim.AdamW):
    """AdamW on a schedule."""


class Averaged(torch.optim.SGD):
    """SGD with a second set of weights to evaluate, which rounding makes impossible to undo exactly."""

    def add_param_group(self, param_group):
        super().add_param_group({"train_mode": True, "factor": 0.3, **param_group})

    @torch.no_grad()
    def _switch(self, to_training):
        for group in self.param_groups:
            if group["train_mode"] is not to_training:
                group["train_mode"] = to_training
                for parameter in group["params"]:
                    parameter.mul_(group["factor"] if to_training else 1 / group["factor"])

    def train(self):
        self._switch(True)

    def eval(self):
        self._switch(False)


@dataclass(frozen=True, kw_only=True)
class AdamWFactory:
    """AdamW with warmup and cosine."""

    peak_lr: float = 0.01
    total_steps: int = 50
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)

    def build(self, params):
        schedule = WarmupCosine(peak_lr=self.peak_lr, total_steps=self.total_steps, warmup_steps=5)
        return ScheduledAdamW(params, schedule=schedule, weight_decay=self.weight_decay, betas=self.betas)


@dataclass(frozen=True, kw_only=True)
class AveragedFactory:
    """SGD with modes."""

    lr: float = 0.05
    momentum: float = 0.9
    factor: float = 0.3

    def build(self, params):
        return Averaged([{"params": list(params), "factor": self.factor}], lr=self.lr, momentum=self.momentum)


REGISTRY = OptimizerRegistry()
REGISTRY.register("adamw", AdamWFactory)
REGISTRY.register("averaged", AveragedFactory)
CONFIGURATION = {"body": {"type": "adamw", "params": {}}, "head": {"type": "averaged", "params": {}}}


def make_models(seed=0):
    torch.manual_seed(seed)
    models = nn.ModuleDict({"body": nn.Linear(4, 8), "head": nn.Linear(8, 3), "frozen": nn.Linear(2, 2)})
    models["frozen"].requires_grad_(False)
    return models


def make(configuration=CONFIGURATION, seed=0):
    models = make_models(seed)
    return models, build_optimizers(models, configuration, registry=REGISTRY)


def train(models, optimizers, steps, start=0):
    for step in range(start, start + steps):
        torch.manual_seed(step)
        optimizers.zero_grad()
        models["head"](models["body"](torch.randn(16, 4)).tanh()).square().mean().backward()
        optimizers.step()


def everything(models, optimizers):
    return copy.deepcopy((models.state_dict(), optimizers.state_dict()))


def same(left, right):
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def changed(**params):
    return {**CONFIGURATION, "body": {"type": "adamw", "params": params}}


def formula(step, peak, total, warmup=5):
    if step < warmup:
        return peak * step / warmup
    progress = torch.tensor((step - warmup) / (total - 1 - warmup), dtype=torch.float64)
    return (peak * (1 + torch.cos(torch.pi * progress)) / 2).item()
