"""`ScheduledAdamW` where others change its state, parameters or options between steps: the effect is PyTorch's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from core_support.adamw_training import (
    LOOP,
    PEAK,
    Falling,
    assert_same,
    follow,
    give_gradients,
    ours,
    pair,
    parameters,
    params_of,
    rate,
    set_rates,
    ways,
)
from optim_core import InvalidArgumentsError, ScheduledAdamW


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
            lambda optimizer: optimizer.state[params_of(optimizer)[0]].update(step=3),
            lambda optimizer: optimizer.state[params_of(optimizer)[0]].pop("exp_avg"),
        ],
        ids=["amsgrad", "count that is no tensor", "average missing"],
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

    def test_data_of_another_size_are_refused_before_anything_changes(self) -> None:
        optimizer, _ = pair()
        give_gradients(optimizer, 0)
        optimizer.step()
        first, second = params_of(optimizer)[:2]
        first.data = torch.ones(100, 100)
        give_gradients(optimizer, 1)
        before = second.detach().clone()

        with pytest.raises(InvalidArgumentsError, match="another shape than its state"):
            optimizer.step()

        assert torch.equal(second, before)
        assert optimizer.schedule_step == 1

    def test_class_between_has_its_own_step_called_every_time(self) -> None:
        class Clipped(torch.optim.AdamW):
            calls = 0

            def step(self, closure: Any = None) -> Any:
                type(self).calls += 1
                return super().step(closure)

        class ScheduledClipped(ScheduledAdamW, Clipped):
            pass

        optimizer = ScheduledClipped(parameters(), schedule=Falling())
        for step in range(4):
            give_gradients(optimizer, step)
            optimizer.step()

        assert ScheduledClipped.calls == 4

    @pytest.mark.parametrize("step", [0, 2])
    def test_gradient_that_is_negative_by_a_mark_is_a_negative_gradient(self, step: int) -> None:
        optimizer, oracle = pair()
        follow(optimizer, oracle, range(step))
        for each in (optimizer, oracle):
            give_gradients(each, step)
            set_rates(oracle, step)
        for one, other in zip(params_of(optimizer), params_of(oracle), strict=True):
            one.grad, other.grad = torch._neg_view(one.grad), -other.grad

        optimizer.step()
        oracle.step()

        assert_same(optimizer, oracle)

    def test_gradient_of_another_order_in_memory_is_unscaled_too(self) -> None:
        parameter = Parameter(torch.ones(3, 4))
        optimizer = ScheduledAdamW([parameter], schedule=Falling())
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for _ in range(2):
            parameter.grad = None
            scaler.scale(parameter.sum()).backward()
            parameter.grad = torch.full((4, 3), 4.0).t()
            scaler.step(optimizer)
            scaler.update()

            assert torch.equal(parameter.grad, torch.ones(3, 4))
