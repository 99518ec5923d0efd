"""A `ScheduledOptimizer` under mixed precision and the distributed checkpoint."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter, load, save
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from core_support.scheduled_optimizers import ScheduledAdamW, ScheduledSGD
from core_support.tensor_rates import linear
from optim_core import ScheduledOptimizer, WarmupCosine


def shape(start_lr: float = 0.0) -> WarmupCosine:
    return WarmupCosine(peak_lr=0.1, total_steps=10, warmup_steps=3, start_lr=start_lr, end_lr=0.02)


def formula(step: int, start: float = 0.0) -> float:
    """The rate of `shape()`, written out."""
    if step < 3:
        return start + (0.1 - start) * step / 3
    return 0.02 + (0.1 - 0.02) * (1 + math.cos(math.pi * (min(step, 9) - 3) / 6)) / 2


def loss_of(model: torch.nn.Module, batch: int) -> torch.Tensor:
    inputs = torch.linspace(batch, batch + 1, 12).reshape(4, 3)
    return (model(inputs) - inputs[:, :2].cos()).square().mean()


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: range) -> None:
    for batch in batches:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()


@pytest.mark.parametrize("unscale", [False, True], ids=["", "unscale_"])
@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_update_that_a_gradient_scaler_skips_does_not_count(options: dict[str, Any], unscale: bool) -> None:
    model, reference = linear(), linear()
    optimizer = ScheduledAdamW(model.parameters(), schedule=shape(), **options)
    oracle = torch.optim.AdamW(reference.parameters(), **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    updates = 0

    for batch in range(8):
        overflow = batch in (0, 2, 3, 7)
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch) * (math.inf if overflow else 1)).backward()
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        if not overflow:
            oracle.param_groups[0]["lr"] = formula(updates)
            train(reference, oracle, range(batch, batch + 1))
            updates += 1

        assert optimizer.schedule_step == updates
        assert optimizer.param_groups[0]["lr"] == pytest.approx(formula(updates))
    assert updates == 4
    torch.testing.assert_close(list(model.parameters()), list(reference.parameters()))
    assert not hasattr(optimizer, "found_inf")


def test_gradient_scaler_sets_found_inf_on_a_fused_optimizer() -> None:
    # PyTorch has no public name for it; skipped updates are noticed by it alone.
    model = linear()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler("cpu")
    seen: list[float] = []
    optimizer.register_step_pre_hook(lambda o, *_: seen.append(float(o.found_inf)))  # type: ignore[attr-defined]

    for factor in (1, math.inf):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, 0) * factor).backward()
        scaler.step(optimizer)
        scaler.update()

    assert seen == [0.0, 1.0]


@pytest.mark.parametrize("start_lr", [0.0, 0.01])
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
@pytest.mark.parametrize("fused", [False, True])
def test_reading_the_state_of_a_fresh_optimizer_advances_nothing(start_lr: float, lr: Any, fused: bool) -> None:
    model = linear()
    optimizer = ScheduledAdamW(model.parameters(), lr=lr, schedule=shape(start_lr), fused=fused)

    state = get_optimizer_state_dict(model, optimizer)

    assert {name: float(s["step"]) for name, s in state["state"].items()} == {"weight": 0.0, "bias": 0.0}  # type: ignore[index, union-attr]
    assert [group["schedule_step"] for group in state["param_groups"]] == [0]  # type: ignore[union-attr]
    assert optimizer.schedule_step == 0
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(formula(0, start_lr))
    torch.testing.assert_close(list(model.parameters()), list(linear().parameters()), rtol=0, atol=0)


@pytest.mark.parametrize("start_lr", [0.0, 0.01])
def test_training_after_that_reading_is_as_without_it(start_lr: float) -> None:
    model, reference = linear(), linear()
    optimizer = ScheduledAdamW(model.parameters(), schedule=shape(start_lr))
    untouched = ScheduledAdamW(reference.parameters(), schedule=shape(start_lr))

    get_optimizer_state_dict(model, optimizer)
    train(model, optimizer, range(5))
    train(reference, untouched, range(5))

    assert optimizer.schedule_step == 5
    torch.testing.assert_close(list(model.parameters()), list(reference.parameters()), rtol=0, atol=0)


def test_reading_an_optimizer_without_state_advances_nothing_at_any_position() -> None:
    model = linear()
    optimizer = ScheduledSGD(model.parameters(), schedule=shape())
    train(model, optimizer, range(4))
    optimizer.zero_grad()

    get_optimizer_state_dict(model, optimizer)

    assert (optimizer.schedule_step, optimizer.param_groups[0]["lr"]) == (4, pytest.approx(formula(4)))


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
@pytest.mark.parametrize("flatten", [False, True])
def test_distributed_state_continues_exactly_in_a_fresh_optimizer(lr: Any, flatten: bool) -> None:
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    model = linear()
    optimizer = ScheduledAdamW(model.parameters(), lr=lr, schedule=shape())
    train(model, optimizer, range(4))
    resumed_model = linear()
    resumed_model.load_state_dict(model.state_dict())
    resumed = ScheduledAdamW(resumed_model.parameters(), lr=lr, schedule=shape())

    # A copy: PyTorch's own load shares the tensors of the state with the optimizer.
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    set_optimizer_state_dict(resumed_model, resumed, state, options=options)

    assert resumed.schedule_step == 4
    assert float(resumed.param_groups[0]["lr"]) == pytest.approx(formula(4))
    train(model, optimizer, range(4, 9))
    train(resumed_model, resumed, range(4, 9))
    torch.testing.assert_close(list(resumed_model.parameters()), list(model.parameters()), rtol=0, atol=0)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_distributed_checkpoint_on_disk_continues_exactly(tmp_path: Path) -> None:
    model = linear()
    optimizer = ScheduledAdamW(model.parameters(), schedule=shape())
    train(model, optimizer, range(4))
    state: dict[str, Any] = {"optimizer": get_optimizer_state_dict(model, optimizer)}
    save(state, storage_writer=FileSystemWriter(tmp_path / "checkpoint"))
    resumed_model = linear()
    resumed_model.load_state_dict(model.state_dict())
    resumed = ScheduledAdamW(resumed_model.parameters(), schedule=shape())

    target: dict[str, Any] = {"optimizer": get_optimizer_state_dict(resumed_model, resumed)}
    load(target, storage_reader=FileSystemReader(tmp_path / "checkpoint"))
    set_optimizer_state_dict(resumed_model, resumed, target["optimizer"])

    train(model, optimizer, range(4, 9))
    train(resumed_model, resumed, range(4, 9))
    assert resumed.schedule_step == 9
    torch.testing.assert_close(list(resumed_model.parameters()), list(model.parameters()), rtol=0, atol=0)


# Those whose step at a rate of zero leaves a mark on what they keep.
@pytest.mark.parametrize("base", [torch.optim.NAdam, torch.optim.ASGD, torch.optim.Rprop, torch.optim.Adagrad])
def test_reading_a_fresh_optimizer_of_any_kind_changes_nothing(base: Any) -> None:
    kind = type("Scheduled", (ScheduledOptimizer, base), {})
    model, reference = linear(), linear()
    optimizer = kind(model.parameters(), schedule=shape(start_lr=0.01))
    untouched = kind(reference.parameters(), schedule=shape(start_lr=0.01))
    groups = str(optimizer.param_groups)

    get_optimizer_state_dict(model, optimizer)
    assert str(optimizer.param_groups) == groups
    train(model, optimizer, range(5))
    train(reference, untouched, range(5))

    torch.testing.assert_close(list(model.parameters()), list(reference.parameters()), rtol=0, atol=0)


@pytest.mark.parametrize("start_lr", [0.0, 0.01])
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
def test_reading_an_optimizer_whose_parameters_are_all_frozen_advances_nothing(start_lr: float, lr: Any) -> None:
    model = linear()
    optimizer = ScheduledAdamW(model.parameters(), lr=lr, schedule=shape(start_lr))
    model.requires_grad_(False)
    for _ in range(3):
        get_optimizer_state_dict(model, optimizer)
    assert optimizer.schedule_step == 0
    # But a step of the training counts, also of frozen parameters: components stay on one clock.
    optimizer.step()
    assert optimizer.schedule_step == 1
    get_optimizer_state_dict(model, optimizer)
    assert optimizer.schedule_step == 1
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(formula(1, start_lr))
