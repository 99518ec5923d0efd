"""Parameter groups that come late, have a rate of their own, or hold frozen parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from workspace_support.subject_training import (
    Model,
    assert_goes_on_alike,
    assert_rate,
    train,
    weights,
)
from workspace_support.subjects import (
    ALL,
    NAIVE_COSINE,
    NAIVE_CYCLE,
    NAIVE_FREE,
    PEAK,
    TOTAL,
    Checks,
    Subject,
)

check = Checks()


@check(*ALL, naive_passes=(NAIVE_FREE,))
def group_added_late_joins_at_the_position(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.first.parameters())
    train(model, optimizer, range(4))
    optimizer.add_param_group({"params": list(model.second.parameters())})
    before = weights(model.second)
    for step in range(4, TOTAL - 1):
        rates = {float(group["lr"]) for group in optimizer.param_groups}
        assert len(rates) == 1
        assert_rate(subject, optimizer, step)
        train(model, optimizer, range(step, step + 1))
    assert not torch.equal(before[0], model.second.weight)


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_FREE))
def group_with_a_rate_of_its_own_scales_its_curve(subject: Subject, _: Path) -> None:
    model = Model()
    groups = [
        {"params": model.first.parameters()},
        {"params": model.second.parameters(), "lr": PEAK / 10},
    ]
    optimizer = subject.make(groups)
    for step in range(TOTAL):
        first, second = (float(group["lr"]) for group in optimizer.param_groups)
        assert first == pytest.approx(PEAK if subject.rate is None else subject.rate(step))
        assert second == pytest.approx(first / 10)
        train(model, optimizer, range(step, step + 1))


@check(*ALL)
def dictionaries_and_tensors_of_the_caller_stay_as_they_are(subject: Subject, _: Path) -> None:
    model = Model()
    peak = torch.tensor(PEAK)
    groups = [{"params": list(module.parameters())} for module in (model.first, model.second)]
    keys = [list(group) for group in groups]
    optimizer = subject.make(groups, **({} if subject.rate is None else {"peak": peak}))
    added = {"params": [nn.Parameter(torch.ones(1))]}
    optimizer.add_param_group(added)
    train(model, optimizer, range(3))
    assert subject.rate is None or len({id(group["lr"]) for group in optimizer.param_groups} | {id(peak)}) == 4
    assert peak == torch.tensor(PEAK)
    assert [set(group) - {"params"} for group in (*groups, added)] == [set()] * 3, keys


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def generators_and_named_parameters_are_taken(subject: Subject, _: Path) -> None:
    model, reference = Model(), Model()
    oracle = subject.make(list(reference.parameters()))
    optimizer = subject.make(model.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
    assert_goes_on_alike(subject, reference, oracle, model, optimizer)
    by_generator = subject.make(parameter for parameter in Model().parameters())
    assert len(by_generator.param_groups[0]["params"]) == 4


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def frozen_and_unfrozen_parameters_stand_still_and_move(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.parameters())
    train(model, optimizer, range(3))
    model.first.requires_grad_(False)
    frozen = weights(model.first)
    optimizer.zero_grad()
    train(model, optimizer, range(3, 6))
    torch.testing.assert_close(weights(model.first), frozen, rtol=0, atol=0)
    model.first.requires_grad_(True)
    train(model, optimizer, range(6, 8))
    assert not torch.equal(model.first.weight, frozen[0])
    assert_rate(subject, optimizer, 8)


test_built_in, test_naive_implementation_is_caught = check.tests()
