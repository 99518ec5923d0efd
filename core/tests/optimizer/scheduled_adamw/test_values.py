"""Values of `ScheduledAdamW`, bit for bit those of PyTorch's own AdamW: options, strides, hooks and compiled steps."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from core_support.adamw_training import (
    FUSED,
    LOOP,
    OPTIONS,
    PEAK,
    TOTAL,
    FallingWithBetas,
    Gradients,
    assert_same,
    comes_and_goes,
    complex_parameter,
    everywhere,
    follow,
    give_gradients,
    loss_of,
    ours,
    pair,
    parameters,
    params_of,
    rate,
    set_rates,
    values,
    ways,
)


class TestValues:
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("gradients", [everywhere, comes_and_goes], ids=["", "gradients come and go"])
    def test_are_those_of_pytorch_with_rates_set_by_hand(self, options: dict[str, Any], gradients: Gradients) -> None:
        optimizer = ours(parameters(), **options)
        # PyTorch's own has a constant in place of a captured rate.
        given = {"lr": torch.tensor(PEAK), **options} if options.get("capturable") else options
        oracle = torch.optim.AdamW(parameters(), fused=True, **given)

        follow(optimizer, oracle, range(12), gradients)

        assert ways(optimizer) == [FUSED]
        assert optimizer.schedule_step == 12

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_are_those_of_pytorch_in_every_precision(self, dtype: torch.dtype) -> None:
        follow(ours(parameters(dtype)), torch.optim.AdamW(parameters(dtype), fused=True), range(8))

    def test_of_several_groups_have_the_options_of_each(self) -> None:
        own: list[dict[str, Any]] = [
            {"params": [p], **options} for p, options in zip(parameters(count=7), OPTIONS, strict=False)
        ]
        others = [{**group, "params": [Parameter(group["params"][0].detach().clone())]} for group in own]
        own[1]["lr"], others[1]["peak"] = 0.5, 0.5
        optimizer, oracle = ours(own), torch.optim.AdamW(others, fused=True)

        follow(optimizer, oracle, range(12), lambda step, index: (step + index) % 4 != 0)

        assert ways(optimizer) == [FUSED] * 7

    @pytest.mark.parametrize(
        ("way", "expected"), [({"foreach": True}, (None, True)), ({"foreach": False, "fused": False}, LOOP)], ids=str
    )
    def test_of_other_implementations_are_those_of_pytorch(
        self, way: dict[str, Any], expected: tuple[Any, Any]
    ) -> None:
        optimizer = ours([*parameters(), complex_parameter()], **way)
        oracle = torch.optim.AdamW([*parameters(), complex_parameter()], **way)

        follow(optimizer, oracle, range(8), comes_and_goes)

        assert ways(optimizer) == [expected]

    @pytest.mark.parametrize(
        ("odd", "options", "way"),
        [
            (complex_parameter, {}, {"foreach": True}),
            (lambda: Parameter(torch.ones(2)), {"lr": torch.tensor(PEAK), "schedule": FallingWithBetas()}, {}),
        ],
        ids=["foreach", "loop"],
    )
    def test_of_what_was_chosen_besides_fused_are_those_of_pytorch(
        self, odd: Callable[[], Parameter], options: dict[str, Any], way: dict[str, Any]
    ) -> None:
        optimizer = ours([*parameters(), odd()], **options)
        oracle = torch.optim.AdamW([*parameters(), odd()], **{"lr": options.get("lr", PEAK), "foreach": False, **way})

        for step in range(6):
            if "schedule" in options:
                oracle.param_groups[0]["betas"] = (torch.tensor(0.5 + step / 4 / TOTAL), 0.999)
            follow(optimizer, oracle, [step], comes_and_goes)

    def test_step_without_any_gradient_changes_none_and_counts(self) -> None:
        optimizer, oracle = pair()
        follow(optimizer, oracle, range(3), lambda step, index: False)
        assert len(optimizer.state) == 0
        follow(optimizer, oracle, range(3, 6))
        follow(optimizer, oracle, range(6, 8), lambda step, index: False)

        assert (optimizer.schedule_step, optimizer.param_groups[0]["lr"]) == (8, rate(8))

    def test_closure_is_called_once_a_step_with_gradients_enabled(self) -> None:
        optimizer, oracle = pair()
        seen: list[tuple[float, bool]] = []

        def closure_over(each: torch.optim.Optimizer) -> Callable[[], float]:
            def closure() -> float:
                each.zero_grad()
                loss = loss_of(each, len(seen))
                loss.backward()  # type: ignore[no-untyped-call]
                if each is optimizer:
                    seen.append((each.param_groups[0]["lr"], torch.is_grad_enabled()))
                return loss.item()

            return closure

        for step in range(4):
            set_rates(oracle, step)
            expected = oracle.step(closure_over(oracle))
            with torch.set_grad_enabled(step % 2 == 0):
                assert optimizer.step(closure_over(optimizer)) == expected
                assert torch.is_grad_enabled() == (step % 2 == 0)
            assert seen[step:] == [(rate(step), True)]
            assert_same(optimizer, oracle)

    def test_closure_of_a_step_that_is_left_to_pytorch_is_called_once(self) -> None:
        optimizer, oracle = pair()
        follow(optimizer, oracle, range(2), lambda step, index: index == 0)
        calls = []

        def closure() -> float:
            calls.append(torch.is_grad_enabled())
            # The first gradients of two parameters.
            give_gradients(optimizer, 2)
            return 7.5

        with torch.no_grad():
            assert optimizer.step(closure) == 7.5

        assert calls == [True]
        set_rates(oracle, 2)
        give_gradients(oracle, 2)
        oracle.step()
        assert_same(optimizer, oracle)

    def test_gradient_of_a_step_is_left_as_it_was_and_records_nothing(self) -> None:
        optimizer, _ = pair()
        for step in range(3):
            give_gradients(optimizer, step)
            before = [copy.deepcopy(p.grad) for p in params_of(optimizer)]
            optimizer.step()

            assert all(torch.equal(p.grad, old) for p, old in zip(params_of(optimizer), before, strict=True))  # type: ignore[arg-type]
            assert all(p.grad_fn is None for p in params_of(optimizer))


def strided_parameter() -> tuple[Parameter, torch.Tensor]:
    """A parameter that is part of a wider tensor; that tensor."""
    wide = values(4, 6, seed=0)
    return Parameter(wide[:, :3]), wide


class TestMemoryFormats:
    """PyTorch's fused kernels for main memory go over it in a line, whatever the tensors' strides are."""

    def test_parameter_that_is_part_of_a_wider_tensor_is_updated_alone(self) -> None:
        parameter, wide = strided_parameter()
        other, other_wide = strided_parameter()
        optimizer, oracle = ours([parameter]), torch.optim.AdamW([other], foreach=False)

        for step in range(3):
            set_rates(oracle, step)
            for each in (optimizer, oracle):
                give_gradients(each, step)
                each.step()

        torch.testing.assert_close(wide, other_wide)

    @pytest.mark.parametrize("first_at", [0, 2])
    def test_gradient_of_other_strides_belongs_to_the_same_elements(self, first_at: int) -> None:
        optimizer, oracle = pair()[0], torch.optim.AdamW(parameters(), foreach=False)

        for step in range(4):
            set_rates(oracle, step)
            for each in (optimizer, oracle):
                give_gradients(each, step)
                if step >= first_at:
                    params_of(each)[0].grad = values(5, 3, seed=step).t()
                each.step()

        torch.testing.assert_close(params_of(optimizer), params_of(oracle))

    def test_model_may_change_its_memory_format_during_training(self) -> None:
        def convolution() -> torch.nn.Conv2d:
            model = torch.nn.Conv2d(3, 4, 2)
            with torch.no_grad():
                model.weight.copy_(values(4, 3, 2, 2, seed=0))
                model.bias.fill_(0.5)  # type: ignore[union-attr]
            return model

        model, reference = convolution(), convolution()
        optimizer = ours(model.parameters())
        oracle = torch.optim.AdamW(reference.parameters(), foreach=False)

        for step in range(6):
            if step == 3:
                for each in (model, reference):
                    each.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            set_rates(oracle, step)
            for module, its in ((model, optimizer), (reference, oracle)):
                its.zero_grad()
                module(values(2, 3, 5, 5, seed=step)).square().mean().backward()
                its.step()

        torch.testing.assert_close(params_of(optimizer), params_of(oracle))


HOOKS = """
import sys
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from optim_core import ScheduledAdamW, WarmupCosine

def plain():
    return torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])

if sys.argv[1] == "plain first":
    plain()
parameter = torch.nn.Parameter(torch.ones(1))
optimizer = ScheduledAdamW([parameter], schedule=WarmupCosine(peak_lr=1, total_steps=9))
if sys.argv[1] == "plain last":
    plain()
calls = []
register_optimizer_step_pre_hook(lambda *_: calls.append("global pre"))
register_optimizer_step_post_hook(lambda *_: calls.append("global post"))
optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
optimizer.register_step_post_hook(lambda *_: calls.append("post"))
def closure():
    calls.append("closure")
    return 1.0
for argument in (None, None, closure):
    parameter.grad = torch.ones(1)
    optimizer.step(argument)
    print(*calls, sep=",")
    calls.clear()
"""


@pytest.mark.parametrize("order", ["plain first", "plain last", "no plain"])
def test_step_hooks_run_once_whatever_was_made_before(order: str) -> None:
    # In a process of its own: making a plain AdamW anywhere changes the class for good.
    result = subprocess.run([sys.executable, "-c", HOOKS, order], capture_output=True, text=True, check=True)

    lines = [sorted(line.split(",")) for line in result.stdout.splitlines()]
    once = ["global post", "global pre", "post", "pre"]
    assert lines == [once, once, ["closure", *once]]


class TestCompiled:
    @pytest.fixture(autouse=True)
    def nothing_compiled(self) -> None:
        torch.compiler.reset()

    @staticmethod
    def training_step(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        def step() -> None:
            optimizer.zero_grad()
            loss_of(optimizer, 0).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step

    @pytest.mark.parametrize("lr", [PEAK, torch.tensor(PEAK)], ids=["float", "tensor"])
    @pytest.mark.parametrize("uncompiled_before", [0, 2])
    def test_step_has_the_values_of_one_that_is_not(self, lr: Any, uncompiled_before: int) -> None:
        optimizer, reference = ours(parameters(), lr=lr), ours(parameters(), lr=lr)
        for _ in range(uncompiled_before):
            self.training_step(optimizer)()
            self.training_step(reference)()
        compiled = torch.compile(self.training_step(optimizer), backend="eager")

        for _ in range(4):
            compiled()
            self.training_step(reference)()
            assert_same(optimizer, reference)

        assert ways(optimizer) == [FUSED]
        assert optimizer.schedule_step == uncompiled_before + 4
        assert float(optimizer.param_groups[0]["lr"]) == rate(uncompiled_before + 4)

    def test_step_with_the_rate_in_a_tensor_is_compiled_no_more_after_the_first(self) -> None:
        optimizer = ours(parameters(), lr=torch.tensor(PEAK))
        compiled = torch.compile(self.training_step(optimizer), backend="eager")
        compiled()
        compiled()  # in which PyTorch 2.6 still comes across code of Python's own

        with torch.compiler.set_stance("fail_on_recompile"):
            for _ in range(5):
                compiled()

        assert optimizer.schedule_step == 7

    def test_steps_with_and_without_compilation_may_alternate(self) -> None:
        optimizer, reference = (ours(parameters(), lr=torch.tensor(PEAK)) for _ in range(2))
        compiled = torch.compile(self.training_step(optimizer), backend="eager")

        for step in range(6):
            (compiled if step % 2 else self.training_step(optimizer))()
            self.training_step(reference)()
            assert_same(optimizer, reference)
