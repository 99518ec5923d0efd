"""The fused step of schedule-free RAdam on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from radam_support.fused_training import (
    OPTIONS,
    SHAPES,
    Parameters,
    assert_same_trajectory,
    copies,
    fused,
    give_gradients,
    identical,
    noise,
    of_library,
    parameters,
    train_both,
)


def on(device: str, params: Parameters) -> Parameters:
    return [torch.nn.Parameter(p.detach().to(device)) for p in params]


@pytest.mark.gpu
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_trajectory_on_a_gpu_is_the_librarys(options: dict[str, Any]) -> None:
    ours = on("cuda", parameters([*SHAPES, (2000, 1500)]))
    # A parameter that begins anywhere in another's memory.
    ours.append(torch.nn.Parameter(torch.cat([noise((1,), 0), noise((70_000,), 1)]).to("cuda")[1:]))
    theirs = copies(ours)
    optimizer, oracle = fused(ours, **options), of_library(theirs, **options)

    for step in range(9):
        train_both(range(step, step + 1), ours, theirs, optimizer, oracle)
        for each in (optimizer, oracle):
            each.eval()
        assert_same_trajectory(ours, theirs, optimizer, oracle)
        for each in (optimizer, oracle):
            each.train()


@pytest.mark.gpu
def test_parameters_of_a_cpu_and_a_gpu_in_one_optimizer() -> None:
    shapes = [(), (5,), (3000,), (9000,), (50_000,)]
    ours = [*parameters(shapes), *on("cuda", parameters(shapes)), *on("cuda", parameters(shapes, torch.float64))]
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05, weight_decay=0.1), of_library(theirs, lr=0.05, weight_decay=0.1)

    train_both(range(9), ours, theirs, optimizer, oracle)

    assert_same_trajectory(ours, theirs, optimizer, oracle)
    assert [optimizer.state[p]["z"].device for p in ours] == [p.device for p in ours]


@pytest.mark.gpu
def test_nothing_is_compiled_anew_on_a_gpu_and_gradients_are_unmodified() -> None:
    params = on("cuda", parameters([(9000,), (40_000,), (300,)]))
    optimizer = fused(params)
    give_gradients(0, params)
    optimizer.step()

    with torch.compiler.set_stance("fail_on_recompile"):
        for step in range(1, 8):
            params = on("cuda", parameters([(9001 + step,), (40_001 + 7 * step,), (301 + step,), (3001, step)]))
            optimizer = fused(params, lr=0.05, silent_sgd_phase=False)
            give_gradients(step, params)
            gradients = [p.grad.clone() for p in params if p.grad is not None]
            optimizer.step()
            assert identical([p.grad for p in params if p.grad is not None], gradients)


@pytest.mark.gpu
def test_large_parameters_on_a_gpu_are_updated_in_little_memory() -> None:
    params = on("cuda", parameters([(5_000_000,)]))
    optimizer = fused(params)
    for step in range(7):
        give_gradients(step, params)
        optimizer.step()

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    optimizer.step()

    assert torch.cuda.max_memory_allocated() - before < 1_000_000
