"""State of fused schedule-free RAdam: checkpoints, copies, late groups, refusals, memory, and the option itself."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from optim_core import Claims, EvaluationModeError, InvalidArgumentsError, StateMismatchError
from optim_schedule_free_radam import ScheduleFreeRAdam, ScheduleFreeRAdamFactory
from optim_tools.conformance import OptimizerConformance
from radam_support.fused_training import (
    Parameters,
    assert_same_trajectory,
    copies,
    fused,
    give_gradients,
    identical,
    net,
    of_library,
    options_and_counters,
    parameters,
    train_both,
    trained,
    update,
)


def test_step_in_evaluation_mode_is_refused_and_changes_nothing() -> None:
    params, optimizer = trained(8)
    optimizer.eval()
    before, state_before = copies(params), copy.deepcopy(optimizer.state_dict())

    with pytest.raises(EvaluationModeError):
        optimizer.step()

    assert identical(params, before)
    torch.testing.assert_close(optimizer.state_dict(), state_before, rtol=0, atol=0)


def test_step_without_gradients_counts_and_leaves_no_state() -> None:
    _, optimizer = trained(0)

    optimizer.step()

    assert (optimizer.param_groups[0]["k"], len(optimizer.state)) == (1, 0)


def test_grad_scaler_skips_an_overflow() -> None:
    params, optimizer = trained(7)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before, options = copies(params), options_and_counters(optimizer)

    for overflow in (True, False):
        optimizer.zero_grad()
        scaler.scale(sum(p.square().sum() for p in params)).backward()
        if overflow:
            assert params[1].grad is not None
            params[1].grad.view(-1)[77] = torch.inf
        scaler.step(optimizer)
        scaler.update()
        assert identical(params, before) is overflow
        assert (options_and_counters(optimizer) == options) is overflow


def test_reading_the_distributed_state_of_a_fresh_optimizer_leaves_it_fresh() -> None:
    module, reference = net(), net()
    optimizer, untouched = (fused(each.parameters(), lr=0.05, weight_decay=0.1) for each in (module, reference))

    state = get_optimizer_state_dict(module, optimizer)

    assert set(state["state"]["0.weight"]) == {"z", "exp_avg_sq"}  # type: ignore[index, arg-type]
    assert options_and_counters(optimizer) == options_and_counters(untouched)
    assert identical(list(module.parameters()), list(net().parameters()))
    for batch in range(8):
        update(module, optimizer, batch)
        update(reference, untouched, batch)
    assert identical(list(module.parameters()), list(reference.parameters()))


def test_distributed_state_continues_exactly_in_a_fresh_optimizer() -> None:
    module = net()
    optimizer = fused(module.parameters(), lr=0.05)
    for batch in range(8):
        update(module, optimizer, batch)
    target = copy.deepcopy(module)
    resumed = fused(target.parameters(), lr=0.05)

    set_optimizer_state_dict(target, resumed, copy.deepcopy(get_optimizer_state_dict(module, optimizer)))

    for batch in range(8, 11):
        update(module, optimizer, batch)
        update(target, resumed, batch)
    assert identical(list(module.parameters()), list(target.parameters()))


def test_state_dict_is_as_the_librarys() -> None:
    theirs = parameters([(3, 5), (100, 100)])
    oracle = of_library(theirs)
    for step in range(7):
        give_gradients(step, theirs)
        oracle.step()
    ours = trained(7)[1].state_dict()
    expected = oracle.state_dict()

    assert ours.keys() == expected.keys()
    assert [group.keys() for group in ours["param_groups"]] == [group.keys() for group in expected["param_groups"]]
    assert {i: list(state) for i, state in ours["state"].items()} == {0: ["z", "exp_avg_sq"], 1: ["z", "exp_avg_sq"]}
    for index, state in expected["state"].items():
        for name, value in state.items():
            found = ours["state"][index][name]
            assert (found.dtype, found.shape, found.stride()) == (value.dtype, value.shape, value.stride())


@pytest.mark.parametrize("evaluating", [False, True])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (fused, fused),
        (fused, of_library),
        (of_library, fused),
        (fused, ScheduleFreeRAdam),
        (ScheduleFreeRAdam, fused),
    ],
)
def test_saved_state_continues(
    source: Callable[..., torch.optim.Optimizer], target: Callable[..., torch.optim.Optimizer], evaluating: bool
) -> None:
    shapes = [(), (3, 5), (60, 60), (100, 100), (300, 300)]
    first = parameters(shapes)
    options: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1}
    saved: Any = source(first, **options)
    for step in range(8):
        give_gradients(step, first)
        saved.step()
    if evaluating:
        saved.eval()
    file = io.BytesIO()
    torch.save({"model": [p.detach() for p in first], "optimizer": saved.state_dict()}, file)
    file.seek(0)

    loaded = torch.load(file, weights_only=True)
    second = [torch.nn.Parameter(tensor) for tensor in loaded["model"]]
    resumed: Any = target(second, **options)
    resumed.load_state_dict(loaded["optimizer"])

    assert {group["train_mode"] for group in resumed.param_groups} == {not evaluating}
    saved.train()
    resumed.train()
    train_both(range(8, 11), first, second, saved, resumed)
    assert_same_trajectory(second, first, resumed, saved)
    if source is target:
        assert_same_trajectory(second, first, resumed, saved, {"rtol": 0, "atol": 0})


@pytest.mark.parametrize("through", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("evaluating", [False, True])
def test_copies_stay_fused_and_go_on_alike(through: Callable[[Any], Any], evaluating: bool) -> None:
    params, optimizer = trained(8)
    if evaluating:
        optimizer.eval()

    twins, twin = through((params, optimizer))

    assert twin.fused is True
    for each in (optimizer, twin):
        each.train()
    train_both(range(8, 11), params, twins, optimizer, twin)
    assert identical(twins, params)
    assert twin._fused_step is not optimizer._fused_step


def test_late_group_trains_as_the_librarys() -> None:
    ours = parameters([(3,), (9000,)])
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05), of_library(theirs, lr=0.05)
    train_both(range(6), ours, theirs, optimizer, oracle)
    late = parameters([(5, 2), (20_000,), (50_000,)])
    late_theirs = copies(late)

    optimizer.add_param_group({"params": late, "lr": 0.02})
    oracle.add_param_group({"params": late_theirs, "lr": 0.02})
    oracle.train()
    train_both(range(6, 14), [*ours, *late], [*theirs, *late_theirs], optimizer, oracle)

    assert [group["k"] for group in optimizer.param_groups] == [14, 8]
    assert_same_trajectory([*ours, *late], [*theirs, *late_theirs], optimizer, oracle)


def test_everything_is_freed_with_the_optimizer_and_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        params, optimizer = trained(3, [(3,), (60, 60), (9000,), (40_000,)])
        left = [weakref.ref(thing) for thing in (optimizer, optimizer._fused_step, *params)]
        left += [weakref.ref(tensor) for state in optimizer.state.values() for tensor in state.values()]
        del params, optimizer
        assert [reference() for reference in left] == [None] * len(left)
    finally:
        gc.enable()


@pytest.mark.filterwarnings("ignore:ScheduleFreeRAdam with fused=True can't compile")
def test_everything_is_freed_without_a_compiler_too(no_compiler: list[str]) -> None:
    test_everything_is_freed_with_the_optimizer_and_without_the_garbage_collector()
    assert no_compiler


def allocated_in_a_step(params: Parameters, optimizer: torch.optim.Optimizer) -> int:
    """The most bytes that one operation of a step leaves allocated."""
    give_gradients(99, params)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        optimizer.step()
    return max(event.cpu_memory_usage for event in profile.events())


def test_step_makes_no_temporary_of_a_large_tensors_size() -> None:
    params, optimizer = trained(7, [(400_000,), (500, 600)])
    theirs = copies(params)
    oracle = of_library(theirs)
    for step in range(7):
        give_gradients(step, theirs)
        oracle.step()

    assert allocated_in_a_step(params, optimizer) < 10_000
    # What is measured would be seen: the library's denominator.
    assert allocated_in_a_step(theirs, oracle) >= 4 * 400_000


@pytest.mark.parametrize("fuses", [True, False])
def test_the_choice_can_be_read_and_made_by_the_factory(fuses: bool) -> None:
    optimizer = ScheduleFreeRAdamFactory(fused=fuses).build(parameters([(3,)]))

    assert optimizer.fused is fuses
    assert "fused" not in optimizer.param_groups[0]
    assert ScheduleFreeRAdam(parameters([(3,)])).fused is False


@pytest.mark.parametrize("value", ["perhaps", 7, None])
def test_wrong_type_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgumentsError, match=r"fused = .*: must be a valid boolean"):
        ScheduleFreeRAdamFactory(fused=value)
    with pytest.raises(InvalidArgumentsError, match=r"fused = .*: must be a valid boolean"):
        ScheduleFreeRAdam(parameters([(3,)]), fused=value)


class TestConformance(OptimizerConformance):
    factory = "schedule_free_radam"
    params: ClassVar[Mapping[str, Any]] = {"lr": 2.5e-3, "fused": True}
    claims = Claims(unchanged_gradients=True)


def test_state_of_other_shapes_is_refused() -> None:
    (_, saved), (_, live) = (trained(2, [shape]) for shape in ((6, 4), (4, 6)))

    with pytest.raises(StateMismatchError, match="parameter 0 of group 0"):
        live.load_state_dict(saved.state_dict())
