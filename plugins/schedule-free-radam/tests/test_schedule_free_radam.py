"""Schedule-free RAdam, against the schedulefree library's own class."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import schedulefree
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from optim_core import (
    OPTIMIZER_BUILDER_REGISTRY,
    EvaluationModeError,
    InvalidArgumentsError,
    OptimError,
    OptimizerFactory,
    ScheduleWarning,
    StateMismatchError,
    build_optimizers,
)
from optim_schedule_free_radam import ScheduleFreeRAdam, ScheduleFreeRAdamFactory

KEY = "schedule_free_radam"


def model() -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def update(module: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: int) -> None:
    inputs = torch.linspace(batch, batch + 2, 20).reshape(5, 4).sin()
    optimizer.zero_grad()
    module(inputs).square().mean().backward()
    optimizer.step()


def of_library(module: torch.nn.Module, **options: Any) -> schedulefree.RAdamScheduleFree:
    optimizer = schedulefree.RAdamScheduleFree(module.parameters(), **options)
    optimizer.train()
    return optimizer


def trained(steps: int, **options: Any) -> tuple[torch.nn.Sequential, ScheduleFreeRAdam]:
    module = model()
    optimizer = ScheduleFreeRAdam(module.parameters(), **options)
    for step in range(steps):
        update(module, optimizer, step)
    return module, optimizer


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def identical(ours: torch.nn.Module | list[torch.Tensor], theirs: torch.nn.Module | list[torch.Tensor]) -> bool:
    a, b = (list(x.parameters()) if isinstance(x, torch.nn.Module) else x for x in (ours, theirs))
    return len(a) == len(b) and all(map(torch.equal, a, b))


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("silent_sgd_phase", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.05},
        {"lr": 0.05, "weight_decay": 0.1, "r": 1.0, "eps": 1e-6},
        {"lr": 0.05, "betas": (0.8, 0.9), "weight_lr_power": 0.0},
    ],
    ids=str,
)
def test_parameters_are_bit_for_bit_the_librarys_through_switches_of_mode(
    foreach: bool, silent_sgd_phase: bool, options: dict[str, Any]
) -> None:
    options = {**options, "foreach": foreach, "silent_sgd_phase": silent_sgd_phase}
    ours, theirs = model(), model()
    optimizer = ScheduleFreeRAdamFactory(**options).build(ours.parameters())
    oracle = of_library(theirs, **options)

    for step in range(14):
        if step in (2, 6, 7, 11):
            optimizer.eval()
            oracle.eval()
            assert identical(ours, theirs)
            optimizer.train()
            oracle.train()
        update(theirs, oracle, step)
        update(ours, optimizer, step)

        assert identical(ours, theirs)
    assert not identical(ours, model())


def test_training_needs_no_call_of_train() -> None:
    module, optimizer = trained(8)

    assert isinstance(optimizer, schedulefree.RAdamScheduleFree)
    assert not identical(module, model())


def test_closure_is_called_once_with_gradients_enabled() -> None:
    _, optimizer = trained(0)
    calls: list[bool] = []

    def closure() -> float:
        calls.append(torch.is_grad_enabled())
        return 7.5

    assert optimizer.step(closure) == 7.5
    assert calls == [True]


def test_step_in_evaluation_mode_is_refused_and_changes_nothing() -> None:
    module, optimizer = trained(8)
    optimizer.eval()
    weights_before, state_before = weights(module), copy.deepcopy(optimizer.state_dict())
    calls: list[int] = []

    with pytest.raises(EvaluationModeError, match=r"step\(\) was called in evaluation mode") as caught:
        optimizer.step(lambda: calls.append(1) or 0.0)

    assert isinstance(caught.value, OptimError)
    assert calls == []
    assert identical(module, weights_before)
    torch.testing.assert_close(optimizer.state_dict(), state_before, rtol=0, atol=0)


def test_step_is_refused_where_only_a_later_group_is_in_evaluation_mode() -> None:
    module = model()
    optimizer = ScheduleFreeRAdam([{"params": module[0].parameters()}, {"params": module[2].parameters()}])
    optimizer.param_groups[1]["train_mode"] = False
    before = weights(module)

    with pytest.raises(EvaluationModeError):
        update(module, optimizer, 0)

    assert identical(module, before)
    assert [group["k"] for group in optimizer.param_groups] == [0, 0]


@given(st.lists(st.sampled_from(["train", "eval"]), max_size=8))
@settings(deadline=None, max_examples=25)
def test_switching_to_a_mode_again_changes_nothing(switches: list[str]) -> None:
    module, optimizer = trained(8, lr=0.05)
    at: dict[str, list[torch.Tensor]] = {"train": weights(module)}
    optimizer.eval()
    at["eval"] = weights(module)

    for mode in [*switches, "eval", "eval", "train", "train"]:
        getattr(optimizer, mode)()
        torch.testing.assert_close(weights(module), at[mode], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(at["train"][0], at["eval"][0], rtol=1e-4, atol=1e-5)


def test_second_switch_to_a_mode_is_bit_for_bit_nothing() -> None:
    module, optimizer = trained(8, lr=0.05)

    for switch in (optimizer.train, optimizer.eval, optimizer.train):
        switch()
        before = weights(module)
        switch()
        assert identical(module, before)


def test_switching_before_the_first_step_leaves_no_state() -> None:
    module, optimizer = trained(0)

    optimizer.eval()
    assert len(optimizer.state) == 0
    optimizer.train()
    assert len(optimizer.state) == 0

    update(module, optimizer, 0)
    assert {frozenset(state) for state in optimizer.state.values()} == {frozenset({"z", "exp_avg_sq"})}


def test_switching_keeps_the_state_of_parameters_that_were_trained() -> None:
    module = model()
    module[2].requires_grad_(False)
    optimizer = ScheduleFreeRAdam(module.parameters())
    update(module, optimizer, 0)

    optimizer.eval()

    assert set(optimizer.state) == set(module[0].parameters())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_late_group_joins_the_current_mode_and_is_averaged(mode: str) -> None:
    module = model()
    optimizer = ScheduleFreeRAdam(module[0].parameters(), lr=0.05)
    for step in range(6):
        update(module, optimizer, step)
    getattr(optimizer, mode)()
    group = {"params": list(module[2].parameters())}

    optimizer.add_param_group(group)

    assert list(group) == ["params"]
    assert {group["train_mode"] for group in optimizer.param_groups} == {mode == "train"}
    optimizer.train()
    for step in range(8):
        update(module, optimizer, step)
    training = weights(module[2])
    optimizer.eval()
    assert not identical(module[2], training)


def test_late_group_trains_as_the_librarys_group_in_training_mode() -> None:
    ours, theirs = model(), model()
    optimizer, oracle = ScheduleFreeRAdam(ours[0].parameters(), lr=0.05), of_library(theirs[0], lr=0.05)
    for module, each in ((ours, optimizer), (theirs, oracle)):
        for step in range(6):
            update(module, each, step)
        each.add_param_group({"params": list(module[2].parameters()), "lr": 0.02})
        each.train()
        for step in range(8):
            update(module, each, step)
        each.eval()

    assert identical(ours, theirs)


def test_group_options_are_checked_and_a_tensor_rate_becomes_a_float() -> None:
    _, optimizer = trained(0)
    extra = torch.nn.Parameter(torch.ones(2))

    with pytest.raises(InvalidArgumentsError, match=r"lr = -0.1: must be greater than or equal to 0"):
        optimizer.add_param_group({"params": [extra], "lr": -0.1})
    assert len(optimizer.param_groups) == 1
    # The library's own class turns the weights to NaN with a tensor.
    optimizer.add_param_group({"params": [extra], "lr": torch.tensor(0.5)})

    assert (type(optimizer.param_groups[1]["lr"]), optimizer.param_groups[1]["lr"]) == (float, 0.5)


@pytest.mark.parametrize("evaluating", [False, True])
@pytest.mark.parametrize("to_library", [False, True])
def test_state_goes_to_and_comes_from_the_librarys_class(to_library: bool, evaluating: bool) -> None:
    options: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1}
    first, second = model(), model()
    ours, oracle = ScheduleFreeRAdam(first.parameters(), **options), of_library(second, **options)
    source, saved = (first, ours) if to_library else (second, oracle)
    target, resumed = (second, oracle) if to_library else (first, ours)
    for step in range(8):
        update(source, saved, step)
    if evaluating:
        saved.eval()

    target.load_state_dict(source.state_dict())
    resumed.load_state_dict(copy.deepcopy(saved.state_dict()))

    assert {group["train_mode"] for group in resumed.param_groups} == {not evaluating}
    for module, optimizer in ((source, saved), (target, resumed)):
        optimizer.train()
        for step in range(8, 12):
            update(module, optimizer, step)
        optimizer.eval()
    assert identical(target, source)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("evaluating", [False, True])
def test_copies_go_on_alike(through: Callable[[Any], Any], evaluating: bool) -> None:
    module, optimizer = trained(8, lr=0.05)
    if evaluating:
        optimizer.eval()

    twin_module, twin = through((module, optimizer))

    assert {group["train_mode"] for group in twin.param_groups} == {not evaluating}
    for each, trains in ((module, optimizer), (twin_module, twin)):
        trains.train()
        update(each, trains, 8)
        trains.eval()
    assert identical(twin_module, module)


HOOKS = """
import sys
import schedulefree
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from optim_schedule_free_radam import ScheduleFreeRAdam

def of_library():
    return schedulefree.RAdamScheduleFree([torch.nn.Parameter(torch.ones(1))])

if sys.argv[1] == "library first":
    of_library()
optimizer = ScheduleFreeRAdam([torch.nn.Parameter(torch.ones(1))])
if sys.argv[1] == "library last":
    of_library()
calls = []
register_optimizer_step_pre_hook(lambda *_: calls.append("global pre"))
register_optimizer_step_post_hook(lambda *_: calls.append("global post"))
optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
optimizer.register_step_post_hook(lambda *_: calls.append("post"))
optimizer.step()
print(*sorted(calls), sep=",")
"""


@pytest.mark.parametrize("order", ["library first", "library last"])
def test_step_hooks_run_once_whatever_was_made_before(order: str) -> None:
    # In a process of its own: making the library's optimizer anywhere changes its class for good.
    result = subprocess.run([sys.executable, "-c", HOOKS, order], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "global post,global pre,post,pre"


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_reading_the_distributed_state_of_a_fresh_optimizer_advances_nothing(mode: str) -> None:
    module, optimizer = trained(0, lr=0.05, weight_decay=0.1, silent_sgd_phase=False)
    reference, untouched = trained(0, lr=0.05, weight_decay=0.1, silent_sgd_phase=False)
    getattr(optimizer, mode)()
    options = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]

    state = get_optimizer_state_dict(module, optimizer)

    assert set(state["state"]["0.weight"]) == {"z", "exp_avg_sq"}  # type: ignore[index, arg-type]
    assert [{name: group[name] for name in options[0]} for group in optimizer.param_groups] == options
    assert identical(module, model())
    for each, trains in ((module, optimizer), (reference, untouched)):
        trains.train()
        for step in range(8):
            update(each, trains, step)
        trains.eval()
    assert identical(module, reference)


def test_distributed_state_continues_exactly_in_a_fresh_optimizer() -> None:
    module, optimizer = trained(8, lr=0.05)
    target = model()
    target.load_state_dict(module.state_dict())
    resumed = ScheduleFreeRAdam(target.parameters(), lr=0.05)

    set_optimizer_state_dict(target, resumed, copy.deepcopy(get_optimizer_state_dict(module, optimizer)))

    for each, trains in ((module, optimizer), (target, resumed)):
        for step in range(8, 12):
            update(each, trains, step)
        trains.eval()
    assert identical(target, module)


def test_step_without_gradients_counts() -> None:
    _, optimizer = trained(0)

    optimizer.step()

    assert optimizer.param_groups[0]["k"] == 1


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


def test_configured_optimizer_evaluates_with_the_averaged_weights() -> None:
    ours, theirs = model(), model()
    optimizers = build_optimizers({"net": ours}, {"net": {"type": KEY, "params": {"lr": "5e-2", "betas": [0.8, 0.9]}}})
    oracle = of_library(theirs, lr=0.05, betas=(0.8, 0.9))
    for step in range(8):
        update(theirs, oracle, step)
        update(ours, optimizers["net"], step)
    training = weights(theirs)

    oracle.eval()
    with optimizers.eval_mode():
        assert identical(ours, theirs)

    torch.testing.assert_close(weights(ours), training)
    optimizers.step()


def test_the_state_of_another_kind_of_optimizer_is_refused_and_nothing_changes() -> None:
    module = model()
    optimizer = ScheduleFreeRAdam(module.parameters())
    update(module, optimizer, 0)
    other = torch.optim.AdamW(module.parameters())
    other.step()
    before = copy.deepcopy(optimizer.state_dict())

    with pytest.raises(StateMismatchError, match="'k', 'lr_max', 'train_mode', 'weight_sum', 'z'"):
        optimizer.load_state_dict(other.state_dict())

    assert str(optimizer.state_dict()) == str(before)


def test_rate_changed_from_outside_is_warned_of_once_and_used() -> None:
    module, reference = model(), model()
    optimizer = ScheduleFreeRAdam(module.parameters(), lr=0.1, silent_sgd_phase=False)
    oracle = of_library(reference, lr=0.1, silent_sgd_phase=False)
    for step in range(4):
        for each in (optimizer, oracle):
            each.param_groups[0]["lr"] = 0.1 / (step + 1)
        if step == 1:
            with pytest.warns(ScheduleWarning, match=r"from 0\.1 to 0\.05.*take away the scheduler") as caught:
                update(module, optimizer, step)
            assert caught[0].filename == __file__
        else:
            update(module, optimizer, step)
        update(reference, oracle, step)
    assert identical(module, reference)


@pytest.mark.parametrize("before", [0, 3])
def test_rate_changed_by_a_load_or_before_the_next_step_after_it_is_no_matter(before: int) -> None:
    module, optimizer = trained(before, lr=0.1)
    _, other = trained(3, lr=0.2)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    update(module, optimizer, 0)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    optimizer.param_groups[0]["lr"] = 0.3
    update(module, optimizer, 1)


def test_the_state_of_other_parameters_is_refused_with_both_sides_and_nothing_changes() -> None:
    optimizer = ScheduleFreeRAdam(model().named_parameters())
    before = copy.deepcopy(optimizer.state_dict())
    others = ScheduleFreeRAdam([(f"net.{name}", p) for name, p in model().named_parameters()])
    with pytest.raises(StateMismatchError, match=r"not in the checkpoint: '0\.weight', .*: 'net\.0\.weight', "):
        optimizer.load_state_dict(others.state_dict())
    with pytest.raises(StateMismatchError, match="1 parameter group with 2 parameters, the optimizer"):
        optimizer.load_state_dict(ScheduleFreeRAdam(list(model().parameters())[:2]).state_dict())
    assert optimizer.state_dict() == before


@pytest.mark.parametrize("evaluate", [False, True])
def test_weights_loaded_after_the_state_was_read_are_those_that_are_trained(evaluate: bool) -> None:
    module, reference = model(), model()
    optimizer = ScheduleFreeRAdam(module.parameters(), lr=0.1, silent_sgd_phase=False)
    get_optimizer_state_dict(module, optimizer)
    for each in (module, reference):
        with torch.no_grad():
            for parameter in each.parameters():
                parameter.mul_(2)
    oracle = of_library(reference, lr=0.1, silent_sgd_phase=False)
    if evaluate:
        optimizer.eval()
        assert identical(module, reference)
        optimizer.train()
    for step in range(3):
        update(module, optimizer, step)
        update(reference, oracle, step)
    assert identical(module, reference)
