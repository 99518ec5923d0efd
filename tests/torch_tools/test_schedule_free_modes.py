"""Training and evaluation mode of the schedule-free optimizer, in every order of calls."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from optim_core import EvaluationModeError
from optim_schedule_free_radam import ScheduleFreeRAdam
from workspace_support.naive_optimizers import NaiveScheduleFree
from workspace_support.subject_training import (
    Model,
    assert_goes_on_alike,
    assert_rate,
    assert_same,
    loss_of,
    train,
    trained,
    weights,
)
from workspace_support.subjects import (
    FREE,
    NAIVE_FREE,
    PEAK,
    TOTAL,
    Checks,
    Subject,
)

check = Checks()


def as_handed_out(subject: Subject) -> Any:
    """The class of a schedule-free optimizer, as it is before anybody calls train()."""
    return NaiveScheduleFree if subject is NAIVE_FREE else ScheduleFreeRAdam


@check(FREE)
def starts_in_training_mode(subject: Subject, _: Path) -> None:
    model = Model()
    cls = as_handed_out(subject)
    optimizer = cls(model.parameters(), silent_sgd_phase=False)
    train(model, optimizer, range(1))
    assert_rate(subject, optimizer, 1)


@check(FREE)
def step_in_evaluation_mode_is_refused_with_the_remedy(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    optimizer.eval()
    before = weights(model)
    with pytest.raises(EvaluationModeError, match=r"Call train\(\)"):
        optimizer.step()
    torch.testing.assert_close(weights(model), before, rtol=0, atol=0)
    assert_rate(subject, optimizer, 5)


@check(FREE)
def group_added_late_is_in_the_mode_and_averaged(subject: Subject, _: Path) -> None:
    for evaluating in (False, True):
        model = Model()
        optimizer = subject.make(model.first.parameters())
        train(model, optimizer, range(3))
        if evaluating:
            optimizer.eval()
        optimizer.add_param_group({"params": list(model.second.parameters())})
        assert [group["train_mode"] for group in optimizer.param_groups] == [not evaluating] * 2
        optimizer.train()
        train(model, optimizer, range(3, 6))
        late, beta = model.second.weight, optimizer.param_groups[1]["betas"][0]
        average = late.detach().lerp(optimizer.state[late]["z"], 1 - 1 / beta)
        assert not torch.allclose(average, late)
        optimizer.eval()
        torch.testing.assert_close(late.detach(), average)


@check(FREE)
def asking_and_switching_modes_creates_no_state(subject: Subject, _: Path) -> None:
    optimizer = subject.make(Model().parameters())
    for switch in (optimizer.eval, optimizer.train, optimizer.train, optimizer.eval, optimizer.eval):
        switch()
        assert (len(optimizer.state), optimizer.state_dict()["state"]) == (0, {})


@check(FREE)
def checkpointer_before_the_first_step_in_either_mode(subject: Subject, folder: Path) -> None:
    cls = as_handed_out(subject)
    for evaluating in (False, True):
        model = Model()
        optimizer = cls(model.parameters(), lr=PEAK, silent_sgd_phase=False)
        if evaluating:
            optimizer.eval()
        state = {"optimizer": get_optimizer_state_dict(model, optimizer)}
        writer = FileSystemWriter(folder / str(evaluating))
        torch.distributed.checkpoint.save(state, storage_writer=writer)  # type: ignore[arg-type]
        assert optimizer.param_groups[0]["train_mode"] is not evaluating
        other = Model()
        twin = subject.make(other.parameters())
        target = {"optimizer": get_optimizer_state_dict(other, twin)}
        reader = FileSystemReader(folder / str(evaluating))
        torch.distributed.checkpoint.load(target, storage_reader=reader)  # type: ignore[arg-type]
        set_optimizer_state_dict(other, twin, target["optimizer"])
        assert twin.param_groups[0]["train_mode"] is not evaluating
        optimizer.train()
        twin.train()
        reference = Model()
        assert_goes_on_alike(subject, reference, subject.make(reference.parameters()), other, twin)
        train(model, optimizer, range(TOTAL - 1))
        assert_same(model, reference)


@check(FREE)
def weights_are_right_in_every_order_of_modes_steps_saves_and_loads(subject: Subject, _: Path) -> None:
    for order in itertools.product(("train", "eval", "step", "save and load"), repeat=4):
        model, oracle = Model(), Model()
        cls = as_handed_out(subject)
        optimizer = cls(model.parameters(), lr=PEAK, silent_sgd_phase=False)
        # An oracle that never leaves the training mode; evaluation weights by their definition.
        reference = NAIVE_FREE.make(oracle.parameters())
        evaluating = False
        for step, action in enumerate(order):
            if action == "step":
                if evaluating:
                    optimizer.train()
                train(model, optimizer, range(step, step + 1))
                train(oracle, reference, range(step, step + 1))
                evaluating = False
            elif action == "save and load":
                saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
                model = Model()
                optimizer = cls(model.parameters(), lr=PEAK, silent_sgd_phase=False)
                model.load_state_dict(saved[0])
                optimizer.load_state_dict(saved[1])
            else:
                getattr(optimizer, action)()
                evaluating = action == "eval"
            expected = weights(oracle)
            if evaluating and any(reference.state.values()):
                averaging = 1 - 1 / reference.param_groups[0]["betas"][0]
                expected = [
                    value.lerp(reference.state[p]["z"], averaging)
                    for value, p in zip(expected, oracle.parameters(), strict=True)
                ]
            torch.testing.assert_close(weights(model), expected, msg=lambda text: f"{order} at {step}: {text}")  # noqa: B023


@check(FREE, naive_passes=(NAIVE_FREE,))
def parameters_in_half_precision_train(subject: Subject, _: Path) -> None:
    model = Model(torch.bfloat16)
    optimizer = subject.make(model.parameters())
    first = loss_of(model).item()
    train(model, optimizer, range(1))
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    optimizer.eval()
    assert loss_of(model).item() < first / 2
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    state = copy.deepcopy(optimizer.state_dict())
    twin = subject.make(Model(torch.bfloat16).parameters())
    twin.load_state_dict(state)
    assert {s["z"].dtype for s in twin.state.values()} == {torch.bfloat16}


test_built_in, test_naive_implementation_is_caught = check.tests()
