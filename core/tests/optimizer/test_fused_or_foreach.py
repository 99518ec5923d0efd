"""Choosing PyTorch's fastest implementation for an optimizer's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optim_core.authoring import choose_implementation
from optim_core.optimizer.fused_or_foreach import names_implementation, use_implementation

MAKERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "Adagrad": torch.optim.Adagrad,
}


def parameters(*dtypes: torch.dtype) -> list[nn.Parameter]:
    return [nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4).to(dtype)) for dtype in dtypes or (torch.float32,)]


def trained(optimizer: Optimizer, params: list[nn.Parameter], steps: int = 5) -> list[Tensor]:
    for step in range(steps):
        for parameter in params:
            parameter.grad = torch.sin(parameter.detach() + step)
        optimizer.step()
    return [parameter.detach().clone() for parameter in params]


def choice(optimizer: Optimizer) -> list[tuple[Any, Any]]:
    return [(group.get("fused"), group.get("foreach")) for group in optimizer.param_groups]


@pytest.mark.parametrize("name", MAKERS)
def test_fused_is_chosen_and_updates_as_if_it_had_been_asked_for(name: str) -> None:
    chosen, asked = parameters(), parameters()
    optimizer = MAKERS[name](chosen, lr=0.1)

    assert choose_implementation(optimizer)

    assert choice(optimizer) == [(True, False)]
    expected = trained(MAKERS[name](asked, lr=0.1, fused=True), asked)
    torch.testing.assert_close(trained(optimizer, chosen), expected, rtol=0, atol=0)


def test_foreach_is_chosen_where_a_class_has_no_fused_kernel() -> None:
    chosen, asked = parameters(), parameters()
    optimizer = torch.optim.NAdam(chosen, lr=0.1)

    assert choose_implementation(optimizer)

    assert choice(optimizer) == [(None, True)]
    expected = trained(torch.optim.NAdam(asked, lr=0.1, foreach=True), asked)
    torch.testing.assert_close(trained(optimizer, chosen), expected, rtol=0, atol=0)


def test_one_parameter_that_cannot_be_fused_decides_for_all() -> None:
    params = parameters(torch.float32, torch.complex64)
    optimizer = torch.optim.AdamW([{"params": [p]} for p in params], lr=0.1)

    assert choose_implementation(optimizer)

    assert choice(optimizer) == [(False, True), (False, True)]


def test_a_differentiable_step_is_made_one_parameter_after_the_other() -> None:
    optimizer = torch.optim.AdamW(parameters(), lr=0.1, differentiable=True)

    assert choose_implementation(optimizer)

    assert choice(optimizer) == [(False, False)]


@pytest.mark.parametrize("params", [[nn.Parameter(torch.ones(2, device="meta"))], nn.LazyLinear(2).parameters()])
def test_nothing_is_chosen_for_parameters_that_are_still_to_be_made(params: Any) -> None:
    optimizer = torch.optim.AdamW(params, lr=0.1)

    assert not choose_implementation(optimizer)

    assert choice(optimizer) == [(None, None)]


def test_an_optimizer_without_either_option_is_left_alone() -> None:
    optimizer = torch.optim.LBFGS(parameters())
    before = dict(optimizer.param_groups[0])

    assert choose_implementation(optimizer)

    assert optimizer.param_groups[0] == before


def test_training_goes_on_where_the_implementation_changes() -> None:
    changed, steady = parameters(torch.float64), parameters(torch.float64)
    optimizer = torch.optim.AdamW(changed, lr=0.1)
    assert choose_implementation(optimizer)
    trained(optimizer, changed)

    use_implementation(optimizer, fused=False)

    assert choice(optimizer) == [(False, True)]
    expected = trained(torch.optim.AdamW(steady, lr=0.1, foreach=False), steady, steps=5)
    torch.testing.assert_close([p.detach() for p in changed], expected, rtol=1e-12, atol=1e-12)
    trained(optimizer, changed)
    assert {float(state["step"]) for state in optimizer.state.values()} == {10.0}


@pytest.mark.parametrize(
    ("options", "named"), [({}, False), ({"fused": None}, False), ({"fused": False}, True), ({"foreach": True}, True)]
)
def test_a_group_may_name_its_implementation_itself(options: dict[str, Any], named: bool) -> None:
    optimizer = torch.optim.AdamW([{"params": parameters(), **options}], lr=0.1)

    assert names_implementation(optimizer.param_groups[0]) is named


def test_a_count_of_updates_that_is_a_number_stays_one() -> None:
    params = parameters(torch.complex64)
    optimizer = torch.optim.AdamW(params, lr=0.1)
    optimizer.state[params[0]]["step"] = 3

    assert choose_implementation(optimizer)

    assert optimizer.state[params[0]]["step"] == 3
