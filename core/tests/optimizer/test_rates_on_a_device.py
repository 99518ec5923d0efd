"""Rates on a device: computed there, captured in a graph, and nothing read back."""

from __future__ import annotations

import copy
import importlib
import io
import math
from typing import Any

import pytest
import torch

from core_support.scheduled_optimizers import ScheduledAdamW, ScheduledSGD
from core_support.tensor_rates import TOTAL, Falling, adamw, beta, linear, loss_of, rate, update
from optim_core import CaptureError, InvalidArgumentsError, ScheduleWarning, WarmupCosine
from optim_core.optimizer import device_schedule, group_options, scheduled_optimizer


@pytest.fixture
def pretended_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has tensors of main memory taken for tensors on a device, so that the same code runs."""

    def is_tensor(value: object) -> bool:
        return isinstance(value, torch.Tensor)

    monkeypatch.setattr(group_options, "on_device", is_tensor)
    monkeypatch.setattr(scheduled_optimizer, "on_device", is_tensor)


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> Any:
        raise AssertionError("a value was read back")

    for name in ("item", "__float__", "__int__", "__bool__", "__index__", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, read)


@pytest.mark.usefixtures("pretended_device")
class TestDevice:
    def test_values_are_those_of_main_memory(self) -> None:
        model, reference = linear(), linear()
        optimizer = adamw(model)
        seen = []

        for _ in range(TOTAL):
            group = optimizer.param_groups[0]
            seen.append((group["schedule_step"].item(), group["lr"].item(), group["betas"][0].item()))
            update(model, optimizer)

        assert seen == [(s, pytest.approx(rate(s)), pytest.approx(beta(s))) for s in range(TOTAL)]
        oracle = torch.optim.AdamW(reference.parameters(), lr=0.1)
        for step in range(TOTAL):
            oracle.param_groups[0].update(lr=rate(step), betas=(beta(step), 0.999))
            update(reference, oracle)
        torch.testing.assert_close(list(model.parameters()), list(reference.parameters()))

    def test_step_reads_nothing_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = linear()
        # A base class that reads nothing itself.
        optimizer = ScheduledSGD(
            model.parameters(), lr=torch.tensor(0.1), schedule=WarmupCosine(peak_lr=0.1, total_steps=TOTAL)
        )
        update(model, optimizer)
        monkeypatch.setattr(torch.optim.SGD, "_init_group", lambda *_: False)
        monkeypatch.setattr(importlib.import_module("torch.optim.sgd"), "sgd", lambda *_, **__: None)
        with monkeypatch.context() as patch:
            forbid_reading(patch)
            optimizer.step()
        assert optimizer.schedule_step == 2

    def test_last_value_holds_past_the_end_with_one_warning(self) -> None:
        model = linear()
        optimizer = adamw(model)
        for _ in range(TOTAL):
            update(model, optimizer)
        with pytest.warns(ScheduleWarning, match="past the end"):
            update(model, optimizer)
        for _ in range(2):
            update(model, optimizer)
        assert optimizer.param_groups[0]["lr"].item() == pytest.approx(rate(TOTAL))
        assert optimizer.schedule_step == TOTAL + 3

    @pytest.mark.parametrize("found_inf", [0.0, 1.0, 2.0])
    def test_update_that_a_scaler_skips_does_not_count(self, found_inf: float) -> None:
        optimizer = adamw(linear(), fused=True)
        optimizer.found_inf = torch.tensor([found_inf])  # type: ignore[attr-defined]
        optimizer.step()
        assert optimizer.schedule_step == (1 if found_inf == 0 else 0)

    def test_changed_peak_and_loaded_schedule_are_followed(self) -> None:
        model = linear()
        optimizer = adamw(model)
        update(model, optimizer)
        optimizer.param_groups[0]["peak_lr"] = 0.3
        update(model, optimizer)
        assert optimizer.param_groups[0]["lr"].item() == pytest.approx(rate(2, 0.3))

        other = adamw(linear(), schedule=Falling(total_steps=20))
        with pytest.warns(ScheduleWarning, match="differs"):
            other.load_state_dict(optimizer.state_dict(), on_mismatch="checkpoint")
        assert other.param_groups[0]["lr"].item() == pytest.approx(rate(2, 0.3))

    def test_group_added_late_joins(self) -> None:
        model = linear()
        optimizer = ScheduledAdamW([model.weight], lr=torch.tensor(0.1), schedule=Falling())
        for _ in range(3):
            update(model, optimizer)
        optimizer.add_param_group({"params": [model.bias], "lr": 0.2, "capturable": True})
        assert [g["lr"].item() for g in optimizer.param_groups] == pytest.approx([rate(3), rate(3, 0.2)])

    def test_first_step_in_a_capture_is_refused_with_the_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = linear()
        optimizer = ScheduledAdamW(model.parameters(), lr=torch.tensor(0.1), schedule=Falling())
        loss_of(model).backward()
        optimizer.step()
        optimizer.param_groups[0]["peak_lr"] = 0.3
        monkeypatch.setattr(device_schedule, "is_capturing", lambda _: True)
        before = model.weight.detach().clone()
        with pytest.raises(CaptureError, match="a few steps before the capture"):
            optimizer.step()
        assert torch.equal(model.weight, before)
        assert optimizer.schedule_step == 1

    def test_fused_step_with_moving_betas_can_not_be_captured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = linear()
        optimizer = adamw(model, fused=True)
        update(model, optimizer)
        monkeypatch.setattr(device_schedule, "is_capturing", lambda _: True)
        with pytest.raises(CaptureError, match="fused=False"):
            optimizer.step()


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
def test_captured_step_replays_with_the_rate_of_each_step(options: dict[str, Any]) -> None:
    model, reference = linear().cuda(), linear().cuda()
    schedule: Any = WarmupCosine(peak_lr=0.1, total_steps=20, warmup_steps=5) if options.get("fused") else Falling()
    optimizer = ScheduledAdamW(model.parameters(), schedule=schedule, capturable=True, **options)
    oracle = torch.optim.AdamW(reference.parameters(), lr=0.1, **options)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            update(model, optimizer)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        loss_of(model).backward()
        optimizer.step()
    for step in range(3, 9):
        assert optimizer.schedule_step == step
        assert optimizer.param_groups[0]["lr"].item() == pytest.approx(schedule.options_at(step, 0.1)["lr"])
        graph.replay()
    for step in range(9):
        values = schedule.options_at(step, 0.1)
        oracle.param_groups[0].update(lr=values["lr"], betas=(values.get("betas", (0.9,))[0], 0.999))
        update(reference, oracle)
    torch.testing.assert_close(list(model.parameters()), list(reference.parameters()))
    assert math.isfinite(loss_of(model).item())


@pytest.mark.gpu
@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize(("saved_on", "loaded_on"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
def test_state_saved_on_one_device_loads_on_another(saved_on: str, loaded_on: str, capturable: bool) -> None:
    model, other = linear().to(saved_on), linear().to(loaded_on)
    optimizer = adamw(model, lr=0.1, capturable=capturable and saved_on == "cuda")
    twin = adamw(other, lr=0.1, capturable=capturable and loaded_on == "cuda")
    for _ in range(4):
        update(model, optimizer)
    torch.save((model.state_dict(), optimizer.state_dict()), file := io.BytesIO())
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)

    other.load_state_dict(weights)
    twin.load_state_dict(state)

    assert twin.schedule_step == 4
    assert {s["exp_avg"].device.type for s in twin.state.values()} == {loaded_on}
    for _ in range(4):
        update(model, optimizer)
        update(other, twin)
    torch.testing.assert_close([p.cpu() for p in other.parameters()], [p.cpu() for p in model.parameters()])


@pytest.mark.usefixtures("pretended_device")
def test_endless_horizon_on_a_device_is_refused_at_once() -> None:
    with pytest.raises(InvalidArgumentsError, match="total_steps = 1000000000: must be at most"):
        adamw(linear(), schedule=WarmupCosine(peak_lr=0.1, total_steps=10**9))


@pytest.mark.usefixtures("pretended_device")
@pytest.mark.filterwarnings("ignore:.*differs:optim_core.ScheduleWarning")
def test_values_that_a_graph_reads_stay_where_nothing_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear()
    optimizer = adamw(model)
    update(model, optimizer)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()), on_mismatch="checkpoint")
    update(model, optimizer)
    monkeypatch.setattr(device_schedule, "is_capturing", lambda _: True)
    optimizer.step()
