"""Components with rules within one module, under wrappers, and what overlaps."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.building.build_optimizers import build_optimizers
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import ConfigurationError, UncoveredParametersWarning

PART = "A part of a component gets a rate or options of its own by a rule in its param_groups"


def problems(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        build_optimizers(*args, **kwargs)
    return [str(problem) for problem in caught.value.problems]


def model() -> nn.Module:
    return nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "head": nn.Linear(2, 1)})


def test_names_are_those_within_the_dotted_component(registry: OptimizerRegistry) -> None:
    rules = [{"match": "^weight$", "lr": 0.5}]
    specs = {"encoder.0": {"type": "sgd", "param_groups": rules}, "head": {"type": "sgd", "param_groups": rules}}
    made = build_optimizers(model(), specs, registry=registry, uncovered="ignore")
    assert [g["param_names"] for g in made["encoder.0"].param_groups] == [["bias"], ["weight"]]


@pytest.mark.parametrize("order", [("encoder", "encoder.0"), ("encoder.0", "encoder")])
def test_overlapping_components_are_refused_with_both_names(registry: OptimizerRegistry, order: Any) -> None:
    found = problems(model(), {name: {"type": "sgd"} for name in order}, registry=registry, uncovered="ignore")
    assert found == [f"encoder.0: is a part of component 'encoder'. {PART}"]


def test_each_pair_of_three_nested_components_is_named(registry: OptimizerRegistry) -> None:
    net = nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(1, 1))))
    found = problems(net, {name: {"type": "sgd"} for name in ("0", "0.0", "0.0.0")}, registry=registry)
    assert {(line.split(":")[0], line.split("'")[1]) for line in found} == {
        ("0.0", "0"),
        ("0.0.0", "0.0"),
        ("0.0.0", "0"),
    }


def test_a_frozen_part_of_a_component_is_refused_too(registry: OptimizerRegistry) -> None:
    net = model()
    net["encoder"][0].requires_grad_(False)
    specs = {"encoder": {"type": "sgd"}, "encoder.0": {"type": "sgd"}}
    found = problems(net, specs, registry=registry, uncovered="ignore")
    assert found == [f"encoder.0: is a part of component 'encoder'. {PART}"]


def test_names_that_only_begin_alike_do_not_overlap(registry: OptimizerRegistry) -> None:
    net = nn.ModuleDict({"enc": nn.Linear(1, 1), "enc2": nn.Linear(1, 1)})
    assert list(build_optimizers(net, {"enc": {"type": "sgd"}, "enc2": {"type": "sgd"}}, registry=registry))


@pytest.fixture
def _process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


DDP = nn.parallel.DistributedDataParallel


@pytest.mark.usefixtures("_process_group")
def test_rules_see_through_distributed_data_parallel(named: Callable[..., Any], net: nn.Module) -> None:
    assert named(DDP(net), [{"match": r"^0\.weight$", "lr": 0.5}])[1] == ["0.weight"]


@pytest.mark.usefixtures("_process_group")
@pytest.mark.parametrize("outer", [lambda ddp: ddp, torch.compile, lambda ddp: nn.Sequential(ddp)])
def test_freezing_what_ddp_is_around_is_refused(refused: Callable[..., Any], net: nn.Module, outer: Any) -> None:
    assert refused(outer(DDP(net)), [{"match": r"0\.bias$", "freeze": True}]) == [
        "net.param_groups: freezes parameters that a DistributedDataParallel is around, which goes on to wait for "
        "their gradients. Build the optimizers before the model is wrapped"
    ]


@pytest.mark.usefixtures("_process_group")
def test_what_was_frozen_before_ddp_may_be_frozen_by_rule(groups: Callable[..., Any], net: nn.Module) -> None:
    net[0].requires_grad_(False)
    assert len(groups(DDP(net), [{"match": "^0", "freeze": True}])) == 1


def test_rules_see_through_compilation(named: Callable[..., Any], net: nn.Module) -> None:
    assert named(torch.compile(net), [{"match": r"^0\.weight$", "lr": 0.5}])[1] == ["0.weight"]


def test_rules_see_through_data_parallel(named: Callable[..., Any], net: nn.Module) -> None:
    assert named(nn.DataParallel(net), [{"type": "LayerNorm", "lr": 0.5}])[1] == ["1.weight", "1.bias"]


def test_nothing_stays_frozen_where_a_warning_is_an_error(registry: OptimizerRegistry, net: nn.Module) -> None:
    models = {"net": net, "other": nn.Linear(1, 1)}
    spec = {"type": "sgd", "param_groups": [{"match": "bias", "freeze": True}]}
    with pytest.warns(UncoveredParametersWarning):
        build_optimizers({**models, "net": copy.deepcopy(net)}, {"net": spec}, registry=registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncoveredParametersWarning)
        with pytest.raises(UncoveredParametersWarning):
            build_optimizers(models, {"net": spec}, registry=registry)
    assert all(parameter.requires_grad for parameter in net.parameters())
