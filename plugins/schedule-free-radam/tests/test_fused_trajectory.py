"""Trajectories of schedule-free RAdam's fused step: those of the schedulefree library, or of the formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radam_support.fused_training import (
    OPTIONS,
    SHAPES,
    Parameters,
    assert_gradients_unmodified,
    assert_same_trajectory,
    copies,
    fused,
    give_gradients,
    identical,
    net,
    of_library,
    parameters,
    train_both,
    trained,
    transposed,
)

Layout = Callable[[torch.Tensor], torch.Tensor]

# Around the sizes from which tensors are treated in another way, and those that are special anyway.
EDGES = (0, 1, 2, 7, 2**11 - 1, 2**11, 2**11 + 1, 2**13 - 1, 2**13, 2**13 + 1, 2**15 - 1, 2**15, 2**15 + 1, 100_003)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_trajectory_and_counters_are_the_librarys_through_switches_of_mode(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    ours = parameters(SHAPES, dtype)
    theirs, start = copies(ours), copies(ours)
    optimizer, oracle = fused(ours, **options), of_library(theirs, **options)

    for step in range(12):
        train_both(range(step, step + 1), ours, theirs, optimizer, oracle)
        assert_same_trajectory(ours, theirs, optimizer, oracle)
        if step in (0, 3, 4, 5, 10):
            for each in (optimizer, oracle):
                each.eval()
            assert_same_trajectory(ours, theirs, optimizer, oracle)
            for each in (optimizer, oracle):
                each.train()
        if not options:
            # Silent at first; with the default betas the fifth step is the first adaptive one.
            assert identical(ours, start) is (step < 4)
    assert not any(torch.equal(a, b) for a, b in zip(ours, start, strict=True) if a.numel())


@given(
    sizes=st.lists(st.sampled_from(EDGES), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    steps=st.integers(1, 8),
    options=st.fixed_dictionaries(
        {
            "lr": st.sampled_from([0.0, 1e-3, 0.1]),
            "betas": st.tuples(st.sampled_from([0.5, 0.9]), st.sampled_from([0.0, 0.5, 0.9, 0.999])),
            "eps": st.sampled_from([1e-8, 1e-3]),
            "weight_decay": st.sampled_from([0.0, 0.3]),
            "r": st.sampled_from([-1.0, 0.0, 2.0]),
            "weight_lr_power": st.sampled_from([0.0, 0.5, 2.0]),
            "silent_sgd_phase": st.booleans(),
        }
    ),
)
@settings(deadline=None, max_examples=30)
def test_trajectory_is_the_librarys_for_any_sizes_and_options(
    sizes: list[int], dtype: torch.dtype, steps: int, options: dict[str, Any]
) -> None:
    ours = parameters([(size,) for size in sizes], dtype)
    theirs = copies(ours)
    optimizer, oracle = fused(ours, **options), of_library(theirs, **options)

    train_both(range(steps), ours, theirs, optimizer, oracle)

    assert_same_trajectory(ours, theirs, optimizer, oracle)


def updated_by_formula(
    y: torch.Tensor, z: torch.Tensor, v: torch.Tensor, gradient: torch.Tensor, step: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The `step`-th update (from 1) with lr 0.05, the betas' defaults, weight decay 0.1 and a silent SGD phase."""
    lr, beta1, beta2, eps, decay = 0.05, 0.9, 0.999, 1e-8, 0.1

    def rate(t: int) -> float:
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        if length <= 4:
            return 0.0
        factors = (length - 4) / (longest - 4), (length - 2) / (longest - 2), longest / length
        return lr * (factors[0] * factors[1] * factors[2]) ** 0.5

    v = beta2 * v + (1 - beta2) * gradient**2
    if rate(step) == 0:
        return y, z, v
    # The rate rises, so that the highest so far is the present one; its square is the weight.
    average = rate(step) ** 2 / sum(rate(t) ** 2 for t in range(1, step + 1))
    direction = gradient / ((v / (1 - beta2**step)).sqrt() + eps) + decay * y
    y = (1 - average) * y + average * z - rate(step) * (1 - beta1 * (1 - average)) * direction
    return y, z - rate(step) * direction, v


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_the_formula_rounded_once_a_step(dtype: torch.dtype) -> None:
    ours = parameters([(), (700,), (9000,), (40_000,)], dtype)
    optimizer = fused(ours, lr=0.05, weight_decay=0.1)
    expected = [(p.detach().clone(), p.detach().clone(), torch.zeros_like(p)) for p in ours]

    for step in range(1, 11):
        give_gradients(step, ours)
        optimizer.step()
        for index, parameter in enumerate(ours):
            assert parameter.grad is not None
            exact = (tensor.double() for tensor in (*expected[index], parameter.grad))
            y, z, v = (result.to(dtype) for result in updated_by_formula(*exact, step))
            expected[index] = (y, z, v)

    for parameter, oracle in zip(ours, expected, strict=True):
        state = optimizer.state[parameter]
        for found, wanted in zip((parameter.detach(), state["z"], state["exp_avg_sq"]), oracle, strict=True):
            # One unit in the last place, where a number is about in the middle; else none.
            torch.testing.assert_close(found, wanted, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
            assert (found == wanted).double().mean() >= 0.99


def test_groups_dtypes_sizes_and_frozen_parameters_in_one_optimizer() -> None:
    sizes = [(), (3,), (1000, 2), (8191,), (8192,), (8193,), (32_767,), (32_768,), (32_769,), (300, 400)]
    ours = [*parameters(sizes), *parameters(sizes, torch.float64), *parameters(sizes, torch.bfloat16)]
    ours += parameters([(30,), (30, 500)])
    theirs = copies(ours)

    def groups(params: Parameters) -> list[dict[str, Any]]:
        return [
            {"params": params[::3]},
            {"params": params[1::3], "lr": 0.2, "weight_decay": 0.3, "betas": (0.8, 0.9)},
            {"params": params[2::3], "silent_sgd_phase": False, "eps": 1e-4, "r": 1.0, "weight_lr_power": 1.0},
        ]

    optimizer, oracle = fused(groups(ours), lr=0.05), of_library(groups(theirs), lr=0.05)
    for step in range(8):
        give_gradients(step, ours, theirs)
        for model in (ours, theirs):
            model[-1].grad = model[-2].grad = None
        optimizer.step()
        oracle.step()

    assert_same_trajectory(ours[:-2], theirs[:-2], optimizer, oracle)
    assert identical(ours[-2:], parameters([(30,), (30, 500)]))
    assert set(optimizer.state) == set(ours[:-2])


def test_gradients_may_come_and_go_between_steps() -> None:
    ours = parameters([(5,), (60, 60), (9000,), (), (40_000,), (7, 3), (30_000,)])
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05, weight_decay=0.1), of_library(theirs, lr=0.05, weight_decay=0.1)

    for step, period in enumerate([2, 3, 1, 2, 99, 3, 4, 2, 1]):
        give_gradients(step, ours, theirs)
        for model in (ours, theirs):
            for parameter in model[:: period + 1]:
                parameter.grad = None
        optimizer.step()
        oracle.step()

    assert_same_trajectory(ours, theirs, optimizer, oracle)


def with_gaps(tensor: torch.Tensor) -> torch.Tensor:
    return torch.stack([tensor, tensor + 1], dim=-1)[..., 0]


def amid_others(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros(1), tensor.flatten(), torch.zeros(2)])[1:-2].view(tensor.shape)


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


LAYOUTS: list[Layout] = [torch.Tensor.contiguous, channels_last, transposed, with_gaps, amid_others]


@pytest.mark.parametrize("of_gradient", LAYOUTS)
@pytest.mark.parametrize("of_parameter", LAYOUTS)
def test_layout_in_memory_is_of_no_matter_and_stays(of_parameter: Layout, of_gradient: Layout) -> None:
    shapes = [(4, 3, 2, 2), (64, 24, 3, 3), (64, 64, 3, 3), (128, 96, 1, 1)]
    theirs = parameters(shapes)
    ours = [torch.nn.Parameter(of_parameter(p.detach())) for p in theirs]
    places = [(p.data_ptr(), p.stride()) for p in ours]
    optimizer, oracle = fused(ours, lr=0.05, weight_decay=0.1), of_library(theirs, lr=0.05, weight_decay=0.1)

    for step in range(8):
        give_gradients(step, ours, theirs)
        for parameter in ours:
            assert parameter.grad is not None
            parameter.grad = of_gradient(parameter.grad)
        optimizer.step()
        oracle.step()

    assert_same_trajectory(ours, theirs, optimizer, oracle)
    assert [(p.data_ptr(), p.stride()) for p in ours] == places


@pytest.mark.parametrize("layout", [torch.Tensor.clone, transposed, with_gaps])
def test_data_may_be_replaced_between_steps(layout: Layout) -> None:
    ours = parameters([(4, 3), (100, 100), (200, 300)])
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05), of_library(theirs, lr=0.05)
    train_both(range(7), ours, theirs, optimizer, oracle)

    for parameter in ours:
        parameter.data = layout(parameter.data)
    train_both(range(7, 9), ours, theirs, optimizer, oracle)

    assert_same_trajectory(ours, theirs, optimizer, oracle)


def test_autograd_notices_that_parameters_were_changed() -> None:
    for size in (3, 9000):
        (parameter,), optimizer = trained(7, [(size,)])
        loss = parameter.square().sum()
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_gradients_are_unmodified_bit_for_bit() -> None:
    assert_gradients_unmodified()


def test_closure_is_called_once_with_gradients_enabled_before_the_update() -> None:
    ours, theirs = net(), net()
    optimizer, oracle = (make(m.parameters(), lr=0.05) for make, m in ((fused, ours), (of_library, theirs)))
    calls: list[bool] = []

    def closure(module: torch.nn.Module, each: torch.optim.Optimizer) -> float:
        calls.append(torch.is_grad_enabled())
        each.zero_grad()
        loss = module(torch.ones(100)).square().sum()
        loss.backward()
        return loss.item()

    with torch.no_grad():
        losses = [
            [each.step(lambda module=module, each=each: closure(module, each)) for _ in range(8)]
            for module, each in ((ours, optimizer), (theirs, oracle))
        ]

    assert calls == [True] * 16
    torch.testing.assert_close(*losses)
    assert_same_trajectory(list(ours.parameters()), list(theirs.parameters()), optimizer, oracle)
