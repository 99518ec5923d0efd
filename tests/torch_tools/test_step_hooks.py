"""Step hooks run once whatever was made before, and hooks of the state see the schedule."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from workspace_support.fresh_process import run_alone
from workspace_support.subject_training import (
    Model,
    assert_goes_on_alike,
    train,
    trained,
)
from workspace_support.subjects import (
    ALL,
    NAIVE_FREE,
    WITH_SCHEDULE,
    Checks,
    Subject,
    plain,
)

check = Checks()


def count_hooks(subject: Subject, make_plain: Callable[[], object], order: str) -> None:
    model, calls = Model(), []
    if order == "plain first":
        make_plain()
    optimizer = subject.make(model.parameters())
    if order == "plain last":
        make_plain()
    handles = [
        register_optimizer_step_pre_hook(lambda *_: calls.append("global pre")),
        register_optimizer_step_post_hook(lambda *_: calls.append("global post")),
    ]
    try:
        optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
        optimizer.register_step_post_hook(lambda *_: calls.append("post"))
        train(model, optimizer, range(2))
    finally:
        for handle in handles:
            handle.remove()
    assert (
        calls == ["global pre", "pre", "post", "global post"] * 2
        or calls
        == [
            "pre",
            "global pre",
            "post",
            "global post",
        ]
        * 2
    )


@check(*ALL, naive_passes=(NAIVE_FREE,))
def step_hooks_run_once_where_a_plain_optimizer_came_first(subject: Subject, _: Path) -> None:
    count_hooks(subject, plain, "plain first")


def test_step_hooks_run_once_where_a_plain_optimizer_came_last() -> None:
    run_alone(__file__, 'for subject in module.ALL: module.count_hooks(subject, module.plain, "plain last")')


@check(*WITH_SCHEDULE)
def state_dict_hooks_see_the_schedule(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    seen: list[Any] = []
    optimizer.register_state_dict_pre_hook(lambda _: seen.append("before"))
    optimizer.register_state_dict_post_hook(lambda _, state: seen.append("scheduler" in state))
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "note": 1})
    state = optimizer.state_dict()
    assert (seen, state["note"]) == (["before", True], 1)

    other = Model()
    twin = subject.make(other.parameters())
    other.load_state_dict(model.state_dict())
    twin.register_load_state_dict_pre_hook(lambda _, packed: packed["packed"])
    twin.register_load_state_dict_post_hook(lambda twin: seen.append(subject.position(twin)))
    twin.load_state_dict({"packed": copy.deepcopy(state)})
    assert seen[-1] == 5
    assert_goes_on_alike(subject, model, optimizer, other, twin)


test_built_in, test_naive_implementation_is_caught = check.tests()
