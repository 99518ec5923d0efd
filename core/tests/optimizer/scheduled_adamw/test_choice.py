"""Which implementation `ScheduledAdamW` takes for its groups, and what that means for a gradient scaler."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from core_support.adamw_training import (
    FOREACH,
    FUSED,
    LOOP,
    PEAK,
    TOTAL,
    FallingWithBetas,
    complex_parameter,
    follow,
    give_gradients,
    loss_of,
    ours,
    pair,
    parameters,
    params_of,
    rate,
    scaled_in_kernels,
    scaled_step,
    set_rates,
    through_pickle,
    values,
    ways,
)
from optim_core import ScheduledAdamW


def as_it_is(optimizer: ScheduledAdamW) -> ScheduledAdamW:
    return optimizer


COPIES = pytest.mark.parametrize("copied", [as_it_is, copy.copy, copy.deepcopy, through_pickle])
DEEP_COPIES = pytest.mark.parametrize("copied", [as_it_is, copy.deepcopy, through_pickle])


class Tagged(torch.Tensor):
    """A subclass, as quantized and traced tensors are."""


def uninitialized() -> Parameter:
    weight: Parameter = torch.nn.LazyLinear(2).weight  # type: ignore[assignment]
    return weight


class TestChoice:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
    def test_every_group_is_fused_for_real_parameters_in_main_memory(self, dtype: torch.dtype) -> None:
        first, second = parameters(dtype, 2)
        optimizer = ours([{"params": [first]}, {"params": [second], "weight_decay": 0.0}])

        assert ways(optimizer) == [FUSED] * 2
        give_gradients(optimizer, 0)
        optimizer.step()
        assert not torch.equal(first, parameters(dtype)[0])

    def test_mixed_precisions_are_fused(self) -> None:
        optimizer = ours([*parameters(torch.float32, 2), *parameters(torch.bfloat16, 2)])
        oracle = torch.optim.AdamW([*parameters(torch.float32, 2), *parameters(torch.bfloat16, 2)], fused=True)

        assert ways(optimizer) == [FUSED]
        follow(optimizer, oracle, range(4))

    @pytest.mark.parametrize(
        ("odd", "expected"),
        [
            (complex_parameter, FOREACH),
            (lambda: Parameter(torch.ones(2).to(torch.float8_e4m3fn)), FOREACH),
            (lambda: Parameter(torch.ones(2).as_subclass(Tagged)), LOOP),
        ],
        ids=["complex", "float8", "subclass"],
    )
    @pytest.mark.parametrize("position", [0, 1])
    def test_no_group_is_fused_where_one_parameter_cannot_be(
        self, odd: Callable[[], Parameter], expected: tuple[bool, bool], position: int
    ) -> None:
        groups = [parameters(), [*parameters(count=1)]]
        groups[position].append(odd())

        optimizer = ours([{"params": group} for group in groups])

        assert ways(optimizer)[position] == expected
        assert ways(optimizer)[1 - position] == FOREACH

    def test_nothing_is_chosen_before_lazy_parameters_are_made(self) -> None:
        module = torch.nn.LazyLinear(3)
        optimizer = ours(module.parameters())
        undecided = ways(optimizer)

        module(torch.ones(2, 4)).sum().backward()
        optimizer.step()

        assert undecided == [(None, None)]
        assert not scaled_in_kernels(ours([uninitialized()]))
        assert ways(optimizer) == [FUSED]

    def test_nothing_is_chosen_for_parameters_without_memory(self) -> None:
        assert ways(ours([Parameter(torch.ones(2, device="meta"))])) == [(None, None)]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"differentiable": True}, LOOP),
            ({"lr": torch.tensor(PEAK)}, FUSED),
            ({"schedule": FallingWithBetas()}, FUSED),
            ({"lr": torch.tensor(PEAK), "schedule": FallingWithBetas()}, LOOP),
            ({"betas": (torch.tensor(0.9), torch.tensor(0.99))}, LOOP),
        ],
        ids=["differentiable", "tensor lr", "betas", "tensor betas", "own tensor betas"],
    )
    def test_options_that_kernels_do_not_take_decide_too(
        self, options: dict[str, Any], expected: tuple[bool, bool]
    ) -> None:
        optimizer = ours(parameters(), **options)

        assert ways(optimizer) == [expected]
        if not options.get("differentiable"):
            give_gradients(optimizer, 0)
            optimizer.step()
            give_gradients(optimizer, 1)
            optimizer.step()

    def test_one_differentiable_group_has_no_group_fused(self) -> None:
        first, second = parameters(count=2)
        optimizer = ours([{"params": [first]}, {"params": [second], "differentiable": True}])

        assert ways(optimizer) == [FOREACH, LOOP]

    def test_complex_parameters_with_a_rate_in_a_tensor_go_one_by_one(self) -> None:
        optimizer = ours([complex_parameter()], lr=torch.tensor(PEAK))

        assert ways(optimizer) == [LOOP]
        give_gradients(optimizer, 0)
        optimizer.step()

    def test_schedule_that_moves_betas_has_the_values_of_the_same_betas_set_by_hand(self) -> None:
        optimizer = ours(parameters(), schedule=FallingWithBetas())
        oracle = torch.optim.AdamW(parameters(), fused=True)

        for step in range(8):
            oracle.param_groups[0]["betas"] = (0.5 + step / 4 / TOTAL, 0.999)
            follow(optimizer, oracle, [step])

    @pytest.mark.parametrize(
        "told", [{"fused": True}, {"fused": False}, {"foreach": True}, {"foreach": False}], ids=str
    )
    def test_nothing_is_chosen_where_the_optimizer_is_told(self, told: dict[str, Any]) -> None:
        first, second = parameters(count=2)
        optimizer = ours([{"params": [first]}, {"params": [second]}], **told)
        optimizer.add_param_group({"params": [Parameter(torch.ones(2))]})

        assert ways(optimizer) == [(told.get("fused"), told.get("foreach"))] * 3

    @pytest.mark.parametrize(
        "told", [{"fused": True}, {"fused": False}, {"foreach": True}, {"foreach": False}], ids=str
    )
    def test_nothing_is_chosen_where_one_group_is_told(self, told: dict[str, Any]) -> None:
        first, second = parameters(count=2)
        optimizer = ours([{"params": [first]}, {"params": [second], **told}])
        optimizer.add_param_group({"params": [Parameter(torch.ones(2))]})

        assert ways(optimizer) == [(None, None), (told.get("fused"), told.get("foreach")), (None, None)]

    @DEEP_COPIES
    def test_late_group_that_is_told_leaves_the_others_and_ends_the_choice(
        self, copied: Callable[[ScheduledAdamW], ScheduledAdamW]
    ) -> None:
        optimizer = ours(parameters())
        optimizer.add_param_group({"params": [Parameter(torch.ones(2))], "foreach": False})
        optimizer = copied(optimizer)
        optimizer.add_param_group({"params": [complex_parameter()]})

        assert ways(optimizer) == [FUSED, (None, False), (None, None)]

    @DEEP_COPIES
    @pytest.mark.parametrize("amsgrad", [False, True])
    def test_choice_is_made_again_for_a_late_group_and_training_goes_on(
        self, copied: Callable[[ScheduledAdamW], ScheduledAdamW], amsgrad: bool
    ) -> None:
        optimizer, oracle = pair(amsgrad=amsgrad)
        follow(optimizer, oracle, range(4))

        optimizer = copied(optimizer)
        optimizer.add_param_group({"params": [complex_parameter()]})
        oracle.add_param_group({"params": [complex_parameter()]})
        for group in oracle.param_groups:
            group.update(fused=False, foreach=True)

        assert ways(optimizer) == [FOREACH] * 2
        follow(optimizer, oracle, range(4, 8))

    @DEEP_COPIES
    def test_late_group_of_real_parameters_is_fused_with_the_others(
        self, copied: Callable[[ScheduledAdamW], ScheduledAdamW]
    ) -> None:
        optimizer, oracle = pair()
        follow(optimizer, oracle, range(4))

        optimizer = copied(optimizer)
        late = values(4, seed=99)
        optimizer.add_param_group({"params": [Parameter(late.clone())], "lr": 0.5, "amsgrad": True})
        oracle.add_param_group({"params": [Parameter(late.clone())], "peak": 0.5, "amsgrad": True})

        assert ways(optimizer) == [FUSED] * 2
        follow(optimizer, oracle, range(4, 8))

    def test_late_group_after_the_state_of_a_parameter_without_gradients_was_asked_for(self) -> None:
        # PyTorch's state is a defaultdict: asking leaves an empty entry.
        optimizer = ours(parameters())
        assert not optimizer.state[params_of(optimizer)[0]]

        optimizer.add_param_group({"params": [complex_parameter()]})

        assert ways(optimizer) == [FOREACH] * 2

    def test_choice_may_turn_to_fused_with_training_under_way(self) -> None:
        optimizer, oracle = ours([*parameters(), complex_parameter()]), pair()[1]
        oracle.add_param_group({"params": [complex_parameter()]})
        for group in oracle.param_groups:
            group.update(fused=False, foreach=True)
        follow(optimizer, oracle, range(3))

        # The complex parameter goes, and another comes.
        del optimizer.param_groups[0]["params"][-1], oracle.param_groups[1]
        late = values(4, seed=99)
        optimizer.add_param_group({"params": [Parameter(late.clone())]})
        oracle.add_param_group({"params": [Parameter(late.clone())]})
        for group in oracle.param_groups:
            group.update(fused=True, foreach=False)

        assert ways(optimizer) == [FUSED] * 2
        follow(optimizer, oracle, range(3, 6))


class TestGradientScaler:
    @COPIES
    @pytest.mark.parametrize(
        ("make", "expected"),
        [
            (lambda: ours(parameters()), True),
            (lambda: ours(parameters(), lr=torch.tensor(PEAK)), True),
            (lambda: ours(parameters(), fused=True), True),
            (lambda: ours([*parameters(), complex_parameter()]), False),
            (lambda: ours(parameters(), differentiable=True), False),
            (lambda: ours(parameters(), fused=False), False),
            (lambda: ours(parameters(), foreach=True), False),
            (lambda: with_late_group(ours(parameters()), complex_parameter()), False),
            (lambda: with_late_group(ours(parameters()), Parameter(torch.ones(2))), True),
        ],
        ids=["chosen", "tensor lr", "told", "complex", "differentiable", "told not", "foreach", "late complex", "late"],
    )
    def test_is_left_to_the_kernels_exactly_where_all_groups_are_fused(
        self,
        make: Callable[[], ScheduledAdamW],
        expected: bool,
        copied: Callable[[ScheduledAdamW], ScheduledAdamW],
    ) -> None:
        optimizer = copied(make())

        assert all(group["fused"] for group in optimizer.param_groups) == expected
        assert scaled_in_kernels(optimizer) == expected

    @DEEP_COPIES
    @pytest.mark.parametrize("unscale", [False, True], ids=["", "unscale_"])
    def test_with_default_settings_skips_overflows_and_unscales_the_rest(
        self, unscale: bool, copied: Callable[[ScheduledAdamW], ScheduledAdamW]
    ) -> None:
        scaler, other_scaler = torch.amp.GradScaler("cpu"), torch.amp.GradScaler("cpu")
        optimizer, fused = pair()
        loop = torch.optim.AdamW(parameters(), foreach=False, fused=False)
        updates = 0

        for batch in range(9):
            overflow = batch in (0, 1, 4, 8)
            optimizer = copied(optimizer)
            before = [p.detach().clone() for p in params_of(optimizer)]
            for each in (fused, loop):
                set_rates(each, updates)
            scaled_step(optimizer, scaler, batch, overflow, unscale)
            scaled_step(loop, other_scaler, batch, overflow, unscale)
            if overflow:
                assert all(map(torch.equal, before, params_of(optimizer)))
            else:
                fused.zero_grad()
                loss_of(fused, batch).backward()  # type: ignore[no-untyped-call]
                fused.step()
                updates += 1

            assert (optimizer.schedule_step, optimizer.param_groups[0]["lr"]) == (updates, rate(updates))
            assert {float(state["step"]) for state in optimizer.state.values()} <= {updates}
            # Scales are powers of two, so that unscaled gradients are those without any scaler.
            assert all(map(torch.equal, params_of(optimizer), params_of(fused)))
            torch.testing.assert_close(params_of(optimizer), params_of(loop))
        assert updates == 5
        assert scaler.get_scale() == other_scaler.get_scale() == 65536.0 / 2**4
        assert (hasattr(optimizer, "found_inf"), hasattr(optimizer, "grad_scale")) == (False, False)

    @pytest.mark.parametrize("where", ["late group", "from the start", "by hand"])
    @DEEP_COPIES
    def test_works_where_a_group_was_told_not_to_be_fused(
        self, where: str, copied: Callable[[ScheduledAdamW], ScheduledAdamW]
    ) -> None:
        first, second = parameters(count=2)
        if where == "from the start":
            optimizer = ours([{"params": [first]}, {"params": [second], "fused": False}], fused=True)
        else:
            optimizer = ours([first])
            optimizer.add_param_group({"params": [second], **({"fused": False} if where == "late group" else {})})
        optimizer.param_groups[1]["fused"] = False
        optimizer, oracle = copied(optimizer), torch.optim.AdamW(parameters(count=2))
        scaler = torch.amp.GradScaler("cpu")

        for step in range(3):
            set_rates(oracle, step)
            scaled_step(optimizer, scaler, step)
            oracle.zero_grad()
            loss_of(oracle, step).backward()  # type: ignore[no-untyped-call]
            oracle.step()

        torch.testing.assert_close(params_of(optimizer), params_of(oracle))
        assert optimizer.schedule_step == 3

    def test_works_before_and_after_a_complex_parameter_joins(self) -> None:
        optimizer, scaler = ours(parameters()), torch.amp.GradScaler("cpu")
        oracle = torch.optim.AdamW(parameters(), foreach=False)

        for step in range(4):
            if step == 2:
                optimizer.add_param_group({"params": [complex_parameter()]})
                oracle.add_param_group({"params": [complex_parameter()]})
            set_rates(oracle, step)
            # Which the scaler itself can't do for complex gradients.
            scaled_step(optimizer, scaler, step, real_only=True)
            oracle.zero_grad()
            loss_of(oracle, step, real_only=True).backward()  # type: ignore[no-untyped-call]
            oracle.step()

        torch.testing.assert_close(params_of(optimizer), params_of(oracle))


def with_late_group(optimizer: ScheduledAdamW, parameter: Parameter) -> ScheduledAdamW:
    optimizer.add_param_group({"params": [parameter]})
    return optimizer
