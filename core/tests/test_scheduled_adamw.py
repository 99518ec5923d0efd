"""`ScheduledAdamW` beside PyTorch's own AdamW: which implementation it takes, and values bit for bit."""

from __future__ import annotations

import copy
import io
import math
import pickle
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.nn import Parameter
from torch.optim.adamw import adamw
from torch.utils import _foreach_utils

from optim_core import InvalidArgumentsError, ScheduledAdamW, ScheduleWarning, WarmupCosine, scheduled_adamw

PEAK, TOTAL = 0.125, 32


@dataclass(frozen=True)
class Falling:
    """Falls in a straight line; a horizon of a power of two has its rates exact."""

    peak_lr: float = PEAK
    total_steps: int = TOTAL

    def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
        return {"lr": peak_lr * (1 - min(step, self.total_steps) / self.total_steps)}


@dataclass(frozen=True)
class FallingWithBetas(Falling):
    def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
        return {**super().options_at(step, peak_lr), "betas": (0.5 + min(step, TOTAL) / 4 / TOTAL, None)}


def rate(step: int, peak: float = PEAK) -> float:
    """The rate of `Falling`, written out."""
    return peak * (1 - step / TOTAL)


Gradients = Callable[[int, int], bool]


def everywhere(step: int, index: int) -> bool:
    return True


def values(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def parameters(dtype: torch.dtype = torch.float32, count: int = 3) -> list[Parameter]:
    shapes = [(3, 5), (7,), (), (2, 2, 2)]
    return [Parameter(values(*shapes[index % 4], seed=index, dtype=dtype)) for index in range(count)]


def complex_parameter() -> Parameter:
    return Parameter(torch.tensor([1 + 2j, -0.5j]))


def ours(params: Any, **options: Any) -> ScheduledAdamW:
    return ScheduledAdamW(params, **{"schedule": Falling(), **options})


def params_of(optimizer: torch.optim.Optimizer) -> list[Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def give_gradients(optimizer: torch.optim.Optimizer, step: int, present: Gradients = everywhere) -> None:
    for index, p in enumerate(params_of(optimizer)):
        gradient = values(*p.shape, seed=1000 + 50 * step + index).to(p.device, p.dtype)
        p.grad = gradient if present(step, index) else None


def set_rates(oracle: torch.optim.Optimizer, step: int) -> None:
    """Give PyTorch's optimizer the rates of a step; a group's peak is in it as "peak"."""
    for group in oracle.param_groups:
        value = rate(step, group.get("peak", PEAK))
        group["lr"] = torch.full_like(group["lr"], value) if isinstance(group["lr"], torch.Tensor) else value


def assert_same(optimizer: torch.optim.Optimizer, oracle: torch.optim.Optimizer) -> None:
    """Parameters and all state, bit for bit."""
    for own, other in zip(params_of(optimizer), params_of(oracle), strict=True):
        assert torch.equal(own, other)
        assert (own in optimizer.state) == (other in oracle.state)
        if own in optimizer.state:
            assert optimizer.state[own].keys() == oracle.state[other].keys()
            for name, value in optimizer.state[own].items():
                assert value.dtype == oracle.state[other][name].dtype
                assert torch.equal(value, oracle.state[other][name])


def follow(
    optimizer: torch.optim.Optimizer,
    oracle: torch.optim.Optimizer,
    steps: Sequence[int],
    gradients: Gradients = everywhere,
) -> None:
    """Make steps with both, which stay together: the oracle at rates set by hand."""
    for step in steps:
        set_rates(oracle, step)
        for each in (optimizer, oracle):
            give_gradients(each, step, gradients)
            each.step()
        assert_same(optimizer, oracle)


def pair(**options: Any) -> tuple[ScheduledAdamW, torch.optim.AdamW]:
    """Ours, which chooses, beside PyTorch's own that is told to be fused."""
    return ours(parameters(), **options), torch.optim.AdamW(parameters(), fused=True, **options)


def ways(optimizer: torch.optim.Optimizer) -> list[tuple[Any, Any]]:
    return [(group["fused"], group["foreach"]) for group in optimizer.param_groups]


def through_pickle(optimizer: ScheduledAdamW) -> ScheduledAdamW:
    copied: ScheduledAdamW = pickle.loads(pickle.dumps(optimizer))
    return copied


def as_it_is(optimizer: ScheduledAdamW) -> ScheduledAdamW:
    return optimizer


def scaled_in_kernels(optimizer: torch.optim.Optimizer) -> bool:
    """What torch.amp.GradScaler asks an optimizer."""
    return getattr(optimizer, "_step_supports_amp_scaling", False)


COPIES = pytest.mark.parametrize("copied", [as_it_is, copy.copy, copy.deepcopy, through_pickle])
DEEP_COPIES = pytest.mark.parametrize("copied", [as_it_is, copy.deepcopy, through_pickle])


class Tagged(torch.Tensor):
    """A subclass, as quantized and traced tensors are."""


def uninitialized() -> Parameter:
    weight: Parameter = torch.nn.LazyLinear(2).weight  # type: ignore[assignment]
    return weight


FUSED, FOREACH, LOOP = (True, False), (False, True), (False, False)


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
            (uninitialized, LOOP),
            (lambda: Parameter(torch.ones(2, device="meta")), LOOP),
        ],
        ids=["complex", "float8", "subclass", "uninitialized", "meta"],
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


def loss_of(optimizer: torch.optim.Optimizer, batch: int, real_only: bool = False) -> torch.Tensor:
    params = [p for p in params_of(optimizer) if not (real_only and p.is_complex())]
    return torch.stack([((p - 0.1 * batch).cos() + p.square() / 4).sum() for p in params]).sum()


def scaled_step(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batch: int,
    overflow: bool = False,
    unscale: bool = False,
    real_only: bool = False,
) -> None:
    optimizer.zero_grad()
    scaler.scale(loss_of(optimizer, batch, real_only) * (math.inf if overflow else 1)).backward()  # type: ignore[no-untyped-call]
    if unscale:
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"amsgrad": True},
    {"maximize": True},
    {"weight_decay": 0.0},
    {"weight_decay": 0.5, "betas": (0.5, 0.75), "eps": 1e-3},
    {"lr": torch.tensor(PEAK)},
    {"lr": torch.tensor(PEAK, dtype=torch.float64), "amsgrad": True, "maximize": True},
    {"capturable": True},
]


def comes_and_goes(step: int, index: int) -> bool:
    """The second parameter's gradients begin at step 3, the third's are there every other time; none at 5 and 6."""
    return step not in (5, 6) and (index == 0 or (index == 1 and step >= 3) or (index == 2 and step % 2 == 1))


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


def zero_an_average(optimizer: torch.optim.Optimizer) -> None:
    optimizer.state[params_of(optimizer)[0]]["exp_avg"].zero_()


def replace_an_average(optimizer: torch.optim.Optimizer) -> None:
    optimizer.state[params_of(optimizer)[1]]["exp_avg_sq"] = torch.full((7,), 0.5)


def replace_a_count(optimizer: torch.optim.Optimizer) -> None:
    optimizer.state[params_of(optimizer)[1]]["step"] = torch.tensor(100.0)


def replace_the_state_of_a_parameter(optimizer: torch.optim.Optimizer) -> None:
    p = params_of(optimizer)[0]
    fresh = {"exp_avg": torch.ones_like(p), "exp_avg_sq": torch.ones_like(p), "step": torch.tensor(3.0)}
    optimizer.state[p] = fresh


def empty_the_state_of_a_parameter(optimizer: torch.optim.Optimizer) -> None:
    optimizer.state[params_of(optimizer)[0]] = {}


def drop_the_state_of_a_parameter(optimizer: torch.optim.Optimizer) -> None:
    del optimizer.state[params_of(optimizer)[0]]


def clear_the_state(optimizer: torch.optim.Optimizer) -> None:
    optimizer.state.clear()


def replace_the_state(optimizer: torch.optim.Optimizer) -> None:
    optimizer.state = defaultdict(dict, {params_of(optimizer)[0]: optimizer.state[params_of(optimizer)[0]]})


def replace_a_parameter(optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["params"][1] = Parameter(torch.ones(4))


def take_a_parameter_away(optimizer: torch.optim.Optimizer) -> None:
    del optimizer.param_groups[0]["params"][1]


def replace_the_list_of_parameters(optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["params"] = [*optimizer.param_groups[0]["params"][:2], Parameter(torch.ones(4))]


def replace_the_data_of_a_parameter(optimizer: torch.optim.Optimizer) -> None:
    params_of(optimizer)[0].data = torch.ones(3, 5)


def set_options(**options: Any) -> Callable[[torch.optim.Optimizer], None]:
    def change(optimizer: torch.optim.Optimizer) -> None:
        optimizer.param_groups[0].update(options)

    change.__name__ = str(options)
    return change


CHANGES = [
    zero_an_average,
    replace_an_average,
    replace_a_count,
    replace_the_state_of_a_parameter,
    empty_the_state_of_a_parameter,
    drop_the_state_of_a_parameter,
    clear_the_state,
    replace_the_state,
    replace_a_parameter,
    take_a_parameter_away,
    replace_the_list_of_parameters,
    replace_the_data_of_a_parameter,
    set_options(weight_decay=0.5),
    set_options(betas=(0.5, 0.75)),
    set_options(eps=0.1),
    set_options(maximize=True),
    set_options(decoupled_weight_decay=False, weight_decay=0.5),
    set_options(fused=False, foreach=False),
    set_options(fused=None, foreach=None),
]


class TestChangesByOthers:
    @pytest.mark.parametrize("lr", [PEAK, torch.tensor(PEAK)], ids=["float", "tensor"])
    @pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
    def test_between_steps_have_the_effect_that_they_have_on_pytorch(
        self, change: Callable[[torch.optim.Optimizer], None], lr: Any
    ) -> None:
        optimizer, oracle = pair(lr=lr)
        follow(optimizer, oracle, range(3))

        change(optimizer)
        change(oracle)

        follow(optimizer, oracle, range(3, 6))

    def test_foreach_in_place_of_fused_has_the_values_of_pytorch(self) -> None:
        # PyTorch refuses it with a tensor for a rate.
        optimizer, oracle = pair()
        follow(optimizer, oracle, range(3))

        for each in (optimizer, oracle):
            each.param_groups[0].update(fused=False, foreach=True)

        follow(optimizer, oracle, range(3, 6))

    def test_fused_set_to_false_alone_goes_one_by_one(self) -> None:
        optimizer, oracle = pair()
        follow(optimizer, oracle, range(3))

        optimizer.param_groups[0]["fused"] = False
        oracle.param_groups[0].update(fused=False, foreach=False)

        follow(optimizer, oracle, range(3, 6))
        assert ways(optimizer) == [LOOP]

    @pytest.mark.parametrize(
        "change",
        [
            set_options(amsgrad=True),
            set_options(differentiable=True),
            lambda optimizer: optimizer.state[params_of(optimizer)[0]].update(step=3),
            lambda optimizer: optimizer.state[params_of(optimizer)[0]].pop("exp_avg"),
        ],
        ids=["amsgrad", "differentiable", "count that is no tensor", "average missing"],
    )
    def test_that_pytorch_refuses_are_refused_alike(self, change: Callable[[torch.optim.Optimizer], None]) -> None:
        optimizer, oracle = pair()
        follow(optimizer, oracle, range(3))
        raised = []

        for each in (oracle, optimizer):
            change(each)
            give_gradients(each, 3)
            with pytest.raises((KeyError, RuntimeError)) as caught:
                each.step()
            raised.append((caught.type, str(caught.value)))

        assert raised[0] == raised[1]
        assert all(map(torch.equal, params_of(optimizer), params_of(oracle)))
        assert optimizer.schedule_step == 3

    @pytest.mark.parametrize("steps_before", [0, 3])
    def test_sparse_gradient_is_refused_as_by_pytorch_and_nothing_changes(self, steps_before: int) -> None:
        optimizer, oracle = pair()
        follow(optimizer, oracle, range(steps_before))
        before = [p.detach().clone() for p in params_of(optimizer)]
        messages = []

        for each in (oracle, optimizer):
            give_gradients(each, steps_before)
            params_of(each)[1].grad = torch.ones(7).to_sparse()
            with pytest.raises(RuntimeError, match="does not support sparse gradients") as caught:
                each.step()
            messages.append(str(caught.value))

        assert messages[0] == messages[1]
        assert all(map(torch.equal, before, params_of(optimizer)))
        assert_same(optimizer, oracle)
        assert (optimizer.schedule_step, optimizer.param_groups[0]["lr"]) == (steps_before, rate(steps_before))
        follow(optimizer, oracle, range(steps_before, steps_before + 3))

    def test_step_that_fails_leaves_no_empty_state(self) -> None:
        first, second = parameters(count=2)
        optimizer = ours([{"params": [first]}, {"params": [second]}])
        give_gradients(optimizer, 0, lambda step, index: index == 0)
        optimizer.step()
        first.grad, second.grad = torch.ones(3, 5).to_sparse(), torch.ones(7)

        with pytest.raises(RuntimeError, match="sparse"):
            optimizer.step()

        assert second not in optimizer.state


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


WAYS: list[dict[str, Any]] = [
    {"fused": True, "foreach": False},
    {"fused": False, "foreach": True},
    {"fused": False, "foreach": False},
]


def trained(make: Callable[[list[Parameter]], torch.optim.Optimizer], steps: int) -> torch.optim.Optimizer:
    optimizer = make(parameters())
    for step in range(steps):
        if not isinstance(optimizer, ScheduledAdamW):
            set_rates(optimizer, step)
        give_gradients(optimizer, step)
        optimizer.step()
    return optimizer


def placed(params: Sequence[torch.Tensor]) -> list[Parameter]:
    return [Parameter(p.detach().clone()) for p in params]


class TestLoading:
    @pytest.mark.parametrize("live", WAYS, ids=str)
    @pytest.mark.parametrize("saved", WAYS, ids=str)
    @pytest.mark.parametrize("bare", [False, True], ids=["", "bare AdamW"])
    @pytest.mark.parametrize("default", [torch.float32, torch.float64])
    def test_keeps_the_implementation_of_this_optimizer_and_continues(
        self, live: dict[str, Any], saved: dict[str, Any], bare: bool, default: torch.dtype
    ) -> None:
        torch.set_default_dtype(default)
        try:
            source = trained(
                lambda p: torch.optim.AdamW(p, **saved) if bare else ours(p, **saved),
                4,
            )
        finally:
            torch.set_default_dtype(torch.float32)
        state = copy.deepcopy(source.state_dict())
        # The first is what is chosen without being told.
        optimizer = ours(placed(params_of(source)), **({} if live["fused"] else live))
        oracle = torch.optim.AdamW(placed(params_of(source)), **live)
        told = {**copy.deepcopy(state), "param_groups": [{**group, **live} for group in state["param_groups"]]}
        oracle.load_state_dict(told)

        if bare:
            with pytest.warns(ScheduleWarning):
                optimizer.load_state_dict(state)
        else:
            optimizer.load_state_dict(state)

        assert ways(optimizer) == [(live["fused"], live["foreach"])]
        assert scaled_in_kernels(optimizer) == live["fused"]
        assert optimizer.schedule_step == 4
        follow(optimizer, oracle, range(4, 8))

    @pytest.mark.parametrize("changed", [{"fused": None, "foreach": None}, None], ids=["None", "without"])
    def test_checkpoint_from_before_the_choice_continues_fused(self, changed: dict[str, Any] | None) -> None:
        source = trained(lambda p: torch.optim.AdamW(p, fused=True), 4)
        earlier = trained(lambda p: ours(p, foreach=False), 4)
        state = copy.deepcopy(earlier.state_dict())
        for group in state["param_groups"]:
            del group["fused"], group["foreach"]
            group.update(changed or {})
        optimizer = ours(placed(params_of(earlier)))

        optimizer.load_state_dict(state)

        assert ways(optimizer) == [FUSED]
        assert scaled_in_kernels(optimizer)
        for step in range(4, 8):
            set_rates(source, step)
            for each in (source, optimizer):
                give_gradients(each, step)
                each.step()
        torch.testing.assert_close(params_of(optimizer), params_of(source))

    def test_state_loads_into_pytorchs_own_and_continues_there(self) -> None:
        source = trained(ours, 4)
        bare = torch.optim.AdamW(placed(params_of(source)))

        bare.load_state_dict(copy.deepcopy(source.state_dict()))

        assert ways(bare) == [FUSED]
        follow(source, bare, range(4, 8))

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_resuming_from_a_file_is_exact(self, options: dict[str, Any]) -> None:
        source = trained(lambda p: ours(p, **options), 4)
        torch.save(source.state_dict(), file := io.BytesIO())
        file.seek(0)
        resumed = ours(placed(params_of(source)), **options)

        resumed.load_state_dict(torch.load(file, weights_only=True))

        assert ways(resumed) == [FUSED]
        for step in range(4, 10):
            for each in (source, resumed):
                give_gradients(each, step)
                each.step()
            assert_same(source, resumed)
            assert float(resumed.param_groups[0]["lr"]) == rate(step + 1)

    def test_group_that_joins_after_a_load_has_the_choice_made_again(self) -> None:
        source = trained(ours, 2)
        optimizer = ours(placed(params_of(source)))
        optimizer.load_state_dict(source.state_dict())

        optimizer.add_param_group({"params": [complex_parameter()]})

        assert ways(optimizer) == [FOREACH] * 2

    def test_state_of_a_fresh_optimizer_can_be_read_by_the_distributed_checkpoint(self) -> None:
        model = torch.nn.Linear(3, 2)
        optimizer = ours(model.parameters())
        before = copy.deepcopy(model.state_dict())

        state: Any = get_optimizer_state_dict(model, optimizer)

        assert [float(entry["step"]) for entry in state["state"].values()] == [0.0, 0.0]
        assert (optimizer.schedule_step, optimizer.param_groups[0]["lr"]) == (0, PEAK)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class TestPyTorch:
    """What is taken for granted of PyTorch's private parts."""

    def test_has_the_kernels_where_they_are_believed_to_be(self) -> None:
        fused = _foreach_utils._get_fused_kernels_supported_devices()
        foreach = _foreach_utils._get_foreach_kernels_supported_devices()

        assert set(fused) >= scheduled_adamw._FUSED_DEVICES
        assert {*foreach, "cpu"} >= scheduled_adamw._FOREACH_DEVICES

    @pytest.mark.parametrize("dtype", sorted(scheduled_adamw._FUSED_TYPES, key=str))
    def test_has_fused_kernels_for_the_types(self, dtype: torch.dtype) -> None:
        optimizer = torch.optim.AdamW(parameters(dtype), fused=True)
        give_gradients(optimizer, 0)

        optimizer.step()

        assert not torch.equal(params_of(optimizer)[0], parameters(dtype)[0])

    def test_refuses_to_fuse_complex_parameters(self) -> None:
        optimizer = torch.optim.AdamW([complex_parameter()], fused=True)
        give_gradients(optimizer, 0)

        with pytest.raises(RuntimeError, match="fused=True` requires all the params to be floating point"):
            optimizer.step()

    def test_tells_a_gradient_scaler_that_it_is_fused(self) -> None:
        assert vars(torch.optim.AdamW(parameters(), fused=True))["_step_supports_amp_scaling"] is True
        assert not hasattr(torch.optim.AdamW(parameters(), foreach=True), "_step_supports_amp_scaling")

    @pytest.mark.parametrize("options", OPTIONS[:5], ids=str)
    @pytest.mark.parametrize("way", WAYS, ids=str)
    def test_has_a_function_that_does_what_the_step_does(self, options: dict[str, Any], way: dict[str, Any]) -> None:
        optimizer = torch.optim.AdamW(parameters(), lr=PEAK, **options, **way)
        give_gradients(optimizer, 0)
        optimizer.step()
        twin = copy.deepcopy(optimizer)
        for each in (optimizer, twin):
            give_gradients(each, 1)
        states = [twin.state[p] for p in params_of(twin)]
        group = twin.param_groups[0]

        optimizer.step()
        with torch.no_grad():
            adamw(
                [*params_of(twin)],
                [p.grad for p in params_of(twin) if p.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [state["max_exp_avg_sq"] for state in states if group["amsgrad"]],
                [state["step"] for state in states],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                **way,
                **{name: group[name] for name in ("amsgrad", "lr", "weight_decay", "eps", "maximize", "capturable")},
            )

        assert_same(twin, optimizer)


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


CALLS: list[tuple[int, float]] = []


@dataclass(frozen=True)
class Counting(Falling):
    """Keeps what it was asked in `CALLS`."""

    def options_at(self, step: int, peak_lr: float) -> dict[str, Any]:
        CALLS.append((step, peak_lr))
        return super().options_at(step, peak_lr)


class TestSchedule:
    def test_of_many_groups_follows_the_formula_for_each(self) -> None:
        peaks = [0.01 * (index + 1) for index in range(50)]
        schedule = WarmupCosine(peak_lr=0.1, total_steps=12, warmup_steps=4, start_lr=0.02, end_lr=0.01)
        groups = [{"params": [Parameter(torch.ones(2))], "lr": peak} for peak in peaks]
        optimizer = ours(groups, schedule=schedule)

        for step in range(12):
            if step < 4:
                expected = 0.02 + (0.1 - 0.02) * step / 4
            else:
                expected = 0.01 + (0.1 - 0.01) * (1 + math.cos(math.pi * (step - 4) / 7)) / 2
            rates = [group["lr"] for group in optimizer.param_groups]
            assert rates == pytest.approx([expected * peak / 0.1 for peak in peaks])
            give_gradients(optimizer, step)
            optimizer.step()

    def test_values_of_many_groups_are_those_of_pytorch(self) -> None:
        peaks = [0.01 * (index + 1) for index in range(50)]
        own = [{"params": [p], "lr": peak} for p, peak in zip(parameters(count=50), peaks, strict=True)]
        others = [{"params": [p], "peak": peak} for p, peak in zip(parameters(count=50), peaks, strict=True)]

        follow(ours(own), torch.optim.AdamW(others, fused=True), range(5))

    @pytest.mark.parametrize(
        ("peaks", "distinct"), [([PEAK], 1), ([PEAK] * 3, 1), ([PEAK, 0.5, PEAK], 2)], ids=["one", "shared", "two"]
    )
    def test_is_evaluated_once_a_step_for_each_peak(self, peaks: list[float], distinct: int) -> None:
        groups = [{"params": [p], "lr": peak} for p, peak in zip(parameters(), peaks, strict=False)]
        optimizer = ours(groups, schedule=Counting())
        for step in range(3):
            give_gradients(optimizer, step)
            optimizer.step()

        for step in range(3, 8):
            give_gradients(optimizer, step)
            CALLS.clear()
            optimizer.step()
            assert sorted(CALLS) == sorted((step + 1, peak) for peak in set(peaks))
            assert len(CALLS) == distinct

    def test_is_evaluated_once_a_step_after_a_copy_and_after_a_load(self) -> None:
        optimizer = through_pickle(ours(parameters(), schedule=Counting()))
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.step()

        CALLS.clear()
        optimizer.step()

        assert CALLS == [(2, PEAK)]

    @pytest.mark.parametrize("lr", [PEAK, torch.tensor(PEAK)], ids=["float", "tensor"])
    def test_overrides_another_scheduler_with_one_warning(self, lr: Any) -> None:
        optimizer, oracle = pair(lr=lr)
        follow(optimizer, oracle, range(3))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 ** (step + 1))

        def step_all() -> None:
            for step in range(3, 8):
                follow(optimizer, oracle, [step])
                scheduler.step()

        with pytest.warns(ScheduleWarning, match="take away the other scheduler") as caught:
            step_all()

        assert len(caught) == 1

    @pytest.mark.parametrize("index", [0, 1])
    def test_overrides_a_rate_that_was_written_into_any_group(self, index: int) -> None:
        optimizer = ours([{"params": [p]} for p in parameters(count=2)])
        oracle = torch.optim.AdamW([{"params": [p]} for p in parameters(count=2)], fused=True)
        follow(optimizer, oracle, range(3))
        optimizer.param_groups[index]["lr"] = 7.0

        with pytest.warns(ScheduleWarning, match=f"group {index} of ScheduledAdamW was changed from outside"):
            follow(optimizer, oracle, [3])

        optimizer.param_groups[index]["lr"] = 7.0
        follow(optimizer, oracle, range(4, 6))

    def test_takes_the_same_rate_written_anew_for_no_change(self) -> None:
        optimizer, oracle = pair()
        follow(optimizer, oracle, range(3))

        optimizer.param_groups[0]["lr"] = float(str(rate(3)))

        follow(optimizer, oracle, range(3, 5))

    @pytest.mark.parametrize("lr", [PEAK, torch.tensor(PEAK)], ids=["float", "tensor"])
    @pytest.mark.parametrize("peak", [0.5, 1, torch.tensor(0.25)], ids=["float", "int", "tensor"])
    def test_has_a_changed_peak_at_the_next_step(self, lr: Any, peak: Any) -> None:
        optimizer, oracle = pair(lr=lr)
        follow(optimizer, oracle, range(3))

        optimizer.param_groups[0]["peak_lr"] = peak
        oracle.param_groups[0]["peak"] = float(peak)

        follow(optimizer, oracle, range(3, 6))
        assert float(optimizer.param_groups[0]["lr"]) == rate(6, float(peak))

    @pytest.mark.parametrize("peak", [math.nan, math.inf, -1.0, "0.1", None, True, torch.ones(2)], ids=str)
    @pytest.mark.parametrize("index", [0, 1])
    def test_refuses_a_peak_that_is_no_rate_before_anything_changes(self, peak: Any, index: int) -> None:
        optimizer = ours([{"params": [p]} for p in parameters(count=2)])
        oracle = torch.optim.AdamW([{"params": [p]} for p in parameters(count=2)], fused=True)
        follow(optimizer, oracle, range(3))
        optimizer.param_groups[index]["peak_lr"] = peak
        give_gradients(optimizer, 3)

        with pytest.raises(InvalidArgumentsError, match=rf"param_groups\[{index}\]\['peak_lr'\]"):
            optimizer.step()

        assert_same(optimizer, oracle)
        assert [(g["schedule_step"], g["lr"]) for g in optimizer.param_groups] == [(3, rate(3))] * 2
        optimizer.param_groups[index]["peak_lr"] = PEAK
        follow(optimizer, oracle, range(3, 5))

    def test_warns_once_past_its_end_where_the_last_rate_holds(self) -> None:
        optimizer = ours(parameters(), initial_step=TOTAL - 1)
        give_gradients(optimizer, 0)
        optimizer.step()
        before = [p.detach().clone() for p in params_of(optimizer)]

        with pytest.warns(ScheduleWarning, match="past the end") as caught:
            optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optimizer.step()

        assert len(caught) == 1
        assert (optimizer.schedule_step, optimizer.param_groups[0]["lr"]) == (TOTAL + 2, 0.0)
        assert all(map(torch.equal, before, params_of(optimizer)))


@pytest.mark.gpu
class TestOnGPU:
    @pytest.mark.parametrize("devices", [("cuda",), ("cpu", "cuda"), ("cuda", "cpu")], ids=str)
    def test_is_fused_and_has_the_values_of_pytorch(self, devices: tuple[str, ...]) -> None:
        def spread() -> list[Parameter]:
            return [Parameter(p.detach().to(device)) for device in devices for p in parameters()]

        optimizer, oracle = ours(spread()), torch.optim.AdamW(spread(), fused=True)

        follow(optimizer, oracle, range(6), comes_and_goes)

        assert ways(optimizer) == [FUSED]

    def test_groups_on_several_devices_have_the_values_of_a_loop(self) -> None:
        def groups() -> list[dict[str, Any]]:
            return [{"params": parameters()}, {"params": [Parameter(p.detach().cuda()) for p in parameters()]}]

        optimizer, loop = ours(groups()), torch.optim.AdamW(groups(), foreach=False)

        for step in range(6):
            set_rates(loop, step)
            for each in (optimizer, loop):
                give_gradients(each, step)
                each.step()

        assert ways(optimizer) == [FUSED] * 2
        torch.testing.assert_close(params_of(optimizer), params_of(loop))

    def test_counts_leave_the_device_where_a_complex_parameter_joins(self) -> None:
        optimizer = ours([Parameter(p.detach().cuda()) for p in parameters()])
        oracle = torch.optim.AdamW([Parameter(p.detach().cuda()) for p in parameters()], foreach=True)
        for step in range(6):
            if step == 3:
                assert {state["step"].device.type for state in optimizer.state.values()} == {"cuda"}
                for each in (optimizer, oracle):
                    each.add_param_group({"params": [Parameter(complex_parameter().detach().cuda())]})
                assert {state["step"].device.type for state in optimizer.state.values()} == {"cpu"}
            set_rates(oracle, step)
            for each in (optimizer, oracle):
                give_gradients(each, step)
                each.step()

        assert ways(optimizer) == [FOREACH] * 2
        torch.testing.assert_close(params_of(optimizer), params_of(oracle))

    def test_counts_come_to_the_device_where_the_choice_turns_to_fused(self) -> None:
        optimizer = ours([Parameter(torch.ones(2, device="cuda")), Parameter(complex_parameter().detach().cuda())])
        give_gradients(optimizer, 0)
        optimizer.step()
        del optimizer.param_groups[0]["params"][1]

        optimizer.add_param_group({"params": [Parameter(torch.ones(2, device="cuda"))]})

        assert ways(optimizer) == [FUSED] * 2
        # Before a step, which would read them there.
        assert optimizer.state[params_of(optimizer)[0]]["step"].device.type == "cuda"
        give_gradients(optimizer, 1)
        optimizer.step()
        assert float(optimizer.state[params_of(optimizer)[0]]["step"]) == 2.0

    def test_gradient_scaler_skips_overflows_and_unscales_the_rest(self) -> None:
        def on_device() -> list[Parameter]:
            return [Parameter(p.detach().cuda()) for p in parameters()]

        optimizer, loop = ours(on_device()), torch.optim.AdamW(on_device(), foreach=False)
        scaler, other_scaler = torch.amp.GradScaler("cuda"), torch.amp.GradScaler("cuda")
        updates = 0
        for batch in range(8):
            overflow = batch in (0, 3)
            set_rates(loop, updates)
            scaled_step(optimizer, scaler, batch, overflow)
            scaled_step(loop, other_scaler, batch, overflow)
            updates += not overflow

            assert optimizer.schedule_step == updates
            torch.testing.assert_close(params_of(optimizer), params_of(loop))

    @pytest.mark.parametrize(("saved_on", "loaded_on"), [("cpu", "cuda"), ("cuda", "cpu")])
    def test_state_saved_on_one_device_continues_fused_on_another(self, saved_on: str, loaded_on: str) -> None:
        source = ours([Parameter(p.detach().to(saved_on)) for p in parameters()])
        for step in range(3):
            give_gradients(source, step)
            source.step()
        resumed = ours([Parameter(p.detach().to(loaded_on)) for p in params_of(source)])

        resumed.load_state_dict(copy.deepcopy(source.state_dict()))

        assert ways(resumed) == [FUSED]
        assert {state["step"].device.type for state in resumed.state.values()} == {loaded_on}
        for step in range(3, 6):
            for each in (source, resumed):
                give_gradients(each, step)
                each.step()
        torch.testing.assert_close([p.cpu() for p in params_of(resumed)], [p.cpu() for p in params_of(source)])

    def test_captured_step_replays_with_the_rate_of_each_step(self) -> None:
        params, others = ([Parameter(p.detach().cuda()) for p in parameters()] for _ in range(2))
        optimizer, oracle = ours(params, capturable=True), torch.optim.AdamW(others, fused=True)
        gradients = [values(*p.shape, seed=index).cuda() for index, p in enumerate(params)]
        for p, q, gradient in zip(params, others, gradients, strict=True):
            p.grad, q.grad = gradient.clone(), gradient.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                optimizer.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            optimizer.step()
        for _ in range(5):
            graph.replay()

        for step in range(8):
            set_rates(oracle, step)
            oracle.step()
        assert ways(optimizer) == [FUSED]
        assert optimizer.schedule_step == 8
        torch.testing.assert_close(params, others)
