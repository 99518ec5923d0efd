"""Components that are shared, unknown or no modules: every problem at once, and nothing is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core_support.built_components import BOTH, SGD, SGD_SPEC, Net, problems_of
from optim_core.building.build_optimizers import build_optimizers
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import ConfigurationError, UnknownOptimizerError


def test_shared_parameters_are_refused_with_both_names(
    registry: OptimizerRegistry, built: list[list[torch.Tensor]]
) -> None:
    encoder, decoder = nn.Linear(2, 2), nn.Linear(2, 2)
    decoder.weight = encoder.weight

    (problem,) = problems_of(
        {"encoder": encoder, "decoder": decoder}, {"encoder": SGD_SPEC, "decoder": SGD_SPEC}, registry=registry
    )

    assert problem.path == "decoder"
    assert problem.message == "shares parameters with component 'encoder': 'weight' (there 'weight')"
    assert problem.hint is not None
    assert built == []


def test_many_shared_parameters_are_listed_in_part(registry: OptimizerRegistry) -> None:
    net = nn.Sequential(*[nn.Linear(1, 1) for _ in range(4)])

    (problem,) = problems_of({"one": net, "two": net}, {"one": SGD_SPEC, "two": SGD_SPEC}, registry=registry)

    assert "'0.weight' (there '0.weight')" in problem.message
    assert problem.message.endswith(" and 5 more")


def test_overlapping_dotted_components_are_refused_with_both_names(registry: OptimizerRegistry) -> None:
    (problem,) = problems_of(Net(), {**BOTH, "backbone.1": SGD_SPEC}, registry=registry)

    assert problem.path == "backbone.1"
    assert problem.message == "is a part of component 'backbone'"


@pytest.mark.parametrize(
    ("models", "name", "hint"),
    [
        (Net(), "bakbone", "Did you mean 'backbone'?"),
        (Net(), "backbone.2", "Did you mean 'backbone.0' or 'backbone.1' or 'backbone'?"),
        (Net(), "xyzzy", "Known: backbone, head"),
        (Net(), "head.weight", None),
        ({"net": Net()}, "net.haed", "Did you mean 'net.head'?"),
        ({"net": Net()}, "head", "Did you mean 'net.head'?"),
        ({}, "net", "There are no components to name"),
        (nn.Linear(1, 1), "net", "There are no components to name"),
    ],
)
def test_an_unknown_component_names_near_ones(
    registry: OptimizerRegistry, models: Any, name: str, hint: str | None
) -> None:
    (problem,) = problems_of(models, {name: SGD_SPEC}, registry=registry, uncovered="ignore")

    assert (problem.path, problem.message) == (name, "no such component")
    assert hint is None or problem.hint == hint


def test_a_component_that_is_no_module_is_refused(registry: OptimizerRegistry) -> None:
    with pytest.raises(TypeError, match=r"models\['net'\] must be a torch\.nn\.Module, not Tensor"):
        build_optimizers({"net": torch.ones(1)}, {"net": SGD_SPEC}, registry=registry)  # type: ignore[dict-item]


@pytest.mark.parametrize("models", [[nn.Linear(1, 1)], None, "net"])
def test_models_of_the_wrong_kind_are_a_type_error(registry: OptimizerRegistry, models: Any) -> None:
    with pytest.raises(TypeError, match=r"models must be a torch\.nn\.Module or a mapping"):
        build_optimizers(models, {"net": SGD_SPEC}, registry=registry)


def test_problems_of_every_kind_are_reported_at_once_and_nothing_is_built(
    registry: OptimizerRegistry, built: list[list[torch.Tensor]], tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        """\
model:
  component_optims:
    good: {type: sgd, params: {lr: 1}}
    unknown_type: {type: sdg, params: {lr: 1}}
    unknown_component: {type: sgd, params: {lr: 1}}
    arguments:
      type: sgd
      params:
        lr: -1
        momentun: 0.9
    malformed: [sgd]
    shared: {type: sgd, params: {lr: 1}, parms: {}}
""",
        encoding="utf-8",
    )
    good = nn.Linear(1, 1)
    names = ("unknown_type", "arguments", "malformed")
    models = {"good": good, "shared": good, **{name: nn.Linear(1, 1) for name in names}}

    with pytest.raises(ConfigurationError) as caught:
        build_optimizers(models, path, registry=registry)

    error = caught.value
    assert error.subject == str(path)
    assert [(problem.path.removeprefix("model.component_optims."), problem.line) for problem in error.problems] == [
        ("unknown_type.type", 4),
        ("unknown_component", 5),
        ("arguments.params.lr", 9),
        ("arguments.params.momentun", 10),
        ("malformed", 11),
        ("shared.parms", 12),
        ("shared", 12),
    ]
    assert str(error).startswith(
        f"{path}: 7 problems\n  - line 4: model.component_optims.unknown_type.type: no optimizer"
    )
    assert isinstance(error.__cause__, UnknownOptimizerError)
    assert built == []


def test_components_that_are_not_named_by_strings_are_refused() -> None:
    with pytest.raises(TypeError, match="strings as component names, not 0"):
        build_optimizers({0: nn.Linear(2, 2)}, {"net": {"type": "adam"}})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ["0.", "..0", ".0", "0..weight"])
def test_names_with_empty_parts_are_no_components(name: str) -> None:
    registry = OptimizerRegistry()
    registry.register("sgd", SGD)
    with pytest.raises(ConfigurationError, match="no such component"):
        build_optimizers(nn.Sequential(nn.Linear(2, 2)), {name: {"type": "sgd"}}, registry=registry)


def test_hints_do_not_name_what_a_wrapper_hides() -> None:
    registry = OptimizerRegistry()
    registry.register("sgd", SGD)
    models = {"enc": nn.DataParallel(nn.Sequential(nn.Linear(2, 2)))}
    with pytest.raises(ConfigurationError) as caught:
        build_optimizers(models, {"enc.1": {"type": "sgd"}}, registry=registry)
    assert "'enc.0'" in str(caught.value)
    assert "module" not in str(caught.value)
