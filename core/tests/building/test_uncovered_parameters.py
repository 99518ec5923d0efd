"""Trainable parameters that no component covers: counted, and warned about, refused or ignored."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from core_support.built_components import BOTH, SGD_SPEC, Net, problems_of
from optim_core.building.build_optimizers import build_optimizers
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import OptimWarning, UncoveredParametersWarning


def test_uncovered_parameters_are_warned_about_and_counted(registry: OptimizerRegistry) -> None:
    net = Net()
    net.backbone[1].bias.requires_grad_(False)
    # Trainable in the backbone: 3 * 4 + 4 in the first layer, 4 * 4 in the second.
    expected = r"^32 trainable parameters have no optimizer and will not be trained: backbone \(32 parameters\)\. "

    with pytest.warns(UncoveredParametersWarning, match=expected) as caught:
        optimizers = build_optimizers(net, {"head": SGD_SPEC}, registry=registry)

    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert issubclass(UncoveredParametersWarning, OptimWarning)
    assert list(optimizers) == ["head"]


def test_uncovered_parts_are_counted_one_by_one_and_shared_ones_once(registry: OptimizerRegistry) -> None:
    one, two = nn.Linear(10, 100, bias=False), nn.Linear(10, 100)
    two.weight = one.weight

    with pytest.warns(UncoveredParametersWarning, match=r"^1,100 .*: one \(1,000 parameters\), two \(100 parameters\)"):
        build_optimizers({"one": one, "two": two, "head": nn.Linear(1, 1)}, {"head": SGD_SPEC}, registry=registry)


def test_uncovered_parameters_are_a_problem_on_request(
    registry: OptimizerRegistry, built: list[list[torch.Tensor]]
) -> None:
    (problem,) = problems_of(Net(), {"head": SGD_SPEC}, registry=registry, uncovered="error")

    assert problem.message.startswith("36 trainable parameters have no optimizer")
    assert built == []


def test_uncovered_parameters_can_be_ignored(registry: OptimizerRegistry) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizers = build_optimizers(Net(), {"head": SGD_SPEC}, registry=registry, uncovered="ignore")

    assert list(optimizers) == ["head"]


def test_a_misspelt_component_is_not_reported_as_uncovered_too(registry: OptimizerRegistry) -> None:
    (problem,) = problems_of(Net(), {"bakbone": SGD_SPEC, "head": SGD_SPEC}, registry=registry, uncovered="error")

    assert problem.message == "no such component"


def test_a_malformed_component_is_not_reported_as_uncovered_too(registry: OptimizerRegistry) -> None:
    (problem,) = problems_of(Net(), {"backbone": [], "head": SGD_SPEC}, registry=registry, uncovered="error")

    assert problem.path == "backbone"


@pytest.mark.parametrize("uncovered", ["Warn", "", None, True])
def test_another_policy_for_uncovered_parameters_is_refused(registry: OptimizerRegistry, uncovered: Any) -> None:
    with pytest.raises(ValueError, match="must be 'warn', 'error' or 'ignore'"):
        build_optimizers(Net(), BOTH, registry=registry, uncovered=uncovered)
