"""AdamW with warmup and cosine decay, against PyTorch's AdamW with the rate set by hand."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_adamw_warmup_cosine import AdamWWarmupCosineFactory, AdamWWithWarmupCosine
from optim_core import (
    OPTIMIZER_BUILDER_REGISTRY,
    ConfigurationError,
    InvalidArgumentsError,
    OptimizerFactory,
    ScheduleWarning,
    build_optimizers,
)
from optim_core.arguments.validation import notes_on

KEY = "adamw_warmup_cosine_decay"
SCHEDULE_ARGUMENTS = ["peak_lr", "total_steps", "warmup_steps", "start_lr", "end_lr"]


def formula(step: int, *, peak_lr: float, total_steps: int, warmup_steps: int, start_lr: float, end_lr: float) -> float:
    if step >= total_steps - 1:
        return end_lr
    if step < warmup_steps:
        return start_lr + (peak_lr - start_lr) * step / warmup_steps
    progress = (step - warmup_steps) / (total_steps - 1 - warmup_steps)
    return end_lr + (peak_lr - end_lr) * (1 + math.cos(math.pi * progress)) / 2


def model() -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()


def update(module: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: int) -> None:
    inputs = torch.linspace(batch, batch + 2, 20, dtype=torch.float64).reshape(5, 4).sin()
    optimizer.zero_grad()
    module(inputs).square().mean().backward()
    optimizer.step()


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    total = draw(st.integers(1, 25))
    peak = draw(st.floats(1e-5, 0.5))
    return {
        "peak_lr": peak,
        "total_steps": total,
        "warmup_steps": draw(st.integers(0, total - 1)),
        "start_lr": peak * draw(st.floats(0, 1)),
        "end_lr": peak * draw(st.floats(0, 1)),
    }


@settings(deadline=None)
@given(shapes())
def test_rate_is_the_formula_at_every_step(shape: dict[str, Any]) -> None:
    optimizer = AdamWWithWarmupCosine([torch.nn.Parameter(torch.ones(1))], **shape)

    for step in range(shape["total_steps"]):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(formula(step, **shape), rel=1e-9, abs=1e-15)
        optimizer.step()
    assert optimizer.param_groups[0]["lr"] == shape["end_lr"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1},
        {"amsgrad": True, "maximize": True, "foreach": False},
        {"foreach": True},
        {"fused": True},
        {"differentiable": False, "capturable": False, "weight_decay": 0.0},
    ],
    ids=str,
)
def test_parameters_are_those_of_adamw_with_the_rate_set_by_hand(options: dict[str, Any]) -> None:
    shape = {"peak_lr": 0.05, "total_steps": 12, "warmup_steps": 4, "start_lr": 1e-3, "end_lr": 2e-3}
    ours, theirs = model(), model()
    optimizer = AdamWWarmupCosineFactory(**shape, **options).build(ours.parameters())
    oracle = torch.optim.AdamW(theirs.parameters(), **options)

    for step in range(12):
        oracle.param_groups[0]["lr"] = formula(step, **shape)  # type: ignore[arg-type]
        update(theirs, oracle, step)
        update(ours, optimizer, step)

        torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()), rtol=1e-11, atol=1e-12)
    assert not torch.equal(ours[0].weight, model()[0].weight)


def test_end_value_holds_after_the_horizon_with_one_warning() -> None:
    optimizer = AdamWWithWarmupCosine([torch.nn.Parameter(torch.ones(1))], 0.1, 3, end_lr=0.01)

    def advance(steps: int) -> None:
        for _ in range(steps):
            optimizer.step()

    advance(3)
    with pytest.warns(ScheduleWarning, match=r"past the end of its schedule \(total_steps=3\)") as caught:
        advance(3)

    assert len(caught) == 1
    assert optimizer.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize("through", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_go_on_at_the_same_rate(through: Callable[[AdamWWithWarmupCosine], AdamWWithWarmupCosine]) -> None:
    optimizer = AdamWWithWarmupCosine([torch.nn.Parameter(torch.ones(1))], 0.1, 10, 4)
    for _ in range(6):
        optimizer.step()

    twin = through(optimizer)

    assert twin.schedule == optimizer.schedule
    assert twin.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    twin.step()
    optimizer.step()
    assert twin.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_one_state_dict_restores_optimizer_and_schedule() -> None:
    arguments: dict[str, Any] = {"peak_lr": 0.05, "total_steps": 12, "warmup_steps": 4, "start_lr": 1e-3}
    ours = model()
    optimizer = AdamWWithWarmupCosine(ours.parameters(), **arguments)
    for step in range(6):
        update(ours, optimizer, step)
    theirs = copy.deepcopy(ours)
    resumed = AdamWWithWarmupCosine(theirs.parameters(), **arguments)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    for step in range(6, 12):
        assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        update(ours, optimizer, step)
        update(theirs, resumed, step)

    assert all(map(torch.equal, theirs.parameters(), ours.parameters()))


def test_is_an_adamw() -> None:
    optimizer = AdamWWarmupCosineFactory(peak_lr=0.1, total_steps=5).build([torch.nn.Parameter(torch.ones(1))])

    assert isinstance(optimizer, torch.optim.AdamW)


def test_arguments_are_the_schedules_and_all_of_adamws() -> None:
    adamw = inspect.signature(torch.optim.AdamW).parameters
    ours = inspect.signature(AdamWWarmupCosineFactory).parameters
    of_adamw = [name for name in adamw if name not in ("params", "lr")]

    assert set(ours) == {*SCHEDULE_ARGUMENTS, *of_adamw}
    assert {name: ours[name].default for name in of_adamw} == {name: adamw[name].default for name in of_adamw}


def test_factory_and_optimizer_have_the_same_arguments_and_defaults() -> None:
    factory = inspect.signature(AdamWWarmupCosineFactory).parameters
    optimizer = inspect.signature(AdamWWithWarmupCosine).parameters

    assert set(optimizer) == {"params", "on_mismatch", *factory}
    assert {name: optimizer[name].default for name in factory} == {name: p.default for name, p in factory.items()}


def build_by_factory(**arguments: Any) -> torch.optim.Optimizer:
    return AdamWWarmupCosineFactory(**arguments).build([torch.nn.Parameter(torch.ones(1))])


def build_directly(**arguments: Any) -> torch.optim.Optimizer:
    return AdamWWithWarmupCosine([torch.nn.Parameter(torch.ones(1))], **arguments)


@pytest.mark.parametrize("build", [build_by_factory, build_directly])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"peak_lr": 0}, "peak_lr = 0: must be greater than 0"),
        ({"peak_lr": math.nan}, "peak_lr = nan: must be a finite number"),
        ({"peak_lr": "high"}, "peak_lr = 'high': must be a valid number"),
        ({"total_steps": 0}, "total_steps = 0: must be greater than or equal to 1"),
        ({"total_steps": 1.5}, "total_steps = 1.5: must be a valid integer"),
        ({"warmup_steps": -1}, "warmup_steps = -1: must be greater than or equal to 0"),
        ({"warmup_steps": 10}, "warmup_steps = 10: must be less than total_steps (total_steps = 10)"),
        ({"start_lr": -1e-3}, "start_lr = -0.001: must be greater than or equal to 0"),
        ({"start_lr": 2.0}, "start_lr = 2.0: must be at most peak_lr (peak_lr = 1.0)"),
        ({"end_lr": math.inf}, "end_lr = inf: must be a finite number"),
        ({"end_lr": 2.0}, "end_lr = 2.0: must be at most peak_lr (peak_lr = 1.0)"),
        ({"betas": (1.0, 0.9)}, "betas[0] = 1.0: must be less than 1"),
        ({"betas": (0.9, -0.1)}, "betas[1] = -0.1: must be greater than or equal to 0"),
        ({"betas": (math.nan, 0.9)}, "betas[0] = nan: must be "),
        ({"betas": 0.9}, "betas = 0.9: must be a list"),
        ({"eps": -1e-8}, "eps = -1e-08: must be greater than or equal to 0"),
        ({"weight_decay": -0.1}, "weight_decay = -0.1: must be greater than or equal to 0"),
        ({"weight_decay": math.nan}, "weight_decay = nan: must be a finite number"),
        ({"amsgrad": "perhaps"}, "amsgrad = 'perhaps': must be a valid boolean"),
        ({"fused": True, "foreach": True}, "fused = True: can't be true together with foreach (foreach = True)"),
        ({"fused": True, "differentiable": True}, "fused = True: can't be true together with differentiable"),
    ],
)
def test_wrong_value_is_refused_by_factory_and_optimizer(
    build: Callable[..., torch.optim.Optimizer], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**{"peak_lr": 1.0, "total_steps": 10, **arguments})


@pytest.mark.parametrize("build", [build_by_factory, build_directly])
def test_all_wrong_values_are_named_at_once(build: Callable[..., torch.optim.Optimizer]) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        build(peak_lr=1.0, total_steps=5, warmup_steps=7, betas=(0.9, 2.0), fused=True, foreach=True, eps=-1)

    assert {problem.path for problem in caught.value.problems} == {"warmup_steps", "betas[1]", "fused", "eps"}


def test_wrong_loading_policy_is_refused() -> None:
    with pytest.raises(InvalidArgumentsError, match="on_mismatch = 'keep': must be one of"):
        build_directly(peak_lr=1.0, total_steps=10, on_mismatch="keep")


def test_installed_key_is_the_factory() -> None:
    assert OPTIMIZER_BUILDER_REGISTRY.get(KEY) is AdamWWarmupCosineFactory


def test_factory_meets_the_protocol_and_its_example_constructs_it() -> None:
    factory = AdamWWarmupCosineFactory(**AdamWWarmupCosineFactory.example_params)

    assert isinstance(factory, OptimizerFactory)
    assert isinstance(factory.build([torch.nn.Parameter(torch.ones(1))]), AdamWWithWarmupCosine)


LONG = {
    "peak_lr": 1e-4,
    "start_lr": 1e-6,
    "end_lr": 1e-6,
    "total_steps": 200000,
    "warmup_steps": 2000,
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
}


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1e-6),
        (1000, 5.05e-5),
        (2000, 1e-4),
        # Halfway down: the mean of peak and end is crossed between these two.
        (100999, 5.05e-5 + 4.95e-5 * math.sin(math.pi * 0.5 / 197999)),
        (101000, 5.05e-5 - 4.95e-5 * math.sin(math.pi * 0.5 / 197999)),
        (199999, 1e-6),
        (200000, 1e-6),
        (10**7, 1e-6),
    ],
)
def test_long_configuration_has_the_right_rate_at_its_turning_points(step: int, rate: float) -> None:
    optimizers = build_optimizers({"backbone": model()}, {"backbone": {"type": KEY, "params": LONG}})
    optimizer = optimizers["backbone"]
    state = optimizer.state_dict()
    state["scheduler"]["step"] = state["param_groups"][0]["schedule_step"] = step

    optimizer.load_state_dict(state)

    assert isinstance(optimizer, AdamWWithWarmupCosine)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-12)
    assert optimizer.defaults["betas"] == (0.9, 0.999)


def test_wrong_configuration_is_refused_with_its_path() -> None:
    params = {**LONG, "warmup_steps": 200000, "peek_lr": 1}

    with pytest.raises(ConfigurationError) as caught:
        build_optimizers({"backbone": model()}, {"backbone": {"type": KEY, "params": params}})

    message = str(caught.value)
    assert "backbone.params.warmup_steps = 200000: must be less than total_steps" in message
    assert "backbone.params.peek_lr: no such argument. Did you mean 'peak_lr'" in message


def test_options_of_a_group_are_checked_and_nothing_is_added() -> None:
    optimizer = AdamWWithWarmupCosine([torch.nn.Parameter(torch.ones(1))], peak_lr=0.1, total_steps=10)

    with pytest.raises(ValueError, match="3 problems") as caught:
        optimizer.add_param_group(
            {"params": [torch.nn.Parameter(torch.ones(1))], "betas": (2, 0.9), "eps": "x", "weight_decay": -1}
        )

    assert "betas[0] = 2: must be less than 1" in str(caught.value)
    assert len(optimizer.param_groups) == 1


def test_a_start_without_a_warmup_is_noted() -> None:
    params = {"peak_lr": 1e-3, "total_steps": 100, "start_lr": 1e-5}
    (note,) = notes_on(AdamWWarmupCosineFactory, params)
    assert (note.path, note.message) == ("start_lr", "= 1e-05: is not used without a warmup")
    assert notes_on(AdamWWarmupCosineFactory, {**params, "warmup_steps": 10}) == []
