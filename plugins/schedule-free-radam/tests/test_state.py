"""The state of schedule-free RAdam: saved, copied, exchanged with the library's class, or refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from optim_core import (
    StateMismatchError,
)
from optim_schedule_free_radam import ScheduleFreeRAdam
from radam_support.plain_training import identical, model, of_library, trained, update


@pytest.mark.parametrize("evaluating", [False, True])
@pytest.mark.parametrize("to_library", [False, True])
def test_state_goes_to_and_comes_from_the_librarys_class(to_library: bool, evaluating: bool) -> None:
    options: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1}
    first, second = model(), model()
    ours, oracle = ScheduleFreeRAdam(first.parameters(), **options), of_library(second, **options)
    source, saved = (first, ours) if to_library else (second, oracle)
    target, resumed = (second, oracle) if to_library else (first, ours)
    for step in range(8):
        update(source, saved, step)
    if evaluating:
        saved.eval()

    target.load_state_dict(source.state_dict())
    resumed.load_state_dict(copy.deepcopy(saved.state_dict()))

    assert {group["train_mode"] for group in resumed.param_groups} == {not evaluating}
    for module, optimizer in ((source, saved), (target, resumed)):
        optimizer.train()
        for step in range(8, 12):
            update(module, optimizer, step)
        optimizer.eval()
    assert identical(target, source)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("evaluating", [False, True])
def test_copies_go_on_alike(through: Callable[[Any], Any], evaluating: bool) -> None:
    module, optimizer = trained(8, lr=0.05)
    if evaluating:
        optimizer.eval()

    twin_module, twin = through((module, optimizer))

    assert {group["train_mode"] for group in twin.param_groups} == {not evaluating}
    for each, trains in ((module, optimizer), (twin_module, twin)):
        trains.train()
        update(each, trains, 8)
        trains.eval()
    assert identical(twin_module, module)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_reading_the_distributed_state_of_a_fresh_optimizer_advances_nothing(mode: str) -> None:
    module, optimizer = trained(0, lr=0.05, weight_decay=0.1, silent_sgd_phase=False)
    reference, untouched = trained(0, lr=0.05, weight_decay=0.1, silent_sgd_phase=False)
    getattr(optimizer, mode)()
    options = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]

    state = get_optimizer_state_dict(module, optimizer)

    assert set(state["state"]["0.weight"]) == {"z", "exp_avg_sq"}  # type: ignore[index, arg-type]
    assert [{name: group[name] for name in options[0]} for group in optimizer.param_groups] == options
    assert identical(module, model())
    for each, trains in ((module, optimizer), (reference, untouched)):
        trains.train()
        for step in range(8):
            update(each, trains, step)
        trains.eval()
    assert identical(module, reference)


def test_distributed_state_continues_exactly_in_a_fresh_optimizer() -> None:
    module, optimizer = trained(8, lr=0.05)
    target = model()
    target.load_state_dict(module.state_dict())
    resumed = ScheduleFreeRAdam(target.parameters(), lr=0.05)

    set_optimizer_state_dict(target, resumed, copy.deepcopy(get_optimizer_state_dict(module, optimizer)))

    for each, trains in ((module, optimizer), (target, resumed)):
        for step in range(8, 12):
            update(each, trains, step)
        trains.eval()
    assert identical(target, module)


def test_the_state_of_another_kind_of_optimizer_is_refused_and_nothing_changes() -> None:
    module = model()
    optimizer = ScheduleFreeRAdam(module.parameters())
    update(module, optimizer, 0)
    other = torch.optim.AdamW(module.parameters())
    other.step()
    before = copy.deepcopy(optimizer.state_dict())

    with pytest.raises(StateMismatchError, match="'k', 'lr_max', 'train_mode', 'weight_sum', 'z'"):
        optimizer.load_state_dict(other.state_dict())

    assert str(optimizer.state_dict()) == str(before)


@pytest.mark.parametrize("before", [0, 3])
def test_rate_changed_by_a_load_or_before_the_next_step_after_it_is_no_matter(before: int) -> None:
    module, optimizer = trained(before, lr=0.1)
    _, other = trained(3, lr=0.2)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    update(module, optimizer, 0)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    optimizer.param_groups[0]["lr"] = 0.3
    update(module, optimizer, 1)


def test_the_state_of_other_parameters_is_refused_with_both_sides_and_nothing_changes() -> None:
    optimizer = ScheduleFreeRAdam(model().named_parameters())
    before = copy.deepcopy(optimizer.state_dict())
    others = ScheduleFreeRAdam([(f"net.{name}", p) for name, p in model().named_parameters()])
    with pytest.raises(StateMismatchError, match=r"not in the checkpoint: '0\.weight', .*: 'net\.0\.weight', "):
        optimizer.load_state_dict(others.state_dict())
    with pytest.raises(StateMismatchError, match="1 parameter group with 2 parameters, the optimizer"):
        optimizer.load_state_dict(ScheduleFreeRAdam(list(model().parameters())[:2]).state_dict())
    assert optimizer.state_dict() == before


@pytest.mark.parametrize("evaluate", [False, True])
def test_weights_loaded_after_the_state_was_read_are_those_that_are_trained(evaluate: bool) -> None:
    module, reference = model(), model()
    optimizer = ScheduleFreeRAdam(module.parameters(), lr=0.1, silent_sgd_phase=False)
    get_optimizer_state_dict(module, optimizer)
    for each in (module, reference):
        with torch.no_grad():
            for parameter in each.parameters():
                parameter.mul_(2)
    oracle = of_library(reference, lr=0.1, silent_sgd_phase=False)
    if evaluate:
        optimizer.eval()
        assert identical(module, reference)
        optimizer.train()
    for step in range(3):
        update(module, optimizer, step)
        update(reference, oracle, step)
    assert identical(module, reference)
