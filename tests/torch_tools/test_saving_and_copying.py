"""States load exactly or are refused, and copies and pickles go on alone."""

from __future__ import annotations

import copy
import gc
import io
import math
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from optim_core import ScheduleWarning, StateMismatchError
from workspace_support.subject_training import (
    Model,
    assert_goes_on_alike,
    assert_rate,
    train,
    trained,
    weights,
)
from workspace_support.subjects import (
    ALL,
    COSINE,
    NAIVE_COSINE,
    NAIVE_CYCLE,
    NAIVE_FREE,
    PEAK,
    TOTAL,
    WITH_SCHEDULE,
    Checks,
    Subject,
)

check = Checks()


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def state_loads_with_weights_only(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    torch.save(optimizer.state_dict(), file := io.BytesIO())
    file.seek(0)
    other = Model()
    other.load_state_dict(model.state_dict())
    twin = subject.make(other.parameters())
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert_goes_on_alike(subject, model, optimizer, other, twin)


def copied_goes_on(subject: Subject, duplicate: Callable[[Any], Any]) -> None:
    for steps in (0, 5):
        model, optimizer = trained(subject, steps)
        other, twin = duplicate((model, optimizer))
        before = weights(other)
        assert_rate(subject, twin, steps)
        train(model, optimizer, range(steps, steps + 1))
        assert_rate(subject, twin, steps)
        torch.testing.assert_close(before, weights(other), rtol=0, atol=0)
        train(other, twin, range(steps, steps + 1))
        assert_goes_on_alike(subject, model, optimizer, other, twin)


@check(*ALL, naive_passes=(NAIVE_FREE,))
def unpickled_optimizer_goes_on_independently(subject: Subject, _: Path) -> None:
    copied_goes_on(subject, lambda pair: pickle.loads(pickle.dumps(pair)))


@check(*ALL, naive_passes=(NAIVE_FREE,))
def copied_optimizer_goes_on_independently(subject: Subject, _: Path) -> None:
    copied_goes_on(subject, copy.deepcopy)


@check(*ALL, naive_passes=(NAIVE_FREE,))
def memory_goes_away_with_the_optimizer(subject: Subject, _: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        _model, optimizer = trained(subject)
        moment = weakref.ref(next(iter(optimizer.state.values()))["exp_avg_sq"])
        gone = weakref.ref(optimizer)
        del optimizer
        assert (gone(), moment()) == (None, None)
    finally:
        gc.enable()


@check(*WITH_SCHEDULE)
def loading_takes_the_keyword_and_leaves_what_it_is_given(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    other = Model()
    other.load_state_dict(model.state_dict())
    twin = subject.make(other.parameters())
    state = copy.deepcopy(optimizer.state_dict())
    twin.load_state_dict(state_dict=state)
    expected = optimizer.state_dict()
    assert state.keys() == expected.keys()
    assert state["param_groups"] == expected["param_groups"]
    del state["scheduler"]
    third = subject.make(other.parameters())
    third.load_state_dict(state_dict=state)
    assert_rate(subject, third, 5)


@check(*WITH_SCHEDULE)
def state_of_the_bare_optimizer_continues_from_its_count_with_a_warning(subject: Subject, _: Path) -> None:
    model = Model()
    bare = torch.optim.AdamW(model.parameters())
    train(model, bare, range(5))
    optimizer = subject.make(model.parameters())
    with pytest.warns(ScheduleWarning, match="step 5"):
        optimizer.load_state_dict(bare.state_dict())
    assert_rate(subject, optimizer, 5)


@check(COSINE)
def changed_horizon_follows_the_configuration_with_a_warning(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    cls = type(optimizer)
    longer = cls(model.parameters(), PEAK, 2 * TOTAL, warmup_steps=3, end_lr=0.01)
    with pytest.warns(ScheduleWarning, match="total_steps is 12 in the checkpoint and 24 in the configuration"):
        longer.load_state_dict(optimizer.state_dict())
    expected = 0.01 + (PEAK - 0.01) * (1 + math.cos(math.pi * (5 - 3) / (2 * TOTAL - 1 - 3))) / 2
    assert longer.param_groups[0]["lr"] == pytest.approx(expected)


@check(*WITH_SCHEDULE)
def state_of_other_groups_is_refused_with_both_sides(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    twin = subject.make([{"params": list(model.first.parameters())}, {"params": list(model.second.parameters())}])
    before = copy.deepcopy(twin.state_dict())
    with pytest.raises(ValueError, match=r"1 parameter group with 4 parameters.*2 parameter groups with 2, 2"):
        twin.load_state_dict(optimizer.state_dict())
    assert str(twin.state_dict()) == str(before)


@check(*ALL)
def state_of_other_names_is_refused_with_both_sides(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.named_parameters())
    train(model, optimizer, range(5))
    twin = subject.make([(f"other.{name}", parameter) for name, parameter in Model().named_parameters()])
    with pytest.raises(StateMismatchError, match=r"'other\.first\.weight'.*only in the checkpoint: 'first\.weight'"):
        twin.load_state_dict(optimizer.state_dict())
    assert not twin.state
    assert_rate(subject, twin, 0)


test_built_in, test_naive_implementation_is_caught = check.tests()
