"""The three built-ins as components of one model: hooks, skipped updates, checkpoints, compilation and copies."""

from __future__ import annotations

import copy
import gc
import io
import math
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from optim_core import ComponentOptimizers, ScheduleWarning, StateMismatchError, build_optimizers
from workspace_support.subject_training import (
    Model,
    assert_rate,
    assert_same,
    compilations,
    loss_of,
    train,
)
from workspace_support.subjects import (
    COSINE,
    CYCLE,
    FREE,
    PEAK,
    TOTAL,
    plain,
)


def configuration(**options: Any) -> dict[str, Any]:
    return {
        "first": {
            "type": "adamw_warmup_cosine_decay",
            "params": {"peak_lr": PEAK, "total_steps": TOTAL, "warmup_steps": 3, "end_lr": 0.01, **options},
        },
        "second": {"type": "adamw_cosine_schedule", "params": {"max_lr": PEAK, "total_steps": TOTAL, **options}},
        "third": {"type": "schedule_free_radam", "params": {"lr": PEAK, "silent_sgd_phase": False}},
    }


class Components(Model):
    def __init__(self) -> None:
        super().__init__()
        self.third = nn.Linear(2, 2)
        with torch.no_grad():
            self.third.weight.copy_(torch.eye(2))
            self.third.bias.zero_()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.third(super().forward(inputs))
        return result


SUBJECTS = {"first": COSINE, "second": CYCLE, "third": FREE}


def components(steps: int = 0, **options: Any) -> tuple[Components, ComponentOptimizers]:
    model = Components()
    optimizers = build_optimizers(model, configuration(**options))
    train(model, optimizers, range(steps))
    return model, optimizers


def assert_positions(optimizers: ComponentOptimizers, *steps: int) -> None:
    for (name, optimizer), step in zip(optimizers.items(), steps, strict=True):
        assert_rate(SUBJECTS[name], optimizer, step)


def assert_components_go_on_alike(model: Any, optimizers: Any, other: Any, twins: Any) -> None:
    step = optimizers["first"].schedule_step
    assert_positions(twins, step, step, step)
    train(model, optimizers, range(step, TOTAL - 1))
    train(other, twins, range(step, TOTAL - 1))
    assert_positions(twins, *[TOTAL - 1] * 3)
    assert_same(model, other)


def test_components_run_their_step_hooks_once() -> None:
    plain()
    model, optimizers = components()
    calls = []
    for name, optimizer in optimizers.items():
        optimizer.register_step_pre_hook(lambda *_, name=name: calls.append(name))
        optimizer.register_step_post_hook(lambda *_, name=name: calls.append(name))
    train(model, optimizers, range(2))
    assert calls == ["first", "first", "second", "second", "third", "third"] * 2


def test_component_whose_update_is_skipped_stays_behind_alone() -> None:
    model, optimizers = components(fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for batch in range(4):
        optimizers.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        if batch == 1:
            assert model.second.weight.grad is not None
            model.second.weight.grad.fill_(math.inf)
        for optimizer in optimizers.values():
            scaler.step(optimizer)
        scaler.update()
    assert_positions(optimizers, 4, 3, 4)


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize(
    "options",
    [StateDictOptions(), StateDictOptions(flatten_optimizer_state_dict=True), StateDictOptions(full_state_dict=True)],
    ids=["", "flattened", "full"],
)
def test_distributed_state_of_all_components_continues_exactly(options: StateDictOptions, steps: int) -> None:
    model, optimizers = components()
    train(model, optimizers, range(steps))
    other, twins = components()
    other.load_state_dict(model.state_dict())
    state = copy.deepcopy(get_optimizer_state_dict(model, list(optimizers.values()), options=options))
    set_optimizer_state_dict(other, list(twins.values()), state, options=options)
    assert_components_go_on_alike(model, optimizers, other, twins)


def test_compiled_step_of_components_needs_one_compilation_for_each_and_one_for_the_model() -> None:
    model, optimizers = components(capturable=True)
    reference, oracles = components()
    assert 1 <= compilations(model, optimizers, reference, oracles) <= 3
    assert_positions(optimizers, TOTAL, TOTAL, TOTAL)


def test_capturable_in_a_configuration_makes_rates_tensors() -> None:
    _, optimizers = components(capturable=True)
    for name in ("first", "second"):
        group = optimizers[name].param_groups[0]
        assert isinstance(group["lr"], torch.Tensor)
        assert optimizers.learning_rates()[name] == pytest.approx(SUBJECTS[name].rate(0))  # type: ignore[misc]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("steps", [0, 5])
def test_copied_components_go_on_independently(duplicate: Any, steps: int) -> None:
    model, optimizers = components(steps)
    other, twins = duplicate((model, optimizers))
    train(model, optimizers, range(steps, steps + 1))
    assert_positions(twins, steps, steps, steps)
    train(other, twins, range(steps, steps + 1))
    assert_components_go_on_alike(model, optimizers, other, twins)


def test_memory_goes_away_with_the_components_optimizers() -> None:
    gc.collect()
    gc.disable()
    try:
        _model, optimizers = components(3)
        gone = [weakref.ref(optimizer) for optimizer in optimizers.values()]
        del optimizers
        assert [reference() for reference in gone] == [None] * 3
    finally:
        gc.enable()


def test_state_of_components_loads_with_weights_only() -> None:
    model, optimizers = components(5)
    torch.save(optimizers.state_dict(), file := io.BytesIO())
    file.seek(0)
    other, twins = components()
    other.load_state_dict(model.state_dict())
    twins.load_state_dict(torch.load(file, weights_only=True))
    assert_components_go_on_alike(model, optimizers, other, twins)


def test_refused_state_of_one_component_leaves_tensor_rates_as_they_were() -> None:
    model, optimizers = components(5)
    tensors, twins = components(capturable=True)
    state = copy.deepcopy(optimizers.state_dict())
    state["third"]["param_groups"][0].pop("k")
    before = str(twins.state_dict())
    with pytest.raises(StateMismatchError, match=r"'third'.*'k'"):
        twins.load_state_dict(state)
    assert str(twins.state_dict()) == before
    assert_positions(twins, 0, 0, 0)
    assert model is not tensors


def test_scheduler_on_top_of_a_component_is_named() -> None:
    model, optimizers = components()
    optimizers["second"].param_groups[0]["lr"] = 3.0
    with pytest.warns(ScheduleWarning, match="of AdamWWithOneCycle was changed from outside, from 0.002 to 3"):
        train(model, optimizers, range(1))
    assert_positions(optimizers, 1, 1, 1)
