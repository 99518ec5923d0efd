"""Factories that can't be imported, refuse to build or build something else: problems with their paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core_support.built_components import problems_of
from optim_core.building.build_optimizers import build_optimizers
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import ConfigurationError, FactoryLoadError, InvalidArgumentsError, Problem


def test_a_factory_that_cannot_be_imported_is_a_problem_with_its_cause(distribution: Callable[..., Path]) -> None:
    distribution("failing-plugin", factories={"failing": "no_such_module_at_all:Factory"})

    with pytest.raises(ConfigurationError, match=r"failing-plugin 1\.0") as caught:
        build_optimizers({"net": nn.Linear(1, 1)}, {"net": {"type": "failing"}}, registry=OptimizerRegistry())

    assert caught.value.problems[0].path == "net.type"
    assert isinstance(caught.value.__cause__, FactoryLoadError)


def builds(registry: OptimizerRegistry, result: Callable[[Any], Any]) -> None:
    """Register a factory `odd` whose `build` is the function."""

    class Odd:
        def build(self, params: Any) -> Any:
            return result(params)

    registry.register("odd", Odd)


@pytest.mark.parametrize("result", [None, 3, "optimizer", torch.optim.SGD])
def test_a_factory_that_builds_something_else_is_a_problem(registry: OptimizerRegistry, result: object) -> None:
    builds(registry, lambda params: result)

    (problem,) = problems_of({"net": nn.Linear(1, 1)}, {"net": {"type": "odd"}}, registry=registry)

    assert problem.path == "net.type"
    assert problem.message == f"'odd' built a {type(result).__name__}, not a torch.optim.Optimizer"


def raising(error: Exception) -> Callable[[Any], Any]:
    def build(params: Any) -> Any:
        raise error

    return build


@pytest.mark.parametrize("error", [ValueError("no sparse gradients"), TypeError("no sparse gradients")])
def test_what_an_optimizer_refuses_is_a_problem_with_its_path(registry: OptimizerRegistry, error: Exception) -> None:
    builds(registry, raising(error))
    models = {"net": nn.Linear(1, 1), "head": nn.Linear(1, 1)}

    with pytest.raises(ConfigurationError) as caught:
        build_optimizers(models, {"net": {"type": "odd"}, "head": {"type": "odd"}}, registry=registry)

    assert [str(problem) for problem in caught.value.problems] == [
        "net.params: the optimizer can't be built: no sparse gradients",
        "head.params: the optimizer can't be built: no sparse gradients",
    ]
    assert caught.value.__cause__ is error


def test_arguments_that_an_optimizer_refuses_have_their_paths(registry: OptimizerRegistry) -> None:
    builds(registry, raising(InvalidArgumentsError("Odd", [Problem("lr", "too high"), Problem("decay", "too low")])))

    problems = problems_of({"net": nn.Linear(1, 1)}, {"net": {"type": "odd"}}, registry=registry)

    assert [str(problem) for problem in problems] == ["net.params.lr: too high", "net.params.decay: too low"]


def test_any_other_error_of_a_factory_is_its_own_with_a_note(registry: OptimizerRegistry) -> None:
    error = RuntimeError("no GPU")
    builds(registry, raising(error))

    with pytest.raises(RuntimeError) as caught:
        build_optimizers({"net": nn.Linear(1, 1)}, {"net": {"type": "odd"}}, registry=registry)

    assert caught.value is error
    assert caught.value.__notes__ == ["raised while building the optimizer of component 'net' (odd)"]
