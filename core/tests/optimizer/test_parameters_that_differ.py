"""States of other parameters, by name or shape: every difference is listed, and nothing changes."""

import copy

import pytest
import torch
from torch import nn

from core_support.reordered_builds import REGISTRY, configuration, each_key
from core_support.reordered_runs import assert_same, everything
from optim_core import CheckpointMismatchError, StateMismatchError, build_optimizers, load_checkpoint, save_checkpoint


class Renamed(nn.Module):
    """The network with other layers in it."""

    def __init__(self, names):
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(4, 4, bias=False))


def named_run(key, names, count=0):
    models = {"net": Renamed(names)}
    optimizers = build_optimizers(models, configuration(key), registry=REGISTRY)
    for _ in range(count):
        for parameter in models["net"].parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizers.step()
    return models, optimizers


@pytest.mark.parametrize("key", ["scheduled", "scheduled_sgd", "adamw", "sgd"])
@pytest.mark.parametrize("number", [1, 12, 40])
def test_missing_and_unexpected_names_are_all_listed_and_nothing_changes(key, number):
    ours, theirs = ([f"{side}{index}" for index in range(number)] for side in ("new", "old"))
    state = named_run(key, ["same", *theirs], 2)[1].state_dict()
    run = named_run(key, ["same", *ours], 1)
    unchanged = everything(*run)
    with pytest.raises(StateMismatchError) as caught:
        run[1].load_state_dict(state)
    message = str(caught.value)
    assert not [name for name in ours + theirs if f"'{name}.weight'" not in message]
    assert "same.weight" not in message
    assert_same(everything(*run), unchanged)


@each_key
def test_a_renamed_parameter_is_refused_though_number_and_shapes_fit(key, tmp_path):
    run = named_run(key, ["one", "two"], 2)
    save_checkpoint(tmp_path, *run)
    renamed = named_run(key, ["one", "three"])
    unchanged = everything(*renamed)
    both = r"(?s)(?=.*'three\.weight')(?=.*'two\.weight')"
    with pytest.raises(StateMismatchError, match=both):
        renamed[1]["net"].load_state_dict(run[1]["net"].state_dict())
    with pytest.raises(CheckpointMismatchError, match=both):
        load_checkpoint(tmp_path, *renamed)
    assert_same(everything(*renamed), unchanged)


@each_key
def test_one_component_that_is_refused_leaves_all_as_they_were(key):
    def two(names):
        models = {"first": Renamed(["one", "two"]), "second": Renamed(names)}
        spec = {"type": key, "params": {}}
        optimizers = build_optimizers(models, {"first": spec, "second": spec}, registry=REGISTRY)
        for parameter in [p for model in models.values() for p in model.parameters()]:
            parameter.grad = torch.randn_like(parameter)
        optimizers.step()
        return models, optimizers

    state = two(["three", "four"])[1].state_dict()
    _, optimizers = two(["three", "five"])
    unchanged = copy.deepcopy(optimizers.state_dict())
    with pytest.raises(StateMismatchError, match=r"component 'second'.*'five\.weight'"):
        optimizers.load_state_dict(state)
    assert_same(optimizers.state_dict()["first"]["state"], unchanged["first"]["state"])


def test_shapes_that_differ_under_equal_names_are_refused(tmp_path):
    def run(sizes):
        models = {"net": nn.ModuleDict({name: nn.Linear(size, 1, bias=False) for name, size in sizes.items()})}
        optimizers = build_optimizers(models, configuration("scheduled"), registry=REGISTRY)
        for parameter in models["net"].parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizers.step()
        return models, optimizers

    saved = run({"one": 2, "two": 3})
    save_checkpoint(tmp_path, *saved)
    run({"two": 3, "one": 2})[1].load_state_dict(saved[1].state_dict())
    other = run({"one": 3, "two": 2})
    unchanged = everything(*other)
    with pytest.raises(StateMismatchError, match="shapes"):
        other[1].load_state_dict(saved[1].state_dict())
    with pytest.raises(CheckpointMismatchError):
        load_checkpoint(tmp_path, *other)
    assert_same(everything(*other), unchanged)
