"""Steps under torch.compile: the whole schedule without another compilation, with hooks and warnings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from core_support.scheduled_optimizers import ScheduledAdamW, ScheduledSGD
from core_support.tensor_rates import TOTAL, Falling, adamw, linear, loss_of, update
from optim_core import ScheduleWarning, WarmupCosine


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    torch.compiler.reset()


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
