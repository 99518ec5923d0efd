"""The arguments of AdamW on one cycle: which there are, which values are refused, and its factory."""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR

from optim_adamw_onecycle import AdamWOneCycleFactory, AdamWWithOneCycle, OneCycle
from optim_core import (
    OPTIMIZER_BUILDER_REGISTRY,
    InvalidArgumentsError,
    OptimizerFactory,
)
from optim_core.arguments.validation import notes_on

KEY = "adamw_cosine_schedule"


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(1))


@pytest.mark.parametrize("lr", [{}, {"lr": None}, {"lr": 0.1 / 25}], ids=str)
def test_rate_that_is_absent_or_that_of_the_start_is_not_logged(
    lr: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "optim_adamw_onecycle")

    AdamWOneCycleFactory(max_lr=0.1, total_steps=10, **lr).build([parameter()])  # type: ignore[arg-type]

    assert caplog.records == []


def test_is_an_adamw() -> None:
    optimizer = AdamWOneCycleFactory(max_lr=0.1, total_steps=5).build([parameter()])

    assert isinstance(optimizer, torch.optim.AdamW)


def test_arguments_are_all_of_onecyclelrs_and_adamws() -> None:
    onecycle = dict(inspect.signature(OneCycleLR).parameters)
    adamw = dict(inspect.signature(torch.optim.AdamW).parameters)
    del onecycle["optimizer"], adamw["params"]
    onecycle.pop("verbose", None)  # deprecated in PyTorch 2.6, and gone since
    ours = inspect.signature(AdamWOneCycleFactory).parameters

    assert set(ours) == {*onecycle, *adamw}
    # OneCycleLR sets the rate, so that a default for it means nothing.
    expected = {name: parameter.default for name, parameter in {**onecycle, **adamw}.items()} | {"lr": None}
    assert {name: parameter.default for name, parameter in ours.items()} == expected


def test_factory_and_optimizer_have_the_same_arguments_and_defaults() -> None:
    factory = inspect.signature(AdamWOneCycleFactory).parameters
    optimizer = inspect.signature(AdamWWithOneCycle).parameters

    assert set(optimizer) == {"params", "on_mismatch", *factory}
    assert {name: optimizer[name].default for name in factory} == {name: p.default for name, p in factory.items()}


def build_by_factory(**arguments: Any) -> torch.optim.Optimizer:
    return AdamWOneCycleFactory(**arguments).build([parameter()])


def build_directly(**arguments: Any) -> torch.optim.Optimizer:
    return AdamWWithOneCycle([parameter()], **arguments)


BOTH = pytest.mark.parametrize("build", [build_by_factory, build_directly])


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_lr": 0}, "max_lr = 0: must be greater than 0"),
        ({"max_lr": math.nan}, "max_lr = nan: must be a finite number"),
        ({"max_lr": [0.1, 0.2]}, "max_lr = [0.1, 0.2]: must be a valid number"),
        ({"total_steps": 0}, "total_steps = 0: must be greater than or equal to 1"),
        ({"total_steps": None}, "total_steps = None: must be given, or both epochs and steps_per_epoch"),
        ({"total_steps": None, "epochs": 3}, "must be given, or both epochs and steps_per_epoch (epochs = 3, steps_"),
        ({"epochs": 0}, "epochs = 0: must be greater than or equal to 1"),
        ({"steps_per_epoch": -1}, "steps_per_epoch = -1: must be greater than or equal to 1"),
        ({"pct_start": -0.1}, "pct_start = -0.1: must be greater than or equal to 0"),
        ({"pct_start": 1.1}, "pct_start = 1.1: must be less than or equal to 1"),
        ({"pct_start": math.nan}, "pct_start = nan: must be "),
        ({"pct_start": 0.1}, "pct_start = 0.1: must not make the rising phase one step long"),
        ({"total_steps": None, "epochs": 5, "steps_per_epoch": 2, "pct_start": 0.1}, "pct_start = 0.1: must not make"),
        ({"anneal_strategy": "poly"}, "anneal_strategy = 'poly': must be 'cos' or 'linear'"),
        ({"base_momentum": 1.0}, "base_momentum = 1.0: must be less than 1"),
        ({"max_momentum": -0.1}, "max_momentum = -0.1: must be greater than or equal to 0"),
        ({"div_factor": 0}, "div_factor = 0: must be greater than 0"),
        ({"final_div_factor": math.inf}, "final_div_factor = inf: must be a finite number"),
        ({"last_epoch": -2}, "last_epoch = -2: must be greater than or equal to -1"),
        ({"lr": -0.1}, "lr = -0.1: must be greater than or equal to 0"),
        ({"betas": (1.0, 0.9)}, "betas[0] = 1.0: must be less than 1"),
        ({"eps": -1e-8}, "eps = -1e-08: must be greater than or equal to 0"),
        ({"weight_decay": math.nan}, "weight_decay = nan: must be a finite number"),
        ({"fused": True, "foreach": True}, "fused = True: can't be true together with foreach (foreach = True)"),
        ({"fused": True, "differentiable": True}, "fused = True: can't be true together with differentiable"),
    ],
)
def test_wrong_value_is_refused_by_factory_and_optimizer(
    build: Callable[..., torch.optim.Optimizer], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**{"max_lr": 1.0, "total_steps": 10, **arguments})


@BOTH
def test_all_wrong_values_are_named_at_once(build: Callable[..., torch.optim.Optimizer]) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        build(max_lr=1.0, epochs=5, pct_start=2.0, betas=(0.9, 2.0), fused=True, foreach=True)

    assert {problem.path for problem in caught.value.problems} == {"total_steps", "pct_start", "betas[1]", "fused"}


@settings(deadline=None)
@given(st.integers(2, 10**6))
def test_schedule_alone_refuses_a_rising_phase_of_one_step(total_steps: int) -> None:
    assume(1 / total_steps * total_steps == 1)

    with pytest.raises(ValueError, match="pct_start"):
        OneCycle(peak_lr=1.0, total_steps=total_steps, pct_start=1 / total_steps)


def test_installed_key_is_the_factory() -> None:
    assert OPTIMIZER_BUILDER_REGISTRY.get(KEY) is AdamWOneCycleFactory


def test_factory_meets_the_protocol_and_its_example_constructs_it() -> None:
    factory = AdamWOneCycleFactory(**AdamWOneCycleFactory.example_params)

    assert isinstance(factory, OptimizerFactory)
    assert isinstance(factory.build([parameter()]), AdamWWithOneCycle)


def test_options_of_a_group_are_checked_and_nothing_is_added() -> None:
    optimizer = AdamWWithOneCycle([torch.nn.Parameter(torch.ones(1))], max_lr=0.1, total_steps=10)

    with pytest.raises(ValueError, match="3 problems") as caught:
        optimizer.add_param_group(
            {"params": [torch.nn.Parameter(torch.ones(1))], "betas": (2, 0.9), "eps": "x", "weight_decay": -1}
        )

    assert "betas[0] = 2: must be less than 1" in str(caught.value)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("params", "noted"),
    [
        ({"lr": 0.1}, ["lr"]),
        ({"betas": [0.8, 0.9]}, ["betas"]),
        ({"betas": [0.8, 0.9], "cycle_momentum": False}, []),
        ({"base_momentum": 0.8, "max_momentum": 0.9, "cycle_momentum": False}, ["base_momentum", "max_momentum"]),
        ({"base_momentum": 0.8, "max_momentum": 0.9}, []),
        ({"epochs": 3, "steps_per_epoch": 4}, ["epochs", "steps_per_epoch"]),
        ({"total_steps": None, "epochs": 3, "steps_per_epoch": 4}, []),
    ],
)
def test_what_is_given_and_not_used_is_noted(params: dict[str, Any], noted: list[str]) -> None:
    notes = notes_on(AdamWOneCycleFactory, {"max_lr": 1e-3, "total_steps": 100, **params})
    assert [note.path for note in notes] == noted
    assert all("not used" in note.message for note in notes)
