"""Training by rules against PyTorch's own AdamW over groups made by hand, at rates from written-out formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.optimizer.scheduled_adamw import ScheduledAdamW
from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer

Build = Callable[..., ComponentOptimizers]


def data(seed: int) -> torch.Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))


def trained(net: nn.Module, optimizer: Any, steps: int, before: Callable[[int], None] = lambda step: None) -> None:
    for step in range(steps):
        before(step)
        optimizer.zero_grad()
        net(data(step)).square().sum().backward()
        optimizer.step()


def rate(step: int) -> float:
    """Warmup of two steps from 0.01 to 0.1, half a cosine to 0.02 at step 7, then constant."""
    if step < 2:
        return 0.01 + 0.09 * step / 2
    return 0.02 + 0.08 * (1 + math.cos(math.pi * (min(step, 7) - 2) / 5)) / 2


RULES = [
    {"match": "0.bias", "freeze": True},
    {"match": "^0", "lr_scale": 0.25},
    {"type": "LayerNorm", "weight_decay": 0.0, "betas": [0.8, 0.99]},
    {"match": "2.bias", "lr": 0.05, "weight_decay": 0.0},
]
# The same by hand: names, share of the rate, weight decay, betas.
BY_HAND: Sequence[tuple[list[str], float, float, tuple[float, float]]] = [
    (["0.weight"], 0.25, 0.5, (0.9, 0.999)),
    (["1.weight", "1.bias"], 1.0, 0.0, (0.8, 0.99)),
    (["2.weight"], 1.0, 0.5, (0.9, 0.999)),
    (["2.bias"], 0.5, 0.0, (0.9, 0.999)),
]


def by_hand(net: nn.Module) -> tuple[torch.optim.Optimizer, Callable[[Callable[[int], float]], Callable[[int], None]]]:
    net.get_parameter("0.bias").requires_grad_(False)
    groups = [
        {"params": [net.get_parameter(name) for name in names], "weight_decay": decay, "betas": betas}
        for names, _, decay, betas in BY_HAND
    ]
    optimizer = torch.optim.AdamW(groups, foreach=False)

    def at(formula: Callable[[int], float]) -> Callable[[int], None]:
        def set_rates(step: int) -> None:
            for group, (_, share, _, _) in zip(optimizer.param_groups, BY_HAND, strict=True):
                group["lr"] = share * formula(step)

        return set_rates

    return optimizer, at


def assert_same(net: nn.Module, other: nn.Module) -> None:
    for (name, parameter), (_, expected) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("key", "formula"), [("scheduled", rate), ("adamw", lambda step: 0.1)])
def test_training_by_rules_is_training_by_hand(
    build: Build, net: nn.Module, key: str, formula: Callable[[int], float]
) -> None:
    other = deepcopy(net)
    optimizer, at = by_hand(other)
    trained(net, build(net, RULES, key), 12 if key == "adamw" else 8)
    trained(other, optimizer, 12 if key == "adamw" else 8, at(formula))
    assert_same(net, other)


def test_layer_decay_follows_the_schedule(build: Build, net: nn.Module) -> None:
    other = deepcopy(net)
    trained(net, build(net, [{"layer_decay": 0.5}, "no_weight_decay"], "scheduled"), 8)
    matrices = [(other[0].weight, 0.25), (other[2].weight, 1.0)]
    vectors = [(other[0].bias, 0.25), (other[1].weight, 0.5), (other[1].bias, 0.5), (other[2].bias, 1.0)]
    groups = [{"params": [p], "weight_decay": 0.5} for p, _ in matrices]
    groups += [{"params": [p], "weight_decay": 0.0} for p, _ in vectors]
    optimizer = torch.optim.AdamW(groups, foreach=False)

    def set_rates(step: int) -> None:
        for group, (_, share) in zip(optimizer.param_groups, [*matrices, *vectors], strict=True):
            group["lr"] = share * rate(step)

    trained(other, optimizer, 8, set_rates)
    assert_same(net, other)


def test_layer_decay_is_in_lr_for_any_torch_scheduler(build: Build, net: nn.Module) -> None:
    optimizer = build(net, [{"layer_decay": 0.5}], "adamw")["net"]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    optimizer.step()
    scheduler.step()
    rates = {name: g["lr"] for g in optimizer.param_groups for name in g["param_names"]}
    assert rates == pytest.approx({n: 0.05 * s for n, s in SHARES.items()})


SHARES = {"0.weight": 0.25, "0.bias": 0.25, "1.weight": 0.5, "1.bias": 0.5, "2.weight": 1.0, "2.bias": 1.0}


def test_a_rate_of_zero_is_none_for_the_whole_schedule(build: Build, net: nn.Module) -> None:
    before = net[0].weight.detach().clone()
    trained(net, build(net, [{"match": "^0", "lr_scale": 0}], "scheduled"), 4)
    assert torch.equal(net[0].weight, before)


def test_scheduled_adamw_stays_fused_with_rules(registry: OptimizerRegistry, build: Build, net: nn.Module) -> None:
    class Fused:
        def build(self, params: Any) -> torch.optim.Optimizer:
            from optim_core.schedules.warmup_cosine import WarmupCosine

            return ScheduledAdamW(params, schedule=WarmupCosine(peak_lr=0.1, total_steps=8, warmup_steps=2))

    registry.register("fused", Fused)
    made = build(net, ["no_weight_decay", {"match": "^0", "lr_scale": 0.5}], "fused")["net"]
    assert [(g["fused"], g["peak_lr"]) for g in made.param_groups] == [(True, 0.1)] * 2 + [(True, 0.05)] * 2


def test_any_class_of_pytorchs_may_be_mixed_with_a_schedule(
    registry: OptimizerRegistry, build: Build, net: nn.Module
) -> None:
    class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
        pass

    class Factory:
        def build(self, params: Any) -> torch.optim.Optimizer:
            from optim_core.schedules.warmup_cosine import WarmupCosine

            shape = WarmupCosine(peak_lr=0.1, total_steps=8, warmup_steps=2, start_lr=0.01, end_lr=0.02)
            return ScheduledSGD(params, schedule=shape)

    registry.register("scheduled_sgd", Factory)
    optimizers = build(net, [{"match": "^0", "lr_scale": 0.5}, {"match": "^1", "momentum": 0.9}], "scheduled_sgd")
    groups = optimizers["net"].param_groups
    for step in range(10):
        assert [g["lr"] for g in groups] == pytest.approx([rate(step), rate(step), rate(step) / 2])
        if step < 8:
            optimizers.step()
        else:
            break


def test_a_saved_optimizer_with_rules_goes_on_where_it_was(build: Build, net: nn.Module) -> None:
    other = deepcopy(net)
    whole = build(net, RULES, "scheduled")
    trained(net, whole, 6)
    first = build(other, RULES, "scheduled")
    trained(other, first, 3)
    again = deepcopy(other)
    second = build(again, RULES, "scheduled")
    second.load_state_dict(deepcopy(first.state_dict()))
    for step in range(3, 6):
        second.zero_grad()
        again(data(step)).square().sum().backward()
        second.step()
    assert_same(again, net)
