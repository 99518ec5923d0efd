"""What the tests of schedule-free RAdam's fused step train, and how: beside the schedulefree library's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import schedulefree
import torch

from optim_schedule_free_radam import ScheduleFreeRAdam

Parameters = list[torch.nn.Parameter]

SHAPES = [(), (0, 3), (7,), (5, 1, 3), (2**11 + 1,), (2**13,), (2**13 + 1,), (2**15,), (2**15 + 1,), (211, 157)]
# A few steps of few ulps each. In single precision a parameter near zero is the difference of larger numbers.
TOLERANCES = {
    torch.float32: {"rtol": 1e-5, "atol": 2e-6},
    torch.float64: {"rtol": 1e-12, "atol": 1e-14},
    # The library rounds after each operation.
    torch.bfloat16: {"rtol": 2**-6, "atol": 2**-6},
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"lr": 0.05, "weight_decay": 0.1, "r": 1.0, "eps": 1e-6},
    {"lr": 0.05, "silent_sgd_phase": False, "weight_decay": 0.02},
    {"lr": 0.05, "betas": (0.8, 0.9), "weight_lr_power": 0.0, "silent_sgd_phase": False},
    {"lr": 0.01, "betas": (0.95, 0.99), "weight_lr_power": 1.0, "r": 0.5},
]


def noise(shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parameters(shapes: Sequence[Sequence[int]], dtype: torch.dtype = torch.float32) -> Parameters:
    return [torch.nn.Parameter(noise(shape, seed, dtype)) for seed, shape in enumerate(shapes)]


def copies(of: Parameters) -> Parameters:
    return [torch.nn.Parameter(p.detach().clone(memory_format=torch.preserve_format)) for p in of]


def give_gradients(step: int, *models: Parameters) -> None:
    """The same gradients to several models, in memory of their own, laid out as the parameters are."""
    for index, twins in enumerate(zip(*models, strict=True)):
        gradient = noise(twins[0].shape, 1000 * step + index + 500, twins[0].dtype)
        for parameter in twins:
            parameter.grad = torch.empty_like(parameter).copy_(gradient)


def fused(params: Any, **options: Any) -> ScheduleFreeRAdam:
    return ScheduleFreeRAdam(params, fused=True, **options)


def of_library(params: Any, **options: Any) -> schedulefree.RAdamScheduleFree:
    optimizer = schedulefree.RAdamScheduleFree(params, **{"foreach": False, **options})
    optimizer.train()
    return optimizer


def options_and_counters(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in group.items() if name not in ("params", "foreach")}
        for group in optimizer.param_groups
    ]


def assert_same_trajectory(
    ours: Parameters,
    theirs: Parameters,
    optimizer: torch.optim.Optimizer,
    oracle: torch.optim.Optimizer,
    tolerances: dict[str, float] | None = None,
) -> None:
    assert options_and_counters(optimizer) == options_and_counters(oracle)
    for a, b in zip(ours, theirs, strict=True):
        expected = tolerances or TOLERANCES[b.dtype]
        torch.testing.assert_close(a.detach(), b.detach(), **expected)
        assert optimizer.state[a].keys() == oracle.state[b].keys()
        for name in optimizer.state[a]:
            torch.testing.assert_close(optimizer.state[a][name], oracle.state[b][name], **expected)


def train_both(
    steps: range, ours: Parameters, theirs: Parameters, optimizer: torch.optim.Optimizer, oracle: torch.optim.Optimizer
) -> None:
    for step in steps:
        give_gradients(step, ours, theirs)
        optimizer.step()
        oracle.step()


def trained(
    steps: int, shapes: Sequence[Sequence[int]] = ((3, 5), (100, 100)), **options: Any
) -> tuple[Parameters, ScheduleFreeRAdam]:
    params = parameters(shapes)
    optimizer = ScheduleFreeRAdam(params, **{"lr": 0.05, "weight_decay": 0.1, "fused": True, **options})
    for step in range(steps):
        give_gradients(step, params)
        optimizer.step()
    return params, optimizer


def identical(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def assert_gradients_unmodified() -> None:
    params = [p for dtype in DTYPES for p in parameters(SHAPES, dtype)]
    params.append(torch.nn.Parameter(transposed(noise((100, 200), 1))))
    optimizer = fused(params, lr=0.05, weight_decay=0.1, silent_sgd_phase=False)
    for step in range(7):
        give_gradients(step, params)
        gradients = [p.grad for p in params]
        before = [(g.clone(), g._version) for g in gradients if g is not None]
        optimizer.step()
        for parameter, gradient, (values, version) in zip(params, gradients, before, strict=True):
            assert parameter.grad is gradient
            assert gradient is not None
            assert torch.equal(gradient, values)
            assert gradient._version == version


def net() -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.Tanh(), torch.nn.Linear(100, 1))


def update(module: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: int) -> None:
    inputs = torch.linspace(batch, batch + 2, 500).reshape(5, 100).sin()
    optimizer.zero_grad()
    module(inputs).square().mean().backward()
    optimizer.step()
