"""A small model that the subjects train, step by step or compiled, and what must be the same afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from workspace_support.subjects import TOTAL, Subject


class Model(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4, dtype=dtype), nn.Linear(4, 2, dtype=dtype)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(inputs).tanh())
        return result


def loss_of(model: nn.Module, batch: int = 0) -> torch.Tensor:
    dtype = next(model.parameters()).dtype
    inputs = torch.linspace(batch, batch + 1, 12, dtype=dtype).reshape(4, 3)
    return (model(inputs) - inputs[:, :2].cos()).square().mean()


def train(model: nn.Module, optimizer: Any, batches: range) -> None:
    for batch in batches:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def assert_same(first: nn.Module, second: nn.Module) -> None:
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)


def assert_rate(subject: Subject, optimizer: Any, step: int) -> None:
    assert subject.position(optimizer) == step
    if subject.rate is not None:
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(subject.rate(step))


def assert_goes_on_alike(subject: Subject, model: nn.Module, optimizer: Any, other: nn.Module, twin: Any) -> None:
    """Both stand at the same step, and stay together to the last but one of the schedule."""
    step = subject.position(optimizer)
    assert_rate(subject, twin, step)
    train(model, optimizer, range(step, TOTAL - 1))
    train(other, twin, range(step, TOTAL - 1))
    assert_rate(subject, twin, TOTAL - 1)
    assert_same(model, other)


def trained(subject: Subject, steps: int = 5, **options: Any) -> tuple[Model, Any]:
    model = Model()
    optimizer = subject.make(model.parameters(), **options)
    train(model, optimizer, range(steps))
    return model, optimizer


def compilations(model: nn.Module, optimizer: Any, reference: nn.Module, oracle: Any) -> int:
    """Run the whole schedule compiled, and uncompiled for reference; compare, and count compilations."""
    from torch._dynamo.testing import CompileCounter

    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(lambda: train(model, optimizer, range(1)), backend=counter)
    compiled()
    with torch.compiler.set_stance("fail_on_recompile"):
        for _ in range(TOTAL - 1):
            compiled()
    for _ in range(TOTAL):
        train(reference, oracle, range(1))
    torch.testing.assert_close(weights(model), weights(reference))
    count: int = counter.frame_count
    return count
