"""States of all components: loaded together or not at all, and copied with the models."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from core_support.two_components import backward, equal, make, weights
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.errors import StateMismatchError


def trained(models: dict[str, nn.Linear], steps: int = 2) -> ComponentOptimizers:
    optimizers = make(models)
    for _ in range(steps):
        backward(models)
        optimizers.step()
        optimizers.zero_grad()
    return optimizers


def test_state_is_by_component(models: dict[str, nn.Linear]) -> None:
    optimizers = trained(models)

    assert list(optimizers.state_dict()) == ["backbone", "head"]
    assert optimizers.state_dict()["backbone"]["state"][0]["step"] == 2


def test_training_goes_on_from_a_loaded_state_bit_for_bit(models: dict[str, nn.Linear]) -> None:
    optimizers = trained(models)
    resumed_models = copy.deepcopy(models)
    resumed = make(resumed_models)

    resumed.load_state_dict(copy.deepcopy(optimizers.state_dict()))
    for some_models, some in ((models, optimizers), (resumed_models, resumed)):
        backward(some_models)
        some.step()

    assert equal(weights(models), weights(resumed_models))


@pytest.mark.parametrize("change", [lambda s: s.pop("head"), lambda s: s.update(extra=s["head"])])
def test_a_state_of_other_components_is_refused(models: dict[str, nn.Linear], change: Any) -> None:
    optimizers = make(models)
    state = optimizers.state_dict()
    change(state)

    with pytest.raises(StateMismatchError, match=r"the optimizers are of \['backbone', 'head'\]"):
        optimizers.load_state_dict(state)


def flat(value: Any) -> Any:
    """A state as plain values, to be compared with ==."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: flat(item) for key, item in value.items()}
    return [flat(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_where_the_second_refuses_its_state_all_are_as_they_were(models: dict[str, nn.Linear]) -> None:
    optimizers = trained(models)
    before = flat(optimizers.state_dict())
    others = {"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)}
    state = trained(others, steps=5).state_dict()
    state["head"]["param_groups"][0]["params"] = [0]
    assert flat(state["backbone"]) != before["backbone"]

    with pytest.raises(StateMismatchError, match="component 'head': ") as caught:
        optimizers.load_state_dict(state)

    assert isinstance(caught.value.__cause__, ValueError)
    assert flat(optimizers.state_dict()) == before


def test_where_anything_else_fails_all_are_as_they_were(models: dict[str, nn.Linear]) -> None:
    optimizers = trained(models)
    before = flat(optimizers.state_dict())
    state = trained({"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)}, steps=5).state_dict()

    def fail(optimizer: torch.optim.Optimizer) -> None:
        raise RuntimeError("no memory")

    optimizers["head"].register_load_state_dict_post_hook(fail)
    with pytest.raises(RuntimeError, match="no memory"):
        optimizers.load_state_dict(state)

    assert flat(optimizers.state_dict()) == before


def test_training_goes_on_unharmed_after_a_refused_state(models: dict[str, nn.Linear]) -> None:
    optimizers = trained(models)
    twin_models = copy.deepcopy(models)
    twin = make(twin_models)
    twin.load_state_dict(copy.deepcopy(optimizers.state_dict()))
    wrong = trained({"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)}, steps=5).state_dict()
    wrong["head"]["param_groups"] = []

    with pytest.raises(StateMismatchError):
        optimizers.load_state_dict(wrong)
    for some_models, some in ((models, optimizers), (twin_models, twin)):
        backward(some_models)
        some.step()

    assert equal(weights(models), weights(twin_models))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_trains_like_the_original_and_apart_from_it(models: dict[str, nn.Linear], duplicate: Any) -> None:
    optimizers = trained(models)

    copied_models, copied = duplicate((models, optimizers))
    for some_models, some in ((models, optimizers), (copied_models, copied)):
        backward(some_models)
        some.step()

    assert equal(weights(models), weights(copied_models))
    assert copied["head"].param_groups[0]["params"][0] is copied_models["head"].weight
    assert copied["head"].param_groups[0]["params"][0] is not models["head"].weight
    assert copied.summary() == optimizers.summary()
