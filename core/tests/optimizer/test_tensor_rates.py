"""A `ScheduledOptimizer` whose rate is a tensor: compiled, on a device, captured in a graph."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from optim_core import (
    CaptureError,
    InvalidArgumentsError,
    ScheduledOptimizer,
    ScheduleWarning,
    StateMismatchError,
    WarmupCosine,
)
from optim_core.optimizer import device_schedule, group_options, scheduled_optimizer

TOTAL = 10


class ScheduledAdamW(ScheduledOptimizer, torch.optim.AdamW):
    pass


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    pass


@dataclasses.dataclass(frozen=True)
class Falling:
    """Falls in a straight line while the first beta rises."""

    peak_lr: float = 0.1
    total_steps: int = TOTAL

    def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
        left = 1 - min(step, self.total_steps) / self.total_steps
        return {"lr": peak_lr * left, "betas": (0.95 - 0.1 * left, None)}


def rate(step: int, peak: float = 0.1) -> float:
    return peak * (1 - min(step, TOTAL) / TOTAL)


def beta(step: int) -> float:
    return 0.95 - 0.1 * (1 - min(step, TOTAL) / TOTAL)


def linear() -> torch.nn.Linear:
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-1, 1, 6).reshape(2, 3))
        model.bias.fill_(0.5)
    return model


def loss_of(model: torch.nn.Module) -> torch.Tensor:
    inputs = torch.linspace(0, 1, 12, device=next(model.parameters()).device).reshape(4, 3)
    return (model(inputs) - inputs[:, :2].cos()).square().mean()


def update(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


def adamw(model: torch.nn.Module, **options: Any) -> ScheduledAdamW:
    options = {"lr": torch.tensor(0.1), "schedule": Falling(), **options}
    return ScheduledAdamW(model.parameters(), **options)


def takes_rates_of_one_element() -> bool:
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    try:
        torch.optim.AdamW([parameter], lr=torch.tensor([0.1])).step()
    except TypeError:
        return False
    return True


needs_rates_of_one_element = pytest.mark.skipif(
    not takes_rates_of_one_element(), reason="this PyTorch's own AdamW takes no rate in a tensor with a dimension"
)


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    torch.compiler.reset()


class TestTensors:
    @pytest.mark.parametrize("shape", [(), pytest.param((1,), marks=needs_rates_of_one_element)])
    def test_every_group_has_one_tensor_of_its_own_filled_in_place(self, shape: tuple[int, ...]) -> None:
        given, model = torch.tensor(0.1), linear()
        groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": torch.full(shape, 0.2)}]
        optimizer = ScheduledAdamW(groups, lr=given, schedule=Falling())
        rates = [group["lr"] for group in optimizer.param_groups]
        others = [(group["betas"][0], group["schedule_step"]) for group in optimizer.param_groups]

        for step in range(TOTAL):
            assert [r.item() for r in rates] == pytest.approx([rate(step), rate(step, 0.2)])
            assert [(b.item(), s.item()) for b, s in others] == [(pytest.approx(beta(step)), step)] * 2
            update(model, optimizer)

        for group, own, (b, s) in zip(optimizer.param_groups, rates, others, strict=True):
            assert (group["lr"] is own, group["betas"][0] is b, group["schedule_step"] is s) == (True, True, True)
            assert group["betas"][1] == 0.999
        assert [tuple(r.shape) for r in rates] == [(), shape]
        assert len({id(r) for r in [given, *rates]}) == 3
        assert given == torch.tensor(0.1)
        assert optimizer.schedule_step == TOTAL

    def test_rates_are_those_of_a_number(self) -> None:
        model, reference = linear(), linear()
        optimizer, oracle = adamw(model), adamw(reference, lr=0.1)

        for _ in range(TOTAL):
            update(model, optimizer)
            update(reference, oracle)

        torch.testing.assert_close(list(model.parameters()), list(reference.parameters()))

    def test_whole_number_in_a_tensor_becomes_a_fractional_rate(self) -> None:
        optimizer = adamw(linear(), lr=torch.tensor(1))
        assert optimizer.param_groups[0]["lr"].dtype == torch.float32
        update(model := linear(), adamw(model, lr=torch.tensor(1)))

    def test_capturable_makes_the_rate_a_tensor_on_the_device_of_the_parameters(self) -> None:
        model = linear()
        optimizer = adamw(model, lr=0.1, capturable=True)
        group = optimizer.param_groups[0]
        assert (group["lr"].device, group["lr"].dtype) == (model.weight.device, torch.float32)
        assert isinstance(group["schedule_step"], torch.Tensor)
        assert group["betas"][0].item() == pytest.approx(beta(0))

    @pytest.mark.parametrize("saved", [torch.tensor(0.1), 0.1], ids=["saved a tensor", "saved a number"])
    @pytest.mark.parametrize("live", [torch.tensor(0.1), 0.1], ids=["into a tensor", "into a number"])
    def test_loading_keeps_the_form_and_the_very_tensors(self, saved: Any, live: Any) -> None:
        model, resumed = linear(), linear()
        optimizer, other = adamw(model, lr=saved), adamw(resumed, lr=live)
        for _ in range(4):
            update(model, optimizer)
        before = dict(other.param_groups[0])
        resumed.load_state_dict(model.state_dict())

        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))

        group = other.param_groups[0]
        assert other.schedule_step == 4
        assert float(group["lr"]) == pytest.approx(rate(4))
        assert float(group["betas"][0]) == pytest.approx(beta(4))
        for name in ("lr", "schedule_step"):
            assert isinstance(group[name], torch.Tensor) == isinstance(live, torch.Tensor)
            assert not isinstance(live, torch.Tensor) or group[name] is before[name]
        assert isinstance(group["betas"], tuple)
        for _ in range(4):
            update(model, optimizer)
            update(resumed, other)
        torch.testing.assert_close(list(resumed.parameters()), list(model.parameters()))

    def test_state_survives_torch_save(self) -> None:
        model, resumed = linear(), linear()
        optimizer, other = adamw(model), adamw(resumed)
        for _ in range(4):
            update(model, optimizer)
        torch.save(optimizer.state_dict(), file := io.BytesIO())
        file.seek(0)

        other.load_state_dict(torch.load(file, weights_only=True))

        assert (other.schedule_step, other.state_dict()["scheduler"]["step"]) == (4, 4)

    def test_copy_goes_on_independently(self) -> None:
        model = linear()
        optimizer = adamw(model)
        update(model, optimizer)
        twin = copy.deepcopy(optimizer)

        update(model, optimizer)

        assert (twin.schedule_step, twin.param_groups[0]["lr"].item()) == (1, pytest.approx(rate(1)))
        assert (optimizer.schedule_step, optimizer.param_groups[0]["lr"].item()) == (2, pytest.approx(rate(2)))

    def test_refused_load_leaves_the_tensors_as_they_were(self) -> None:
        model = linear()
        optimizer = adamw(model)
        for _ in range(3):
            update(model, optimizer)
        state = copy.deepcopy(optimizer.state_dict())
        state["param_groups"][0]["params"] = [0]

        with pytest.raises(StateMismatchError, match="1 parameter group with 1 parameters"):
            optimizer.load_state_dict(state)

        assert (optimizer.schedule_step, optimizer.param_groups[0]["lr"].item()) == (3, pytest.approx(rate(3)))

    def test_rate_that_is_replaced_is_noticed_and_put_back(self) -> None:
        model = linear()
        optimizer = adamw(model)
        own = optimizer.param_groups[0]["lr"]
        optimizer.param_groups[0]["lr"] = 5.0

        with pytest.warns(ScheduleWarning, match="changed from outside, from 0.1 to 5") as caught:
            update(model, optimizer)

        assert caught[0].filename == __file__
        assert optimizer.param_groups[0]["lr"] is own


def compiled_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, counter: CompileCounter
) -> Callable[[], Any]:
    def training_step() -> None:
        update(model, optimizer)

    return torch.compile(training_step, backend=counter)


class TestCompiled:
    def test_group_with_a_number_of_its_own_beside_a_tensor_default_needs_no_more(self) -> None:
        model, counter = linear(), CompileCounter()
        groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.2}]
        optimizer = ScheduledAdamW(groups, lr=torch.tensor(0.1), schedule=Falling())
        assert [group["lr"].item() for group in optimizer.param_groups] == pytest.approx([0.1, 0.2])
        assert [type(group["betas"][0]) for group in optimizer.param_groups] == [torch.Tensor] * 2
        step = compiled_step(model, optimizer, counter)
        step()
        step()  # in which PyTorch 2.6 still comes across code of Python's own
        with torch.compiler.set_stance("fail_on_recompile"):
            for _ in range(TOTAL - 2):
                step()
        assert counter.frame_count <= 2
        assert optimizer.schedule_step == TOTAL

    @pytest.mark.parametrize("schedule", [Falling(), WarmupCosine(peak_lr=0.1, total_steps=TOTAL, warmup_steps=3)])
    @pytest.mark.parametrize("cls", [ScheduledAdamW, ScheduledSGD])
    def test_whole_schedule_in_two_compilations(self, cls: Any, schedule: Any) -> None:
        if cls is ScheduledSGD and isinstance(schedule, Falling):
            schedule = WarmupCosine(peak_lr=0.1, total_steps=TOTAL)
        model, reference, counter = linear(), linear(), CompileCounter()
        optimizer = cls(model.parameters(), lr=torch.tensor(0.1), schedule=schedule)
        oracle = cls(reference.parameters(), lr=torch.tensor(0.1), schedule=schedule)
        step = compiled_step(model, optimizer, counter)

        step()
        step()  # in which PyTorch 2.6 still comes across code of Python's own
        with torch.compiler.set_stance("fail_on_recompile"):
            for _ in range(TOTAL - 2):
                step()
        for _ in range(TOTAL):
            update(reference, oracle)

        assert 1 <= counter.frame_count <= 2
        assert optimizer.schedule_step == TOTAL
        assert optimizer.param_groups[0]["lr"].item() == pytest.approx(schedule.options_at(TOTAL, 0.1)["lr"])
        torch.testing.assert_close(list(model.parameters()), list(reference.parameters()))

    def test_capturable_from_the_start(self) -> None:
        model, reference, counter = linear(), linear(), CompileCounter()
        optimizer, oracle = adamw(model, lr=0.1, capturable=True), adamw(reference)
        step = compiled_step(model, optimizer, counter)

        for _ in range(TOTAL):
            step()
            update(reference, oracle)

        assert 1 <= counter.frame_count <= 2
        torch.testing.assert_close(list(model.parameters()), list(reference.parameters()))

    def test_compiling_the_method_itself_or_resuming_needs_no_more(self) -> None:
        model, reference, counter = linear(), linear(), CompileCounter()
        optimizer, oracle = adamw(model), adamw(reference)
        update(model, optimizer)
        update(reference, oracle)
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        step = torch.compile(optimizer.step, backend=counter)

        for _ in range(TOTAL - 1):
            optimizer.zero_grad()
            loss_of(model).backward()
            step()
            update(reference, oracle)

        assert counter.frame_count == 1
        torch.testing.assert_close(list(model.parameters()), list(reference.parameters()))

    def test_step_hooks_run_once(self) -> None:
        model, calls = linear(), []
        optimizer = adamw(model)
        optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
        optimizer.register_step_post_hook(lambda *_: calls.append("after"))
        step = compiled_step(model, optimizer, CompileCounter())

        for _ in range(3):
            step()

        assert calls == ["before", "after"] * 3

    def test_end_and_overwritten_rate_are_still_noticed(self) -> None:
        model = linear()
        optimizer = adamw(model)
        step = compiled_step(model, optimizer, CompileCounter())
        for _ in range(TOTAL):
            step()
        optimizer.param_groups[0]["lr"].fill_(3.0)
        with pytest.warns(ScheduleWarning) as caught:
            step()
        assert [str(warning.message).split(" ", 3)[:3] for warning in caught] == [
            ["the", "learning", "rate"],
            ["ScheduledAdamW", "is", "past"],
        ]


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


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("live", [True, False])
def test_capturable_stays_what_this_program_runs_with(saved: bool, live: bool) -> None:
    optimizer, other = adamw(linear(), capturable=live, lr=0.1), adamw(linear(), capturable=saved, lr=0.1)
    optimizer.load_state_dict(other.state_dict())
    group = optimizer.param_groups[0]
    assert (group["capturable"], isinstance(group["lr"], torch.Tensor)) == (live, live)
    assert other.state_dict()["param_groups"][0]["capturable"] is saved


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, on_top: Any) -> None:
    for _ in range(30):
        update(model, optimizer)
        on_top.step()


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9999),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 1000),
    ],
)
def test_scheduler_that_changes_a_tensor_rate_by_little_is_noticed(scheduler: Any) -> None:
    model = linear()
    schedule = WarmupCosine(peak_lr=0.1, total_steps=1000)
    optimizer = ScheduledAdamW(model.parameters(), lr=torch.tensor(0.1), schedule=schedule)
    on_top = scheduler(optimizer)
    update(model, optimizer)
    on_top.step()
    on_top.step()
    with pytest.warns(ScheduleWarning, match="changed from outside"):
        train(model, optimizer, on_top)


def test_rate_put_back_as_a_number_is_no_change() -> None:
    model = linear()
    optimizer = adamw(model)
    update(model, optimizer)
    own = optimizer.param_groups[0]["lr"]
    optimizer.param_groups[0]["lr"] = own.item()
    update(model, optimizer)
    assert optimizer.param_groups[0]["lr"] is own


def test_tensors_of_the_caller_in_other_driven_options_are_copied() -> None:
    model, beta1 = linear(), torch.tensor(0.9)
    groups = [{"params": [model.weight]}, {"params": [model.bias]}]
    optimizer = ScheduledAdamW(
        groups, lr=torch.tensor(0.1), betas=(beta1, torch.tensor(0.999)), schedule=Falling(), foreach=False
    )
    assert beta1 == torch.tensor(0.9)
    assert len({id(beta1), *(id(group["betas"][0]) for group in optimizer.param_groups)}) == 3


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


def test_default_is_no_longer_the_tensor_of_the_caller() -> None:
    given, model = torch.tensor(0.1), linear()
    optimizer = ScheduledAdamW([model.weight], lr=given, schedule=Falling())
    given.fill_(7.0)
    optimizer.add_param_group({"params": [model.bias]})
    assert optimizer.param_groups[1]["peak_lr"] == pytest.approx(0.1)
