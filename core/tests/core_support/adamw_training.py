"""What the tests of `ScheduledAdamW` train, and how: beside PyTorch's own AdamW at rates set by hand."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter

from optim_core import ScheduledAdamW

PEAK, TOTAL = 0.125, 32


@dataclass(frozen=True)
class Falling:
    """Falls in a straight line; a horizon of a power of two has its rates exact."""

    peak_lr: float = PEAK
    total_steps: int = TOTAL

    def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
        return {"lr": peak_lr * (1 - min(step, self.total_steps) / self.total_steps)}


@dataclass(frozen=True)
class FallingWithBetas(Falling):
    def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
        return {**super().options_at(step, peak_lr), "betas": (0.5 + min(step, TOTAL) / 4 / TOTAL, None)}


def rate(step: int, peak: float = PEAK) -> float:
    """The rate of `Falling`, written out."""
    return peak * (1 - step / TOTAL)


Gradients = Callable[[int, int], bool]


def everywhere(step: int, index: int) -> bool:
    return True


def values(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def parameters(dtype: torch.dtype = torch.float32, count: int = 3) -> list[Parameter]:
    shapes = [(3, 5), (7,), (), (2, 2, 2)]
    return [Parameter(values(*shapes[index % 4], seed=index, dtype=dtype)) for index in range(count)]


def complex_parameter() -> Parameter:
    return Parameter(torch.tensor([1 + 2j, -0.5j]))


def ours(params: Any, **options: Any) -> ScheduledAdamW:
    return ScheduledAdamW(params, **{"schedule": Falling(), **options})


def params_of(optimizer: torch.optim.Optimizer) -> list[Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def give_gradients(optimizer: torch.optim.Optimizer, step: int, present: Gradients = everywhere) -> None:
    for index, p in enumerate(params_of(optimizer)):
        gradient = values(*p.shape, seed=1000 + 50 * step + index).to(p.device, p.dtype)
        p.grad = gradient if present(step, index) else None


def set_rates(oracle: torch.optim.Optimizer, step: int) -> None:
    """Give PyTorch's optimizer the rates of a step; a group's peak is in it as "peak"."""
    for group in oracle.param_groups:
        value = rate(step, group.get("peak", PEAK))
        group["lr"] = torch.full_like(group["lr"], value) if isinstance(group["lr"], torch.Tensor) else value


def assert_same(optimizer: torch.optim.Optimizer, oracle: torch.optim.Optimizer) -> None:
    """Parameters and all state, bit for bit."""
    for own, other in zip(params_of(optimizer), params_of(oracle), strict=True):
        assert torch.equal(own, other)
        assert (own in optimizer.state) == (other in oracle.state)
        if own in optimizer.state:
            assert optimizer.state[own].keys() == oracle.state[other].keys()
            for name, value in optimizer.state[own].items():
                assert value.dtype == oracle.state[other][name].dtype
                assert torch.equal(value, oracle.state[other][name])


def follow(
    optimizer: torch.optim.Optimizer,
    oracle: torch.optim.Optimizer,
    steps: Sequence[int],
    gradients: Gradients = everywhere,
) -> None:
    """Make steps with both, which stay together: the oracle at rates set by hand."""
    for step in steps:
        set_rates(oracle, step)
        for each in (optimizer, oracle):
            give_gradients(each, step, gradients)
            each.step()
        assert_same(optimizer, oracle)


def pair(**options: Any) -> tuple[ScheduledAdamW, torch.optim.AdamW]:
    """Ours, which chooses, beside PyTorch's own that is told to be fused."""
    return ours(parameters(), **options), torch.optim.AdamW(parameters(), fused=True, **options)


def ways(optimizer: torch.optim.Optimizer) -> list[tuple[Any, Any]]:
    return [(group["fused"], group["foreach"]) for group in optimizer.param_groups]


def through_pickle(optimizer: ScheduledAdamW) -> ScheduledAdamW:
    copied: ScheduledAdamW = pickle.loads(pickle.dumps(optimizer))
    return copied


def scaled_in_kernels(optimizer: torch.optim.Optimizer) -> bool:
    """What torch.amp.GradScaler asks an optimizer."""
    return getattr(optimizer, "_step_supports_amp_scaling", False)


FUSED, FOREACH, LOOP = (True, False), (False, True), (False, False)


def loss_of(optimizer: torch.optim.Optimizer, batch: int, real_only: bool = False) -> torch.Tensor:
    params = [p for p in params_of(optimizer) if not (real_only and p.is_complex())]
    return torch.stack([((p - 0.1 * batch).cos() + p.square() / 4).sum() for p in params]).sum()


def scaled_step(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batch: int,
    overflow: bool = False,
    unscale: bool = False,
    real_only: bool = False,
) -> None:
    optimizer.zero_grad()
    scaler.scale(loss_of(optimizer, batch, real_only) * (math.inf if overflow else 1)).backward()  # type: ignore[no-untyped-call]
    if unscale:
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"amsgrad": True},
    {"maximize": True},
    {"weight_decay": 0.0},
    {"weight_decay": 0.5, "betas": (0.5, 0.75), "eps": 1e-3},
    {"lr": torch.tensor(PEAK)},
    {"lr": torch.tensor(PEAK, dtype=torch.float64), "amsgrad": True, "maximize": True},
    {"capturable": True},
]


def comes_and_goes(step: int, index: int) -> bool:
    """The second parameter's gradients begin at step 3, the third's are there every other time; none at 5 and 6."""
    return step not in (5, 6) and (index == 0 or (index == 1 and step >= 3) or (index == 2 and step % 2 == 1))


WAYS: list[dict[str, Any]] = [
    {"fused": True, "foreach": False},
    {"fused": False, "foreach": True},
    {"fused": False, "foreach": False},
]
