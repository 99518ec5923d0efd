"""Optimizers of others: those that take no groups, drop their options, part them, or have no rate or decay."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.discovery.hook_specifications import hookimpl
from optim_core.discovery.hooks import hook_manager
from optim_core.discovery.registry import OptimizerRegistry

Groups = Callable[..., list[dict[str, Any]]]
Refused = Callable[..., list[str]]

NO_GROUPS = (
    "net.param_groups: the optimizer takes no parameter groups: ValueError: LBFGS doesn't support per-parameter "
    "options (parameter groups). Only 'freeze' can be used with it, or another optimizer"
)


@pytest.mark.parametrize("entry", [{"match": "bias", "lr": 0.5}, {"match": "0", "lr_scale": 0.5}, {"layer_decay": 0.5}])
def test_an_optimizer_that_takes_no_groups_says_so(refused: Refused, net: nn.Module, entry: Any) -> None:
    assert refused(net, [{"match": "1.bias", "freeze": True}, entry], "lbfgs") == [NO_GROUPS]


def test_an_optimizer_that_takes_no_groups_can_freeze(groups: Groups, net: nn.Module) -> None:
    assert len(groups(net, [{"match": "^0", "freeze": True}, {"match": "1"}], "lbfgs")) == 1
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True, True, True]


def parted(params: Any) -> list[dict[str, Any]]:
    params = list(params)
    return [dict(group) for group in params] if isinstance(params[0], dict) else [{"params": params}]


class Dropping:
    """Takes the parameters out of groups, and leaves the options."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for group in parted(params) for p in group["params"]], lr=0.1)


class ByDimensions:
    """Parts each group into matrices with momentum and others with dampening and a rate of their own."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        made = []
        for group in parted(params):
            unknown = {"matrix": {"kind_of_vector"}, "vector": {"kind_of_matrix"}}
            kinds = {"matrix": [p for p in group["params"] if p.ndim == 2]}
            kinds["vector"] = [p for p in group["params"] if p.ndim != 2]
            for kind, found in kinds.items():
                if wrong := unknown[kind] & group.keys():
                    if found:
                        raise ValueError(f"{wrong} is no option of a {kind}")
                    continue
                rate = 1.0 if kind == "matrix" else 0.1
                options = {"lr": rate, f"kind_of_{kind}": 0, **group}
                made += [{**options, "params": found}] if found else []
        return torch.optim.SGD(made, lr=0.1)


class BySize(ByDimensions):
    """Gives large parameters ten times the rate of others."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        made = []
        for group in parted(params):
            large = [p for p in group["params"] if p.numel() >= 16]
            small = [p for p in group["params"] if p.numel() < 16]
            made += [{"lr": 1.0, **group, "params": large}] if large else []
            made += [{"lr": 0.1, **group, "params": small}] if small else []
        return torch.optim.SGD(made, lr=0.1)


class Bare(torch.optim.Optimizer):
    """Has neither a rate nor a decay."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"gain": 1.0})


class Gain:
    def build(self, params: Any) -> torch.optim.Optimizer:
        return Bare(params)


@pytest.fixture(autouse=True)
def _outsiders(registry: OptimizerRegistry) -> None:
    for key, factory in {"dropping": Dropping, "parting": ByDimensions, "by_size": BySize, "bare": Gain}.items():
        registry.register(key, factory)


def test_an_optimizer_that_drops_options_is_found_out(refused: Refused, net: nn.Module) -> None:
    assert refused(net, [{"match": "1", "freeze": True}, {"match": "0", "lr_scale": 0.5}], "dropping") == [
        "net.param_groups: the optimizer doesn't take the options of its parameter groups: lr = 0.05 was given for a "
        "group, which has 0.1"
    ]


def rates(made: list[dict[str, Any]]) -> dict[str, float]:
    return {name: group["lr"] for group in made for name in group["param_names"]}


def test_an_optimizer_that_parts_groups_has_each_rate_scaled(groups: Groups, net: nn.Module) -> None:
    found = rates(groups(net, [{"match": "^0", "lr_scale": 0.5}], "parting"))
    assert found == {"0.weight": 0.5, "0.bias": 0.05, "1.weight": 0.1, "1.bias": 0.1, "2.weight": 1.0, "2.bias": 0.1}


def test_an_optimizer_that_parts_groups_by_size_has_each_rate_scaled(groups: Groups) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    found = rates(groups(net, [{"match": "weight", "lr_scale": 0.5}], "by_size"))
    assert found == {"0.weight": 0.5, "0.bias": 0.1, "1.weight": 0.05, "1.bias": 0.1}


@pytest.mark.parametrize("with_hook", [False, True])
def test_an_option_of_one_kind_may_be_set_where_all_matches_are_of_it(
    groups: Groups, net: nn.Module, with_hook: bool
) -> None:
    class ByKind:
        @hookimpl
        def optim_param_groups(self, module: nn.Module, policy: str | None) -> list[dict[str, Any]] | None:
            kinds = [[p for p in module.parameters() if p.ndim == n] for n in (1, 2)]
            return [{"params": kind} for kind in kinds] if policy is None else None

    if with_hook:
        hook_manager().register(ByKind())
    made = groups(net, [{"match": "0.weight", "kind_of_matrix": 7}], "parting")
    assert {n: g.get("kind_of_matrix") for g in made for n in g["param_names"]} == {
        "0.weight": 7,
        "2.weight": 0,
        "0.bias": None,
        "1.weight": None,
        "1.bias": None,
        "2.bias": None,
    }


def test_an_optimizer_without_a_rate_has_none_to_scale(refused: Refused, groups: Groups, net: nn.Module) -> None:
    message = "net.param_groups[0].lr_scale: the optimizer's groups have no rate ('lr') to be scaled"
    assert refused(net, [{"match": "0", "lr_scale": 0.5}], "bare") == [message]
    assert refused(net, [{"layer_decay": 0.5}], "bare") == [message.replace("lr_scale", "layer_decay.lr_scale")]
    assert refused(net, ["no_weight_decay"], "bare") == [
        "net.param_groups[0].no_weight_decay.weight_decay: the optimizer's groups have no such option. Its groups have "
        "gain; a rule has 'lr_scale' and 'freeze' beside these"
    ]
    assert [g["gain"] for g in groups(net, [{"match": "0", "gain": 2}], "bare")] == [1.0, 2]


class Unrated:
    """Takes a rate, and makes do without one."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        return torch.optim.Optimizer(params, {"lr": None})


def test_a_rate_that_is_none_can_be_set_and_not_scaled(
    registry: OptimizerRegistry, refused: Refused, groups: Groups, net: nn.Module
) -> None:
    registry.register("unrated", Unrated)
    (problem,) = refused(net, [{"match": "bias", "lr_scale": 0.5}], "unrated")
    assert problem == "net.param_groups[0].lr_scale: the optimizer's groups have no rate ('lr') to be scaled"
    assert [group["lr"] for group in groups(net, [{"match": "bias", "lr": 0.5}], "unrated")] == [None, 0.5]


def test_the_table_of_an_optimizer_without_a_rate_has_none(build: Callable[..., Any], net: nn.Module) -> None:
    (assignment,) = build(net, [{"match": "0"}, {"match": "1"}, {"match": "2"}], "bare").assignments()[:1]
    assert (assignment.peak_lr, assignment.weight_decay) == (None, None)


@pytest.mark.parametrize(
    "cls", ["Adafactor", "Adagrad", "Adam", "NAdam", "RAdam", "RMSprop", "Rprop", "Adamax", "ASGD"]
)
def test_rules_work_with_pytorchs_own(registry: OptimizerRegistry, groups: Groups, net: nn.Module, cls: str) -> None:
    class Factory:
        def build(self, params: Any) -> torch.optim.Optimizer:
            optimizer: torch.optim.Optimizer = getattr(torch.optim, cls)(params, lr=0.1)
            return optimizer

    registry.register(cls.lower(), Factory)
    found = rates(groups(net, [{"match": "bias", "lr_scale": 0.5}, {"match": "^0", "maximize": True}], cls.lower()))
    assert found["0.bias"] == 0.05
    assert found["0.weight"] == 0.1


def test_ten_thousand_tensors_take_seconds(build: Callable[..., Any]) -> None:
    net = nn.ModuleList([nn.ModuleList([_block() for _ in range(125)]) for _ in range(20)])
    assert len(list(net.parameters())) == 10_000
    entries = [{"match": rf"^{i}\..*bias$", "lr_scale": 0.9} for i in range(20)]
    started = time.perf_counter()
    optimizers = build(net, [*entries, {"type": "LayerNorm", "betas": [0.8, 0.9]}, "no_weight_decay"], "adamw")
    assert len(optimizers.assignments()) > 20
    assert time.perf_counter() - started < 10


def _block() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1))


class Resetting(torch.optim.SGD):
    """Puts its own rate over those of the groups."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.1)
        for group in self.param_groups:
            group["lr"] = 0.1


def test_an_optimizer_that_overwrites_options_is_found_out(
    registry: OptimizerRegistry, refused: Refused, net: nn.Module
) -> None:
    class Factory:
        def build(self, params: Any) -> torch.optim.Optimizer:
            return Resetting(params)

    registry.register("resetting", Factory)
    assert refused(net, [{"match": "0", "lr_scale": 0.5}], "resetting") == [
        "net.param_groups: the optimizer doesn't take the options of its parameter groups: lr = 0.05 was given for a "
        "group, which has 0.1"
    ]


class Counting(torch.optim.SGD):
    """Keeps a count in its groups, which is no option."""

    GROUP_STATE = ("count",)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group({"count": 0, **param_group})


class CountingFactory:
    """SGD that counts."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        return Counting(params, lr=0.1)


def test_what_an_optimizer_keeps_in_its_groups_is_no_option(
    registry: OptimizerRegistry, refused: Refused, net: nn.Module
) -> None:
    registry.register("counting", CountingFactory)
    (problem,) = refused(net, [{"match": "bias", "count": 5}], "counting")
    assert problem.startswith(
        "net.param_groups[0].count: the optimizer's groups have no such option. Its groups have lr"
    )
    assert "count," not in problem


class Eager:
    """Adagrad, which makes state at once, kept alive by a cycle; wants memory, and random numbers."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adagrad(params)
        optimizer.itself = optimizer  # type: ignore[attr-defined]
        torch.rand(3)
        return optimizer


def test_trying_an_optimizer_leaves_random_numbers_alone(
    registry: OptimizerRegistry, groups: Groups, net: nn.Module
) -> None:
    registry.register("eager", Eager)
    torch.manual_seed(0)
    groups(net, None, "eager")
    expected = torch.rand(2)
    torch.manual_seed(0)
    assert len(groups(net, ["no_weight_decay", {"match": "^0", "lr_scale": 0.5}], "eager")) > 1
    assert torch.equal(torch.rand(2), expected)


def test_no_memory_is_no_problem_of_the_configuration(
    registry: OptimizerRegistry, build: Callable[..., Any], net: nn.Module
) -> None:
    class Hungry:
        """Runs out of memory where there are groups."""

        def build(self, params: Any) -> torch.optim.Optimizer:
            if isinstance(params[0], dict):
                raise torch.OutOfMemoryError("out of memory")
            return torch.optim.SGD(params)

    registry.register("hungry", Hungry)
    with pytest.raises(torch.OutOfMemoryError):
        build(net, [{"match": "bias", "lr_scale": 0.5}], "hungry")


def test_thousands_of_shapes_take_seconds(build: Callable[..., Any]) -> None:
    module = nn.ParameterList([nn.Parameter(torch.ones(size, 1)) for size in range(1, 1501)])
    started = time.perf_counter()
    build(module, [{"match": "5$", "weight_decay": 0.5}, "no_weight_decay"])
    assert time.perf_counter() - started < 8
