"""Building: which modules are components, and which parameters the optimizer of each has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core_support.built_components import BOTH, SGD, SGD_SPEC, Net, ids, owned, problems_of
from optim_core.building.build_optimizers import build_optimizers
from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY, OptimizerRegistry


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net,
        lambda net: {"backbone": net.backbone, "head": net.head},
        lambda net: nn.ModuleDict({"backbone": net.backbone, "head": net.head}),
        lambda net: nn.DataParallel(net),
        lambda net: {"backbone": nn.DataParallel(net.backbone), "head": net.head},
        lambda net: nn.DataParallel(nn.ModuleDict({"backbone": net.backbone, "head": net.head})),
        # torch.compile uses what PyTorch itself has deprecated.
        pytest.param(torch.compile, marks=pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")),
    ],
    ids=["module", "dict", "ModuleDict", "DataParallel", "dict of DataParallel", "DataParallel ModuleDict", "compiled"],
)
def test_each_component_has_an_optimizer_of_its_own_parameters(
    registry: OptimizerRegistry, wrap: Callable[[Net], Any]
) -> None:
    net = Net()

    optimizers = build_optimizers(wrap(net), BOTH, registry=registry)

    assert list(optimizers) == ["backbone", "head"]
    assert owned(optimizers, "backbone") == ids(net.backbone.parameters())
    assert owned(optimizers, "head") == ids(net.head.parameters())
    assert optimizers["head"].param_groups[0]["lr"] == 0.1
    assert list(optimizers.parameters_of("head")) == ["weight", "bias"]


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_is_looked_through(registry: OptimizerRegistry) -> None:
    whole, backbone, head = Net(), nn.Linear(2, 2), nn.Linear(2, 1)
    parallel = nn.parallel.DistributedDataParallel

    of_module = build_optimizers(parallel(whole), {"backbone.0": SGD_SPEC}, registry=registry, uncovered="ignore")
    of_mapping = build_optimizers({"backbone": parallel(backbone), "head": head}, BOTH, registry=registry)

    assert owned(of_module, "backbone.0") == ids(whole.backbone[0].parameters())
    assert list(of_module.parameters_of("backbone.0")) == ["weight", "bias"]
    assert owned(of_mapping, "backbone") == ids(backbone.parameters())
    assert list(of_mapping.parameters_of("backbone")) == ["weight", "bias"]


def test_components_of_one_module_are_dotted_paths(registry: OptimizerRegistry) -> None:
    net = Net()

    optimizers = build_optimizers(
        net, {"backbone.1": SGD_SPEC, "backbone.0": SGD_SPEC, "head": SGD_SPEC}, registry=registry
    )

    assert list(optimizers) == ["backbone.1", "backbone.0", "head"]
    assert owned(optimizers, "backbone.1") == ids(net.backbone[1].parameters())


def test_dotted_paths_lead_into_the_modules_of_a_mapping(registry: OptimizerRegistry) -> None:
    net = Net()

    optimizers = build_optimizers(
        {"student": net},
        {"student.head": SGD_SPEC, "student.backbone.1": SGD_SPEC},
        registry=registry,
        uncovered="ignore",
    )

    assert owned(optimizers, "student.head") == ids(net.head.parameters())
    assert owned(optimizers, "student.backbone.1") == ids(net.backbone[1].parameters())


def test_a_mapping_may_have_dots_in_its_names(registry: OptimizerRegistry) -> None:
    net, other = Net(), nn.Linear(1, 1)

    optimizers = build_optimizers(
        {"a": net, "a.head": other}, {"a.head": SGD_SPEC}, registry=registry, uncovered="ignore"
    )

    assert owned(optimizers, "a.head") == ids(other.parameters())


def test_a_module_that_has_two_names_can_be_named_by_either(registry: OptimizerRegistry) -> None:
    net = nn.Module()
    net.encoder = net.alias = nn.Linear(2, 1)

    optimizers = build_optimizers(net, {"alias": SGD_SPEC}, registry=registry)

    assert owned(optimizers, "alias") == ids(net.encoder.parameters())


def test_a_whole_configuration_in_a_file_is_built(registry: OptimizerRegistry, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {component_optims: {backbone: {type: sgd, params: {lr: 1e-3}}}}", encoding="utf-8")

    optimizers = build_optimizers({"backbone": nn.Linear(1, 1)}, path, registry=registry)

    assert optimizers["backbone"].param_groups[0]["lr"] == 1e-3
    assert optimizers.specs["backbone"].path == "model.component_optims.backbone"
    assert optimizers.params["backbone"] == {"lr": 1e-3, "momentum": 0.0}


def test_the_process_wide_registry_is_the_default(built: list[list[torch.Tensor]]) -> None:
    OPTIMIZER_BUILDER_REGISTRY.register("only_in_this_test", SGD)

    build_optimizers({"net": nn.Linear(1, 1)}, {"net": {"type": "only_in_this_test", "params": {"lr": 1}}})

    assert len(built) == 1


def test_the_configuration_is_not_changed(registry: OptimizerRegistry) -> None:
    source = {"net": {"type": "sgd", "params": {"lr": "1e-1"}}}

    build_optimizers({"net": nn.Linear(1, 1)}, source, registry=registry)

    assert source == {"net": {"type": "sgd", "params": {"lr": "1e-1"}}}


@pytest.mark.parametrize("module", [nn.Linear(2, 1).requires_grad_(False), nn.ReLU()], ids=["frozen", "parameterless"])
def test_a_component_with_nothing_to_train_is_skipped_and_logged(
    registry: OptimizerRegistry, built: list[list[torch.Tensor]], caplog: pytest.LogCaptureFixture, module: nn.Module
) -> None:
    with caplog.at_level(logging.INFO, "optim_core"):
        optimizers = build_optimizers({"backbone": module, "head": nn.Linear(1, 1)}, BOTH, registry=registry)

    assert list(optimizers) == ["head"]
    assert optimizers.skipped == ("backbone",)
    assert len(built) == 1
    assert "component 'backbone' is skipped: it has no trainable parameter" in caplog.text
    assert "'head'" not in caplog.text


def test_a_skipped_component_is_checked_like_the_others(registry: OptimizerRegistry) -> None:
    frozen = nn.Linear(1, 1).requires_grad_(False)

    (problem,) = problems_of({"net": frozen}, {"net": {"type": "sgd"}}, registry=registry)

    assert problem.path == "net.params.lr"


def test_a_component_frozen_in_part_is_built(registry: OptimizerRegistry) -> None:
    net = Net()
    net.backbone[0].requires_grad_(False)

    optimizers = build_optimizers(net, BOTH, registry=registry)

    assert owned(optimizers, "backbone") == ids(net.backbone.parameters())
    assert optimizers.skipped == ()


def test_a_frozen_component_may_share_its_parameters(registry: OptimizerRegistry) -> None:
    net = nn.Linear(1, 1).requires_grad_(False)

    optimizers = build_optimizers({"one": net, "two": net}, {"one": SGD_SPEC, "two": SGD_SPEC}, registry=registry)

    assert optimizers.skipped == ("one", "two")


def test_a_parameter_used_twice_within_a_component_is_no_problem(registry: OptimizerRegistry) -> None:
    net = Net()
    net.backbone[1].weight = nn.Parameter(torch.zeros(4, 4))
    net.backbone.append(nn.Linear(4, 4))
    net.backbone[2].weight = net.backbone[1].weight

    optimizers = build_optimizers(net, BOTH, registry=registry)

    assert owned(optimizers, "backbone") == ids(net.backbone.parameters())


def test_an_installed_factory_builds(distribution: Callable[..., Path]) -> None:
    source = """
    import torch
    class Factory:
        def __init__(self, lr: float): self.lr = lr
        def build(self, params): return torch.optim.Adagrad(params, lr=self.lr)
    """
    distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": source})

    optimizers = build_optimizers(
        {"net": nn.Linear(1, 1)}, {"net": {"type": "fake", "params": {"lr": "1e-4"}}}, registry=OptimizerRegistry()
    )

    assert type(optimizers["net"]) is torch.optim.Adagrad
    assert optimizers["net"].param_groups[0]["lr"] == 1e-4
