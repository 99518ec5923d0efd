"""The arguments of schedule-free RAdam: which there are, which values are refused, and its factory."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import schedulefree
import torch

from optim_core import (
    OPTIMIZER_BUILDER_REGISTRY,
    InvalidArgumentsError,
    OptimizerFactory,
)
from optim_schedule_free_radam import ScheduleFreeRAdam, ScheduleFreeRAdamFactory
from radam_support.plain_training import trained

KEY = "schedule_free_radam"


def test_group_options_are_checked_and_a_tensor_rate_becomes_a_float() -> None:
    _, optimizer = trained(0)
    extra = torch.nn.Parameter(torch.ones(2))

    with pytest.raises(InvalidArgumentsError, match=r"lr = -0.1: must be greater than or equal to 0"):
        optimizer.add_param_group({"params": [extra], "lr": -0.1})
    assert len(optimizer.param_groups) == 1
    # The library's own class turns the weights to NaN with a tensor.
    optimizer.add_param_group({"params": [extra], "lr": torch.tensor(0.5)})

    assert (type(optimizer.param_groups[1]["lr"]), optimizer.param_groups[1]["lr"]) == (float, 0.5)


@pytest.mark.parametrize("ours", [ScheduleFreeRAdamFactory, ScheduleFreeRAdam])
def test_arguments_and_defaults_are_the_librarys(ours: type) -> None:
    theirs = inspect.signature(schedulefree.RAdamScheduleFree).parameters
    expected = {name: parameter.default for name, parameter in theirs.items() if name != "params"}

    found = {name: p.default for name, p in inspect.signature(ours).parameters.items() if name != "params"}

    assert found == {**expected, "fused": False}
    assert found["foreach"] is hasattr(torch, "_foreach_mul_")


def build_by_factory(**arguments: Any) -> torch.optim.Optimizer:
    return ScheduleFreeRAdamFactory(**arguments).build([torch.nn.Parameter(torch.ones(1))])


def build_directly(**arguments: Any) -> torch.optim.Optimizer:
    return ScheduleFreeRAdam([torch.nn.Parameter(torch.ones(1))], **arguments)


BOTH = pytest.mark.parametrize("build", [build_by_factory, build_directly])


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -0.1}, "lr = -0.1: must be greater than or equal to 0"),
        ({"lr": math.nan}, "lr = nan: must be a finite number"),
        ({"lr": "fast"}, "lr = 'fast': must be a valid number"),
        # The switch to the evaluation weights divides by the first.
        ({"betas": (0.0, 0.999)}, "betas[0] = 0.0: must be greater than 0"),
        ({"betas": (1.0, 0.999)}, "betas[0] = 1.0: must be less than 1"),
        ({"betas": (-0.1, 0.999)}, "betas[0] = -0.1: must be greater than 0"),
        ({"betas": (0.9, 1.0)}, "betas[1] = 1.0: must be less than 1"),
        ({"betas": (0.9, -0.1)}, "betas[1] = -0.1: must be greater than or equal to 0"),
        ({"betas": (0.9,)}, "betas[1]"),
        ({"eps": -1e-8}, "eps = -1e-08: must be greater than or equal to 0"),
        ({"weight_decay": -0.1}, "weight_decay = -0.1: must be greater than or equal to 0"),
        ({"r": "much"}, "r = 'much': must be a valid number"),
        ({"r": float("nan")}, "r = nan: must be a finite number"),
        ({"weight_lr_power": -1}, "weight_lr_power = -1: must be greater than or equal to 0"),
        ({"weight_lr_power": None}, "weight_lr_power = None: must be a valid number"),
        ({"silent_sgd_phase": "perhaps"}, "silent_sgd_phase = 'perhaps': must be a valid boolean"),
    ],
)
def test_wrong_value_is_refused_by_factory_and_optimizer(
    build: Callable[..., torch.optim.Optimizer], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**arguments)


@BOTH
def test_all_wrong_values_are_named_at_once(build: Callable[..., torch.optim.Optimizer]) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        build(lr=-1, betas=(0.0, 1.0), eps=-1)

    assert {problem.path for problem in caught.value.problems} == {"lr", "betas[0]", "betas[1]", "eps"}


def test_installed_key_is_the_factory() -> None:
    assert OPTIMIZER_BUILDER_REGISTRY.get(KEY) is ScheduleFreeRAdamFactory


def test_factory_meets_the_protocol_and_its_example_constructs_it() -> None:
    factory = ScheduleFreeRAdamFactory(**ScheduleFreeRAdamFactory.example_params)

    assert isinstance(factory, OptimizerFactory)
    assert isinstance(factory.build([torch.nn.Parameter(torch.ones(1))]), ScheduleFreeRAdam)
