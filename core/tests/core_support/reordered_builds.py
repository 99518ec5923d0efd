"""Optimizers of every kind, under any rules, over a network whose layers are registered in one order or another."""

import warnings
from dataclasses import dataclass

import pytest
import torch

from core_support.reordered_runs import Network, train
from optim_core import OptimizerRegistry, ScheduledAdamW, ScheduledOptimizer, WarmupCosine, build_optimizers

STEPS = 4
ORDER = ("embed", "first", "norm", "second")
# Position by position of the same shapes: nothing but names can tell that it is another order.
REORDERED = ("second", "first", "norm", "embed")
SCHEDULE = WarmupCosine(peak_lr=0.02, total_steps=40, warmup_steps=3)


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    """SGD on a schedule."""


@dataclass(frozen=True, kw_only=True)
class ScheduledFactory:
    """AdamW on a schedule."""

    weight_decay: float = 0.1
    amsgrad: bool = False
    fused: bool | None = None
    foreach: bool | None = None

    def build(self, params):
        return ScheduledAdamW(params, schedule=SCHEDULE, **vars(self))


@dataclass(frozen=True, kw_only=True)
class ScheduledSGDFactory:
    """SGD on a schedule."""

    momentum: float = 0.9
    weight_decay: float = 0.1

    def build(self, params):
        return ScheduledSGD(params, schedule=SCHEDULE, **vars(self))


@dataclass(frozen=True, kw_only=True)
class AdamWFactory:
    """PyTorch's AdamW."""

    lr: float = 0.01
    weight_decay: float = 0.1
    amsgrad: bool = False
    fused: bool | None = None
    foreach: bool | None = None

    def build(self, params):
        return torch.optim.AdamW(params, **vars(self))


@dataclass(frozen=True, kw_only=True)
class SGDFactory:
    """PyTorch's SGD."""

    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.1

    def build(self, params):
        return torch.optim.SGD(params, **vars(self))


@dataclass(frozen=True, kw_only=True)
class LBFGSFactory:
    """PyTorch's L-BFGS, whose state is of all parameters together."""

    lr: float = 0.1

    def build(self, params):
        return torch.optim.LBFGS(params, lr=self.lr, max_iter=2)


@dataclass(frozen=True, kw_only=True)
class WithEmptyGroupFactory:
    """AdamW with a group for adapters, of which there may be none."""

    lr: float = 0.01
    weight_decay: float = 0.1
    spare: bool = True

    def build(self, params):
        groups = [{"params": list(params)}]
        groups += [{"params": [], "weight_decay": 0.0}] if self.spare else []
        return torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay)


REGISTRY = OptimizerRegistry()
for _key, _factory in {
    "scheduled": ScheduledFactory,
    "scheduled_sgd": ScheduledSGDFactory,
    "adamw": AdamWFactory,
    "sgd": SGDFactory,
    "lbfgs": LBFGSFactory,
    "with_empty_group": WithEmptyGroupFactory,
}.items():
    REGISTRY.register(_key, _factory)

KINDS = [
    ("scheduled", {}),
    ("scheduled", {"amsgrad": True}),
    ("scheduled", {"foreach": True, "amsgrad": True}),
    ("scheduled", {"foreach": False, "fused": False}),
    ("scheduled_sgd", {}),
    ("adamw", {}),
    ("adamw", {"fused": True, "amsgrad": True}),
    ("adamw", {"foreach": True}),
    ("sgd", {}),
]
RULES = {
    "one group": (),
    "two groups": ({"match": "norm|bias$", "weight_decay": 0.0},),
    # With these the groups change places with the parameters.
    "groups in the order of parameters": (
        {"match": "^embed", "weight_decay": 0.2},
        {"match": "^first", "weight_decay": 0.3},
        {"match": "^norm", "weight_decay": 0.4},
        {"match": "^second", "weight_decay": 0.5},
    ),
    "rates and policies": (
        {"match": "^embed", "lr_scale": 0.1},
        "no_weight_decay",
        {"layer_decay": 0.75},
    ),
    "frozen": ({"match": "^first", "freeze": True}, "no_weight_decay"),
}
CHANGED_RULES = {
    "split": ((), RULES["two groups"]),
    "merged": (RULES["two groups"], ()),
    "split otherwise": (RULES["two groups"], ({"match": "^embed", "weight_decay": 0.3},)),
    "split into many": (RULES["two groups"], RULES["groups in the order of parameters"]),
    "merged from many": (RULES["groups in the order of parameters"], RULES["two groups"]),
    "rates gone": (RULES["rates and policies"], RULES["two groups"]),
    "rates come": (RULES["two groups"], RULES["rates and policies"]),
    "an option only": (RULES["two groups"], ({"match": "norm|bias$", "weight_decay": 0.05},)),
    "one weight decay for all": (RULES["two groups"], ({"match": "norm|bias$", "weight_decay": 0.1},)),
}
each_key = pytest.mark.parametrize("key", ["scheduled", "adamw"])
each_change = pytest.mark.parametrize(("before", "after"), CHANGED_RULES.values(), ids=CHANGED_RULES)


def configuration(key, params=None, rules=()):
    return {"net": {"type": key, "params": params or {}, "param_groups": list(rules)}}


def build(key, params=None, rules=(), *, order=ORDER, seed=0):
    models = {"net": Network(order, seed)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no optimizer")
        return models, build_optimizers(models, configuration(key, params, rules), registry=REGISTRY)


def trained(*arguments, **options):
    run = build(*arguments, **options)
    train(*run, 0, STEPS)
    return run


def assert_named_right(models, optimizer):
    names = {id(p): name for name, p in models["net"].named_parameters()}
    for group in optimizer.param_groups:
        assert group["param_names"] == [names[id(p)] for p in group["params"]]
