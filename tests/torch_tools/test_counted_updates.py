"""What counts as an update under gradient scalers, accumulated gradients, missing gradients and closures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from workspace_support.subject_training import (
    Model,
    assert_rate,
    loss_of,
    train,
    weights,
)
from workspace_support.subjects import (
    ALL,
    NAIVE_COSINE,
    NAIVE_CYCLE,
    NAIVE_FREE,
    PEAK,
    Checks,
    Subject,
    warmup_cosine,
)

check = Checks()


def scaled_training(subject: Subject, unscale: bool, **options: Any) -> None:
    model = Model()
    optimizer = subject.make(model.parameters(), **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    updates = 0
    for batch in range(8):
        before = weights(model)
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch) * (math.inf if batch in (1, 2, 5) else 1)).backward()
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        moved = any(not torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
        updates += batch not in (1, 2, 5)
        assert moved == (batch not in (1, 2, 5) and (updates > 1 or subject.rate is not warmup_cosine))
        assert_rate(subject, optimizer, updates)
    assert updates == 5


for unscaling in (False, True):
    for choice in ({"foreach": False}, {"foreach": True}, {"fused": True}):

        def skipped(subject: Subject, _: Path, unscale: bool = unscaling, options: Any = choice) -> None:
            scaled_training(subject, unscale, **options)

        # Without fused=True the scaler doesn't call step() at all on an overflow.
        passes = (NAIVE_FREE,) if "fused" in choice else (NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE)
        skipped.__name__ = f"update_skipped_by_a_scaler_does_not_count_{'_'.join(choice)}_{choice}_{unscaling}"
        check(*ALL, naive_passes=passes)(skipped)


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def accumulated_gradients_leave_the_horizon_in_updates(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.parameters())
    for batch in range(12):
        (loss_of(model, batch) / 4).backward()
        if batch % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
            assert_rate(subject, optimizer, batch // 4 + 1)


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def step_without_any_gradient_counts(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.parameters())
    optimizer.step()
    assert_rate(subject, optimizer, 1)
    train(model, optimizer, range(2))
    optimizer.zero_grad()
    optimizer.step()
    assert_rate(subject, optimizer, 4)


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def closure_is_called_once_with_gradients_at_the_rate_of_the_step(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.parameters())
    seen: list[tuple[bool, float]] = []

    def closure() -> float:
        seen.append((torch.is_grad_enabled(), float(optimizer.param_groups[0]["lr"])))
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss.item()

    for step in range(4):
        expected = loss_of(model).item()
        with torch.no_grad():
            assert optimizer.step(closure) == expected
        rate = PEAK if subject.rate is None else subject.rate(step)
        assert seen == [(True, pytest.approx(rate))]
        seen.clear()


test_built_in, test_naive_implementation_is_caught = check.tests()
