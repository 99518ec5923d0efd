"""The walk over a module's parameters, held to PyTorch's own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.components.lookup import Component, ComponentSource
from optim_core.components.module_parameters import all_distinct


class Tied(nn.Module):
    """One parameter under two names, one module under two, and a parameter that is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 4)
        self.blocks = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 4))
        self.head = nn.Linear(4, 3)
        self.head.weight = self.embedding.weight
        self.alias = self.blocks
        self.scale = nn.Parameter(torch.ones(()))
        self.register_parameter("absent", None)


class Circular(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.add_module("back", nn.Module())
        self.back.add_module("up", self)


class Hiding(nn.Module):
    """A module that trains only a part of what it has."""

    def __init__(self) -> None:
        super().__init__()
        self.shown, self.hidden = nn.Linear(2, 2), nn.Linear(2, 2)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return self.shown.named_parameters(*args, **kwargs)


class Renaming(nn.Module):
    """A part whose modules go by other names, as a wrapper's do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def named_modules(self, memo: Any = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[Any]:
        yield from self.inner.named_modules(memo, prefix, remove_duplicate)


MODULES = {
    "a layer": lambda: nn.Linear(2, 3),
    "layers": lambda: nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), nn.LayerNorm(2)),
    "lists": lambda: nn.ModuleList([nn.ParameterList([torch.ones(1), torch.ones(2)]), nn.ParameterDict()]),
    "nothing": lambda: nn.ReLU(),
    "tied": Tied,
    "circular": Circular,
    "a walk of its own": Hiding,
    "a walk of its own within": lambda: nn.Sequential(Renaming(), nn.Linear(1, 1)),
}


def found(module: nn.Module) -> Component:
    component = ComponentSource({"net": module}).find("net")
    assert isinstance(component, Component)
    return component


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_parameters_names_and_order_are_those_of_pytorch(make: Any) -> None:
    module = make()

    component = found(module)

    expected = list(module.named_parameters())
    assert list(component.parameters) == [name for name, _ in expected]
    assert [id(p) for p in component.parameters.values()] == [id(p) for _, p in expected]
    assert [id(p) for p in component.tensors] == [id(p) for p in module.parameters()]
    assert len(component.parameters) == len(expected)


def test_names_are_those_of_the_time_of_the_walk() -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    before = dict(module.named_parameters())
    component = found(module)

    module.append(nn.Linear(2, 2))
    module[0].bias = None

    assert dict(component.parameters) == before


def test_a_copy_has_the_same_names_and_parameters_of_its_own() -> None:
    parameters = found(Tied()).parameters

    duplicate = copy.deepcopy(parameters)

    assert list(duplicate) == list(parameters)
    assert duplicate["scale"] is not parameters["scale"]


def test_several_components_are_distinct_unless_something_is_there_twice() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    source = ComponentSource({"first": first, "second": second, "again": nn.Sequential(first)})

    assert source.find_all(["first", "second"]).distinct
    assert not source.find_all(["first", "second", "again"]).distinct


def test_none_is_not_distinct() -> None:
    assert all_distinct([1, 2, 3])
    assert not all_distinct([1, 2, 1])
    assert not all_distinct([1, id(None)])


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_parameters_of_scripted_modules_are_found(inside: bool) -> None:
    module: Any = torch.jit.trace(Scripted(), torch.ones(1, 2))
    if inside:
        module = nn.Sequential(nn.Linear(2, 2), module)
    component = ComponentSource({"a": module}).find("a")

    assert isinstance(component, Component)
    assert list(component.parameters) == [name for name, _ in module.named_parameters()]


def test_an_instance_may_have_a_walk_of_its_own() -> None:
    module: Any = nn.Linear(2, 2)
    module.named_parameters = lambda *_, **__: iter([("weight", module.weight)])
    module.parameters = lambda *_, **__: iter([module.weight])
    component = ComponentSource({"a": module}).find("a")

    assert isinstance(component, Component)
    assert list(component.parameters) == ["weight"]
    assert [p is module.weight for p in component.tensors] == [True]
