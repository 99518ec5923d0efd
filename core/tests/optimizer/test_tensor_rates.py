"""A `ScheduledOptimizer` whose rate is a tensor: each group has its own, filled in place, over loads and copies."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch

from core_support.scheduled_optimizers import ScheduledAdamW
from core_support.tensor_rates import TOTAL, Falling, adamw, beta, linear, loss_of, rate, update
from optim_core import ScheduleWarning, StateMismatchError, WarmupCosine


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
        loss_of(model).backward()

        with pytest.warns(ScheduleWarning, match="changed from outside, from 0.1 to 5") as caught:
            optimizer.step()

        assert caught[0].filename == __file__
        assert optimizer.param_groups[0]["lr"] is own


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


def test_default_is_no_longer_the_tensor_of_the_caller() -> None:
    given, model = torch.tensor(0.1), linear()
    optimizer = ScheduledAdamW([model.weight], lr=given, schedule=Falling())
    given.fill_(7.0)
    optimizer.add_param_group({"params": [model.bias]})
    assert optimizer.param_groups[1]["peak_lr"] == pytest.approx(0.1)
