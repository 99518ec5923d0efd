"""Building many components: the work grows with them, and nothing is shared between them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.arguments.number_types import NonNegative, PeakLearningRate
from optim_core.building import component_factories
from optim_core.building.build_optimizers import build_optimizers
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.components import lookup as components
from optim_core.discovery.hooks import hook_manager, hookimpl
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import ConfigurationError, UncoveredParametersWarning


@dataclass(frozen=True, kw_only=True)
class SGDFactory:
    lr: PeakLearningRate
    momentum: NonNegative = 0.0
    tags: list[str] = field(default_factory=list)

    def build(self, params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=self.lr, momentum=self.momentum)


def build(models: Any, configuration: Any) -> ComponentOptimizers:
    registry = OptimizerRegistry()
    registry.register("sgd", SGDFactory)
    return build_optimizers(models, configuration, registry=registry)


def layers(components: int, each: int) -> dict[str, nn.Module]:
    return {f"net{i}": nn.Sequential(*[nn.Linear(1, 1) for _ in range(each)]) for i in range(components)}


def spec(**params: Any) -> dict[str, Any]:
    return {"type": "sgd", "params": {"lr": 0.1, **params}}


def calls_to_build(models: Any, configuration: Any) -> int:
    """How many functions are called, those written in C included: the same number every time."""
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    build(models, configuration)  # what is cached for each class
    sys.setprofile(count)
    try:
        build(models, configuration)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("as_one", [False, True], ids=["mapping", "one module"])
def test_work_is_linear_in_components(as_one: bool) -> None:
    calls = []
    for number in (20, 40, 60):
        models: Any = layers(number, 2)
        names = [str(i + 1) for i in range(number)] if as_one else list(models)
        configuration = {name: spec(momentum=i / 100) for i, name in enumerate(names)}
        calls.append(calls_to_build(nn.Sequential(nn.ReLU(), *models.values()) if as_one else models, configuration))

    assert calls[2] - calls[1] == pytest.approx(calls[1] - calls[0], rel=0.02)


def test_work_is_linear_in_parameters() -> None:
    calls = [calls_to_build(layers(1, each), {"net0": spec()}) for each in (100, 200, 300)]

    assert calls[2] - calls[1] == pytest.approx(calls[1] - calls[0], rel=0.02)


def test_each_component_is_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = []
    walk = components.parameters_of

    def count(module: nn.Module) -> Any:
        walked.append(module)
        return walk(module)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the parameters were walked already")

    models = layers(3, 2)
    monkeypatch.setattr(components, "parameters_of", count)
    monkeypatch.setattr(nn.Module, "_named_members", refuse)
    monkeypatch.setattr(components, "walks_as_usual", lambda _: True)

    build(models, {name: spec() for name in models})

    assert walked == list(models.values())


def test_equal_params_are_checked_once_for_all_components(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    check = component_factories.converted_params

    def count(target: type, params: Any) -> Any:
        asked.append(dict(params))
        return check(target, params)

    monkeypatch.setattr(component_factories, "converted_params", count)
    models = layers(4, 1)

    build(models, {name: spec() for name in models} | {"net3": spec(lr=0.25)})

    assert asked == [spec()["params"], spec(lr=0.25)["params"]]


def test_equal_values_of_other_types_are_checked_by_themselves() -> None:
    models = layers(2, 1)

    with pytest.raises(ConfigurationError, match="net1") as caught:
        build(models, {"net0": spec(lr=1.0), "net1": spec(lr=True)})

    assert "net0" not in str(caught.value)


def test_params_of_equal_value_are_not_shared_between_components() -> None:
    models, tags = layers(2, 1), ["a"]
    optimizers = build(models, {"net0": spec(tags=tags), "net1": spec(tags=tags)})

    optimizers.params["net0"]["tags"].append("b")

    assert optimizers.params["net1"]["tags"] == ["a"]
    assert tags == ["a"]


def test_defaults_are_not_shared_between_components() -> None:
    optimizers = build(layers(2, 1), {"net0": spec(), "net1": spec()})

    optimizers.params["net0"]["tags"].append("b")

    assert optimizers.params["net1"]["tags"] == []
    assert build(layers(1, 1), {"net0": spec()}).params["net0"]["tags"] == []


def test_changed_params_are_seen_at_the_next_build() -> None:
    models, configuration = layers(1, 1), {"net0": spec()}
    build(models, configuration)

    configuration["net0"]["params"]["lr"] = 0.5

    assert build(models, configuration)["net0"].param_groups[0]["lr"] == 0.5


class Hiding(nn.Sequential):
    """A module that says itself what there is to train: its first layer."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return self[0].parameters(recurse)


def test_a_module_may_say_itself_what_its_parameters_are() -> None:
    module = Hiding(nn.Linear(1, 1), nn.Linear(1, 1))

    optimizers = build({"net": module}, {"net": spec()})

    assert [id(p) for p in optimizers["net"].param_groups[0]["params"]] == [id(p) for p in module[0].parameters()]


def test_what_a_hook_adds_to_a_module_is_among_its_parameters_by_name() -> None:
    class Hooks:
        @hookimpl
        def optim_param_groups(self, module: nn.Sequential) -> Any:
            module.append(nn.Linear(1, 1))
            return list(module.parameters())

    hooks = hook_manager()
    hooks.register(Hooks(), name="adding")
    try:
        optimizers = build(layers(1, 1), {"net0": spec()})
    finally:
        hooks.unregister(name="adding")

    assert list(optimizers.parameters_of("net0")) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_factory_that_leaves_parameters_out_is_noticed() -> None:
    class Leaving(SGDFactory):
        def build(self, params: Any) -> torch.optim.Optimizer:
            return super().build(list(params)[:1])

    registry = OptimizerRegistry()
    registry.register("leaving", Leaving)
    with pytest.warns(UncoveredParametersWarning, match=r"net\.bias \(1 parameters\)"):
        build_optimizers({"net": nn.Linear(1, 1)}, {"net": {"type": "leaving", "params": {"lr": 1}}}, registry=registry)


def test_a_factory_may_change_the_list_that_it_is_given() -> None:
    class Emptying(SGDFactory):
        def build(self, params: Any) -> torch.optim.Optimizer:
            optimizer = super().build(params)
            params.clear()
            return optimizer

    registry = OptimizerRegistry()
    registry.register("emptying", Emptying)
    models = layers(1, 1)
    optimizers = build_optimizers(models, {"net0": {"type": "emptying", "params": {"lr": 1}}}, registry=registry)

    assert list(optimizers.parameters_of("net0")) == ["0.weight", "0.bias"]
