"""Optimizers with modes: switched together, put back bit for bit, and no update while one evaluates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from core_support.two_components import backward, equal, weights
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.errors import EvaluationModeError


class Averaging(torch.optim.SGD):
    """Has two sets of weights, as schedule-free optimizers do; the way there and back rounds."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            group["train_mode"] = True
        self.calls: list[str] = []

    def train(self) -> None:
        self._switch("train", 3.0, to=True)

    def eval(self) -> None:
        self._switch("eval", 1 / 3.0, to=False)

    @torch.no_grad()
    def _switch(self, call: str, factor: float, *, to: bool) -> None:
        self.calls.append(call)
        for group in self.param_groups:
            if group["train_mode"] is not to:
                group["train_mode"] = to
                for p in group["params"]:
                    p.mul_(factor)


def test_train_and_eval_reach_the_optimizers_with_modes_only(models: dict[str, nn.Linear]) -> None:
    averaging = Averaging(models["head"].parameters())
    optimizers = ComponentOptimizers({"backbone": torch.optim.SGD(models["backbone"].parameters()), "head": averaging})
    before = weights(models)

    optimizers.eval()
    assert equal(weights(models)[:2], before[:2])
    assert equal(weights(models)[2:], [w * (1 / 3.0) for w in before[2:]])
    optimizers.train()

    assert averaging.calls == ["eval", "train"]


@pytest.fixture
def averaging(models: dict[str, nn.Linear]) -> ComponentOptimizers:
    return ComponentOptimizers({name: Averaging(module.parameters()) for name, module in models.items()})


def modes(optimizers: ComponentOptimizers) -> list[bool]:
    return [group["train_mode"] for optimizer in optimizers.values() for group in optimizer.param_groups]


def test_a_plain_round_trip_rounds_so_that_exactness_below_means_something(
    models: dict[str, nn.Linear], averaging: ComponentOptimizers
) -> None:
    before = weights(models)

    averaging.eval()
    averaging.train()

    assert not equal(weights(models), before)


def test_eval_mode_restores_the_weights_bit_for_bit(
    models: dict[str, nn.Linear], averaging: ComponentOptimizers
) -> None:
    before = weights(models)

    with averaging.eval_mode():
        assert modes(averaging) == [False, False]
        assert equal(weights(models), [w * (1 / 3.0) for w in before])

    assert modes(averaging) == [True, True]
    assert equal(weights(models), before)


def test_eval_mode_restores_the_weights_after_an_exception(
    models: dict[str, nn.Linear], averaging: ComponentOptimizers
) -> None:
    before = weights(models)

    with pytest.raises(RuntimeError, match="out of memory"), averaging.eval_mode():
        raise RuntimeError("out of memory")

    assert modes(averaging) == [True, True]
    assert equal(weights(models), before)


def test_eval_mode_restores_the_first_where_the_second_fails_to_switch(
    models: dict[str, nn.Linear], averaging: ComponentOptimizers, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights(models)

    def failing() -> None:
        raise RuntimeError("cannot switch")

    monkeypatch.setattr(averaging["head"], "eval", failing)
    with pytest.raises(RuntimeError, match="cannot switch"), averaging.eval_mode():
        pytest.fail("the block must not run")

    assert modes(averaging) == [True, True]
    assert equal(weights(models), before)


def test_eval_mode_leaves_an_optimizer_in_evaluation_mode_there(
    models: dict[str, nn.Linear], averaging: ComponentOptimizers
) -> None:
    averaging["head"].eval()  # type: ignore[attr-defined]
    before = weights(models)

    with averaging.eval_mode():
        assert modes(averaging) == [False, False]

    assert modes(averaging) == [True, False]
    assert equal(weights(models), before)


def test_eval_mode_may_be_nested(models: dict[str, nn.Linear], averaging: ComponentOptimizers) -> None:
    before = weights(models)

    with averaging.eval_mode():
        inside = weights(models)
        with averaging.eval_mode():
            assert equal(weights(models), inside)
        assert modes(averaging) == [False, False]
        assert equal(weights(models), inside)

    assert equal(weights(models), before)


def test_eval_mode_keeps_gradients_and_the_identity_of_parameters(
    models: dict[str, nn.Linear], averaging: ComponentOptimizers
) -> None:
    backward(models)
    parameter = models["head"].weight
    gradient = parameter.grad

    with averaging.eval_mode():
        pass

    assert models["head"].weight is parameter
    assert parameter.grad is gradient
    assert parameter.requires_grad


def test_no_optimizer_makes_an_update_while_one_is_in_evaluation_mode(averaging: ComponentOptimizers) -> None:
    parameters = [p for optimizer in averaging.values() for group in optimizer.param_groups for p in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    averaging.eval()
    before = [parameter.detach().clone() for parameter in parameters]

    with pytest.raises(EvaluationModeError, match=r"component '\w+'.*train\(\)"):
        averaging.step()

    assert equal(before, parameters)  # type: ignore[arg-type]


def test_an_interrupt_of_the_switch_back_restores_the_weights_all_the_same(
    models: dict[str, nn.Linear], averaging: ComponentOptimizers, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights(models)
    optimizer: Any = next(o for o in averaging.values() if hasattr(o, "train"))
    original, calls = optimizer.train, []

    def interrupted() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        original()

    monkeypatch.setattr(optimizer, "train", interrupted)
    with pytest.raises(KeyboardInterrupt), averaging.eval_mode():
        pass

    assert equal(weights(models), before)


def test_closure_is_not_called_where_an_optimizer_is_in_evaluation_mode(models: dict[str, nn.Linear]) -> None:
    optimizers = ComponentOptimizers({"backbone": Averaging(models["backbone"].parameters())})
    optimizers.eval()
    with pytest.raises(EvaluationModeError):
        optimizers.step(lambda: pytest.fail("called"))
