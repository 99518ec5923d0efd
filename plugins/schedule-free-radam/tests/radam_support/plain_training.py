"""A small model that ScheduleFreeRAdam and the schedulefree library's own class train, as they are by default."""

from __future__ import annotations

from typing import Any

import schedulefree
import torch

from optim_schedule_free_radam import ScheduleFreeRAdam


def model() -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def give_gradients(module: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: int) -> None:
    inputs = torch.linspace(batch, batch + 2, 20).reshape(5, 4).sin()
    optimizer.zero_grad()
    module(inputs).square().mean().backward()


def update(module: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: int) -> None:
    give_gradients(module, optimizer, batch)
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
