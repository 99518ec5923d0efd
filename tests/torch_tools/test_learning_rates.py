"""The learning rate stays in its tensor, holds past the end, and a scheduler that changes it is noticed."""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path

import pytest
import torch

from optim_core import ScheduleWarning
from workspace_support.subject_training import (
    Model,
    loss_of,
    train,
    trained,
)
from workspace_support.subjects import (
    ALL,
    PEAK,
    TOTAL,
    WITH_SCHEDULE,
    Checks,
    Subject,
)

check = Checks()


@check(*WITH_SCHEDULE)
def last_value_holds_past_the_end(subject: Subject, _: Path) -> None:
    assert subject.rate is not None
    model, optimizer = trained(subject, TOTAL)
    for step in range(3):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(model, optimizer, range(1))
        assert len(caught) == (1 if step == 0 else 0)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(subject.rate(TOTAL - 1))


@check(*ALL)
def scheduler_on_top_is_noticed_once_with_the_remedy(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for batch in range(6):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            scheduler.step()
    ours = [str(warning.message) for warning in caught if issubclass(warning.category, ScheduleWarning)]
    assert len(ours) == 1
    assert re.search("take away the (other )?scheduler .*ReadOnlyScheduler", ours[0])
    assert [warning.filename for warning in caught if warning.category is ScheduleWarning] == [__file__]


@check(*WITH_SCHEDULE)
def tensor_rate_is_kept_and_filled(subject: Subject, _: Path) -> None:
    assert subject.rate is not None
    model = Model()
    optimizer = subject.make(model.parameters(), peak=torch.tensor(PEAK))
    rate = optimizer.param_groups[0]["lr"]
    for step in range(TOTAL):
        assert rate.item() == pytest.approx(subject.rate(step))
        assert optimizer.param_groups[0]["lr"] is rate
        train(model, optimizer, range(1))
    twin = copy.deepcopy(optimizer)
    assert (twin.param_groups[0]["lr"] is rate, subject.position(twin)) == (False, TOTAL)


test_built_in, test_naive_implementation_is_caught = check.tests()
