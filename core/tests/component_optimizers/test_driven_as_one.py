"""`ComponentOptimizers`: a mapping of optimizers that a training loop drives as one."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from core_support.two_components import backward, equal, make, weights
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.configuration.specifications import ComponentSpec


def test_it_is_a_mapping_in_the_order_given(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)

    assert isinstance(optimizers, Mapping)
    assert list(optimizers) == list(optimizers.keys()) == ["backbone", "head"]
    assert len(optimizers) == 2
    assert "head" in optimizers
    assert "nonsense" not in optimizers
    assert [type(o) for o in optimizers.values()] == [torch.optim.Adam, torch.optim.SGD]
    assert dict(optimizers.items())["head"] is optimizers["head"]
    assert optimizers.get("nonsense") is None


def test_it_equals_itself_only_and_can_be_hashed(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)

    assert optimizers == optimizers
    assert optimizers != make(models)
    assert optimizers != dict(optimizers)
    assert len({optimizers, optimizers}) == 1


def test_an_unknown_component_names_the_nearest(models: dict[str, nn.Linear]) -> None:
    with pytest.raises(KeyError, match=r"'bakbone' has no optimizer; did you mean 'backbone'\?"):
        make(models)["bakbone"]


def test_an_unknown_component_far_from_all_lists_them(models: dict[str, nn.Linear]) -> None:
    with pytest.raises(KeyError, match="'xyzzy' has no optimizer; there are backbone, head"):
        make(models)["xyzzy"]


def test_an_unknown_component_of_nothing() -> None:
    with pytest.raises(KeyError, match="'net' has no optimizer; there are none"):
        ComponentOptimizers({})["net"]


def test_a_skipped_component_says_so(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models, skipped=["teacher"])

    assert "teacher" not in optimizers
    assert optimizers.skipped == ("teacher",)
    with pytest.raises(KeyError, match="'teacher' has no optimizer: it was skipped, as nothing in it is trainable"):
        optimizers["teacher"]


def test_step_is_a_step_of_each_optimizer(models: dict[str, nn.Linear]) -> None:
    others = copy.deepcopy(models)
    adam = torch.optim.Adam(others["backbone"].parameters(), lr=0.01)
    sgd = torch.optim.SGD(others["head"].parameters(), lr=0.1, momentum=0.9)
    optimizers = make(models)

    for _ in range(3):
        backward(models)
        optimizers.step()
        optimizers.zero_grad()
        backward(others)
        adam.step()
        sgd.step()
        adam.zero_grad()
        sgd.zero_grad()

    assert equal(weights(models), weights(others))


def test_zero_grad_takes_gradients_away_or_sets_them_to_zero(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)
    parameters = [p for module in models.values() for p in module.parameters()]
    backward(models)

    optimizers.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in parameters)

    optimizers.zero_grad()
    assert all(p.grad is None for p in parameters)


def test_learning_rates_are_those_of_the_first_groups(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)
    optimizers["head"].add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 7.0})
    optimizers["backbone"].param_groups[0]["lr"] = torch.tensor(0.25)

    assert optimizers.learning_rates() == {"backbone": 0.25, "head": 0.1}
    assert all(type(rate) is float for rate in optimizers.learning_rates().values())


def test_learning_rate_of_a_schedule_free_optimizer_is_the_scheduled_one(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)
    optimizers["head"].param_groups[0]["scheduled_lr"] = 0.05

    assert optimizers.learning_rates()["head"] == 0.05


def test_summary_says_who_owns_how_many_parameters(models: dict[str, nn.Linear]) -> None:
    models["backbone"].bias.requires_grad_(False)
    optimizers = make(
        models,
        specs={"backbone": ComponentSpec("backbone", "adam"), "teacher": ComponentSpec("teacher", "sgd")},
        skipped=["teacher"],
    )

    owners, groups = ([line.split() for line in table.splitlines()] for table in optimizers.summary().split("\n\n"))

    assert owners == [
        ["component", "type", "optimizer", "parameters", "trainable", "learning", "rate"],
        ["backbone", "adam", "Adam", "16", "12", "0.01"],
        ["head", "SGD", "10", "10", "0.1"],
        ["teacher", "sgd", "(skipped:", "frozen)", "0"],
    ]
    assert groups == [
        ["component", "group", "rule", "tensors", "parameters", "peak", "lr", "weight", "decay"],
        ["backbone", "0", "(base)", "1", "12", "0.01", "0"],
        ["backbone", "0", "(base)", "1", "4", "frozen", "0"],
        ["head", "0", "(base)", "2", "10", "0.1", "0"],
    ]
    assert repr(optimizers) == f"ComponentOptimizers\n{optimizers.summary()}"


def test_columns_of_the_summary_line_up() -> None:
    big = ComponentOptimizers({"net": torch.optim.SGD([nn.Parameter(torch.zeros(1000, 1000))], lr=1e-4)})

    owners, groups = big.summary().split("\n\n")
    header, row = owners.splitlines()

    assert len(set(map(len, groups.splitlines()))) == 1
    assert row.split()[-3:] == ["1,000,000", "1,000,000", "0.0001"]
    assert len(header) == len(row)
    assert header.index("optimizer") == row.index("SGD")


def test_summary_of_nothing_is_its_header() -> None:
    assert ComponentOptimizers({}).summary().split()[:2] == ["component", "type"]


def test_initial_options_stay_what_the_optimizer_was_built_with(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)

    optimizers["head"].param_groups[0]["lr"] = 99.0

    (options,) = optimizers.initial_options("head")
    assert options["lr"] == 0.1
    assert options["momentum"] == 0.9
    assert "params" not in options


def test_parameters_are_by_name_within_the_component(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models, parameters={"head": dict(models["head"].named_parameters())})

    assert optimizers.parameters_of("head")["bias"] is models["head"].bias
    assert optimizers.parameters_of("backbone") == {}


def test_closure_is_called_once_with_gradients_before_all_updates(models: dict[str, nn.Linear]) -> None:
    optimizers, calls = make(models), []
    before = weights(models)
    oracle_models = copy.deepcopy(models)
    oracle = make(oracle_models)

    def closure() -> float:
        calls.append((torch.is_grad_enabled(), equal(before, weights(models))))
        optimizers.zero_grad()
        backward(models)
        return 0.25

    with torch.no_grad():
        assert optimizers.step(closure) == 0.25
    backward(oracle_models)
    assert oracle.step() is None
    assert calls == [(True, True)]
    assert equal(weights(models), weights(oracle_models))
