"""Parameter groups on a schedule: their own peaks, groups added late or taken away, and rates that are refused."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from core_support.scheduled_optimizers import (
    SHAPE,
    ScheduledAdamW,
    ScheduledSGD,
    advance,
    formula,
    parameters,
    rates,
    sgd,
    sgd_over,
)
from optim_core import InvalidArgumentsError, WarmupCosine


def test_group_with_a_rate_of_its_own_has_the_curve_in_proportion() -> None:
    first, second = parameters()
    optimizer = sgd_over([{"params": [first]}, {"params": [second], "lr": 0.4}])

    for step in range(10):
        assert rates(optimizer) == [pytest.approx(formula(step)), pytest.approx(4 * formula(step))]
        optimizer.step()
    assert [group["peak_lr"] for group in optimizer.param_groups] == [0.1, 0.4]


def test_lr_argument_is_the_peak_of_groups_without_their_own() -> None:
    first, second = parameters()

    optimizer = sgd_over([{"params": [first]}, {"params": [second], "lr": 0.4}], lr=0.2, initial_step=3)

    assert rates(optimizer) == [pytest.approx(0.2), pytest.approx(0.4)]


def test_late_group_joins_at_the_current_position() -> None:
    first, second = parameters()
    optimizer = sgd_over([first])
    advance(optimizer, 4)

    optimizer.add_param_group({"params": [second], "lr": 0.2})

    assert rates(optimizer) == [pytest.approx(formula(4)), pytest.approx(2 * formula(4))]
    advance(optimizer, 1)
    assert rates(optimizer) == [pytest.approx(formula(5)), pytest.approx(2 * formula(5))]


def test_group_dictionaries_are_not_changed_and_serve_two_optimizers() -> None:
    first, second = parameters()
    groups: list[dict[str, Any]] = [{"params": [first]}, {"params": [second], "lr": 0.4}]

    one = sgd_over(groups)
    advance(one, 4)
    other = sgd_over(groups)

    assert [{k: v for k, v in group.items() if k != "params"} for group in groups] == [{}, {"lr": 0.4}]
    assert rates(other) == [pytest.approx(formula(0)), pytest.approx(4 * formula(0))]


def test_late_group_dictionary_is_not_changed() -> None:
    first, second = parameters()
    optimizer = sgd_over([first])
    group = {"params": second}

    optimizer.add_param_group(group)

    assert list(group) == ["params"]
    assert group["params"] is second


def test_groups_of_another_optimizer_keep_their_peaks_and_start_anew() -> None:
    first, second = parameters()
    one = sgd_over([{"params": [first]}, {"params": [second], "lr": 0.4}])
    advance(one, 4)

    other = sgd_over(one.param_groups)

    assert rates(other) == [pytest.approx(formula(0)), pytest.approx(4 * formula(0))]
    assert (one.schedule_step, other.schedule_step) == (4, 0)


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf, "0.1", None, True, torch.tensor(-0.1), torch.ones(2)])
def test_group_rate_that_is_none_is_refused_and_nothing_changes(lr: Any) -> None:
    first, second = parameters()
    optimizer = sgd_over([first])

    with pytest.raises(InvalidArgumentsError, match=r"lr = .*: a parameter group's rate must be a finite number"):
        optimizer.add_param_group({"params": [second], "lr": lr})

    assert len(optimizer.param_groups) == 1
    advance(optimizer, 1)
    assert rates(optimizer) == [pytest.approx(formula(1))]


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf])
def test_default_rate_that_is_none_is_refused(lr: float) -> None:
    with pytest.raises(ValueError, match=str(lr)):
        sgd(lr=lr)


def test_group_that_is_no_dictionary_is_refused_by_pytorch() -> None:
    with pytest.raises(TypeError, match="param_group must be a dict"):
        sgd().add_param_group([parameters()[0]])  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"fused": True}])
def test_tensor_rate_is_cloned_for_each_group_and_filled_in_place(options: dict[str, Any]) -> None:
    default, own = torch.tensor(0.1), torch.tensor(0.4)
    first, second = parameters()
    third = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    groups = [{"params": [first]}, {"params": [second], "lr": own}, {"params": [third]}]
    optimizer = ScheduledAdamW(groups, lr=default, schedule=SHAPE, **options)
    tensors = [group["lr"] for group in optimizer.param_groups]

    advance(optimizer, 4)

    assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, tensors, strict=True))
    assert len({id(tensor) for tensor in (default, own, *tensors)}) == 5
    assert (float(default), float(own)) == (pytest.approx(0.1), pytest.approx(0.4))
    assert rates(optimizer) == [pytest.approx(f * formula(4), rel=1e-6) for f in (1, 4, 1)]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_adding_a_group_to_a_copy_is_no_change_from_outside(copied: Callable[[ScheduledSGD], ScheduledSGD]) -> None:
    optimizer = copied(sgd())
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.01})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        advance(optimizer, 2)


@pytest.mark.parametrize(
    ("group", "peak"),
    [
        ({"lr": 0.2}, 0.2),
        ({"peak_lr": 0.3}, 0.3),
        ({"lr": 0.2, "peak_lr": 0.1}, 0.2),
        # That of another optimizer, at some step of its schedule.
        ({"lr": 0.01, "peak_lr": 0.3, "schedule_step": 7}, 0.3),
        ({}, 0.1),
    ],
)
def test_peak_of_a_group_is_its_own_rate_or_that_of_the_optimizer_it_was_in(group: dict[str, Any], peak: float) -> None:
    optimizer = ScheduledSGD(
        [{"params": [torch.nn.Parameter(torch.ones(2))], **group}],
        schedule=WarmupCosine(peak_lr=0.1, total_steps=10),
    )
    assert (optimizer.param_groups[0]["peak_lr"], optimizer.param_groups[0]["lr"]) == (peak, peak)
    assert optimizer.schedule_step == 0


@pytest.mark.parametrize("keep", [[0], [1], [1, 0], []], ids=str)
def test_groups_taken_away_or_reordered_by_hand_leave_the_others_on_their_schedule(keep: list[int]) -> None:
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    groups = [{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": 0.2}]
    optimizer = ScheduledSGD(groups, schedule=WarmupCosine(peak_lr=0.1, total_steps=10, warmup_steps=5))
    optimizer.step()
    optimizer.param_groups[:] = [optimizer.param_groups[index] for index in keep]
    optimizer.add_param_group({"params": [parameters[2]], "lr": 0.3})
    optimizer.step()
    position = 2 if keep else 1
    peaks = [[0.1, 0.2][index] for index in keep] + [0.3]
    assert [g["schedule_step"] for g in optimizer.param_groups] == [position] * len(peaks)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([peak * position / 5 for peak in peaks])
