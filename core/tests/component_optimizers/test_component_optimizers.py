"""`ComponentOptimizers`: a mapping of optimizers that a training loop drives as one."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.configuration.reading import ComponentSpec
from optim_core.errors import EvaluationModeError, StateMismatchError


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


@pytest.fixture
def models() -> dict[str, nn.Linear]:
    torch.manual_seed(0)
    return {"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)}


def make(models: Mapping[str, nn.Linear], **kwargs: Any) -> ComponentOptimizers:
    return ComponentOptimizers(
        {
            "backbone": torch.optim.Adam(models["backbone"].parameters(), lr=0.01),
            "head": torch.optim.SGD(models["head"].parameters(), lr=0.1, momentum=0.9),
        },
        **kwargs,
    )


def backward(models: Mapping[str, nn.Linear]) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    models["head"](models["backbone"](x)).square().mean().backward()


def weights(models: Mapping[str, nn.Linear]) -> list[torch.Tensor]:
    return [p.detach().clone() for module in models.values() for p in module.parameters()]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_it_is_a_mapping_in_the_order_given(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)

    assert isinstance(optimizers, Mapping)
    assert list(optimizers) == list(optimizers.keys()) == ["backbone", "head"]
    assert len(optimizers) == 2
    assert "head" in optimizers
    assert "nonsense" not in optimizers
    assert [type(o) for o in optimizers.values()] == [torch.optim.Adam, torch.optim.SGD]
    assert dict(optimizers.items())["head"] is optimizers["head"]
    assert optimizers.get("nonsense") is None


def test_it_equals_itself_only_and_can_be_hashed(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)

    assert optimizers == optimizers
    assert optimizers != make(models)
    assert optimizers != dict(optimizers)
    assert len({optimizers, optimizers}) == 1


def test_an_unknown_component_names_the_nearest(models: dict[str, nn.Linear]) -> None:
    with pytest.raises(KeyError, match=r"'bakbone' has no optimizer; did you mean 'backbone'\?"):
        make(models)["bakbone"]


def test_an_unknown_component_far_from_all_lists_them(models: dict[str, nn.Linear]) -> None:
    with pytest.raises(KeyError, match="'xyzzy' has no optimizer; there are backbone, head"):
        make(models)["xyzzy"]


def test_an_unknown_component_of_nothing() -> None:
    with pytest.raises(KeyError, match="'net' has no optimizer; there are none"):
        ComponentOptimizers({})["net"]


def test_a_skipped_component_says_so(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models, skipped=["teacher"])

    assert "teacher" not in optimizers
    assert optimizers.skipped == ("teacher",)
    with pytest.raises(KeyError, match="'teacher' has no optimizer: it was skipped, as nothing in it is trainable"):
        optimizers["teacher"]


def test_step_is_a_step_of_each_optimizer(models: dict[str, nn.Linear]) -> None:
    others = copy.deepcopy(models)
    adam = torch.optim.Adam(others["backbone"].parameters(), lr=0.01)
    sgd = torch.optim.SGD(others["head"].parameters(), lr=0.1, momentum=0.9)
    optimizers = make(models)

    for _ in range(3):
        backward(models)
        optimizers.step()
        optimizers.zero_grad()
        backward(others)
        adam.step()
        sgd.step()
        adam.zero_grad()
        sgd.zero_grad()

    assert equal(weights(models), weights(others))


def test_zero_grad_takes_gradients_away_or_sets_them_to_zero(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)
    parameters = [p for module in models.values() for p in module.parameters()]
    backward(models)

    optimizers.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in parameters)

    optimizers.zero_grad()
    assert all(p.grad is None for p in parameters)


def test_learning_rates_are_those_of_the_first_groups(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)
    optimizers["head"].add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 7.0})
    optimizers["backbone"].param_groups[0]["lr"] = torch.tensor(0.25)

    assert optimizers.learning_rates() == {"backbone": 0.25, "head": 0.1}
    assert all(type(rate) is float for rate in optimizers.learning_rates().values())


def test_learning_rate_of_a_schedule_free_optimizer_is_the_scheduled_one(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)
    optimizers["head"].param_groups[0]["scheduled_lr"] = 0.05

    assert optimizers.learning_rates()["head"] == 0.05


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


def trained(models: dict[str, nn.Linear], steps: int = 2) -> ComponentOptimizers:
    optimizers = make(models)
    for _ in range(steps):
        backward(models)
        optimizers.step()
        optimizers.zero_grad()
    return optimizers


def test_state_is_by_component(models: dict[str, nn.Linear]) -> None:
    optimizers = trained(models)

    assert list(optimizers.state_dict()) == ["backbone", "head"]
    assert optimizers.state_dict()["backbone"]["state"][0]["step"] == 2


def test_training_goes_on_from_a_loaded_state_bit_for_bit(models: dict[str, nn.Linear]) -> None:
    optimizers = trained(models)
    resumed_models = copy.deepcopy(models)
    resumed = make(resumed_models)

    resumed.load_state_dict(copy.deepcopy(optimizers.state_dict()))
    for some_models, some in ((models, optimizers), (resumed_models, resumed)):
        backward(some_models)
        some.step()

    assert equal(weights(models), weights(resumed_models))


@pytest.mark.parametrize("change", [lambda s: s.pop("head"), lambda s: s.update(extra=s["head"])])
def test_a_state_of_other_components_is_refused(models: dict[str, nn.Linear], change: Any) -> None:
    optimizers = make(models)
    state = optimizers.state_dict()
    change(state)

    with pytest.raises(StateMismatchError, match=r"the optimizers are of \['backbone', 'head'\]"):
        optimizers.load_state_dict(state)


def flat(value: Any) -> Any:
    """A state as plain values, to be compared with ==."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: flat(item) for key, item in value.items()}
    return [flat(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_where_the_second_refuses_its_state_all_are_as_they_were(models: dict[str, nn.Linear]) -> None:
    optimizers = trained(models)
    before = flat(optimizers.state_dict())
    others = {"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)}
    state = trained(others, steps=5).state_dict()
    state["head"]["param_groups"][0]["params"] = [0]
    assert flat(state["backbone"]) != before["backbone"]

    with pytest.raises(StateMismatchError, match="component 'head': ") as caught:
        optimizers.load_state_dict(state)

    assert isinstance(caught.value.__cause__, ValueError)
    assert flat(optimizers.state_dict()) == before


def test_where_anything_else_fails_all_are_as_they_were(models: dict[str, nn.Linear]) -> None:
    optimizers = trained(models)
    before = flat(optimizers.state_dict())
    state = trained({"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)}, steps=5).state_dict()

    def fail(optimizer: torch.optim.Optimizer) -> None:
        raise RuntimeError("no memory")

    optimizers["head"].register_load_state_dict_post_hook(fail)
    with pytest.raises(RuntimeError, match="no memory"):
        optimizers.load_state_dict(state)

    assert flat(optimizers.state_dict()) == before


def test_training_goes_on_unharmed_after_a_refused_state(models: dict[str, nn.Linear]) -> None:
    optimizers = trained(models)
    twin_models = copy.deepcopy(models)
    twin = make(twin_models)
    twin.load_state_dict(copy.deepcopy(optimizers.state_dict()))
    wrong = trained({"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)}, steps=5).state_dict()
    wrong["head"]["param_groups"] = []

    with pytest.raises(StateMismatchError):
        optimizers.load_state_dict(wrong)
    for some_models, some in ((models, optimizers), (twin_models, twin)):
        backward(some_models)
        some.step()

    assert equal(weights(models), weights(twin_models))


def test_summary_says_who_owns_how_many_parameters(models: dict[str, nn.Linear]) -> None:
    models["backbone"].bias.requires_grad_(False)
    optimizers = make(
        models,
        specs={"backbone": ComponentSpec("backbone", "adam"), "teacher": ComponentSpec("teacher", "sgd")},
        skipped=["teacher"],
    )

    owners, groups = ([line.split() for line in table.splitlines()] for table in optimizers.summary().split("\n\n"))

    assert owners == [
        ["component", "type", "optimizer", "parameters", "trainable", "learning", "rate"],
        ["backbone", "adam", "Adam", "16", "12", "0.01"],
        ["head", "SGD", "10", "10", "0.1"],
        ["teacher", "sgd", "(skipped:", "frozen)", "0"],
    ]
    assert groups == [
        ["component", "group", "rule", "tensors", "parameters", "peak", "lr", "weight", "decay"],
        ["backbone", "0", "(base)", "1", "12", "0.01", "0"],
        ["backbone", "0", "(base)", "1", "4", "frozen", "0"],
        ["head", "0", "(base)", "2", "10", "0.1", "0"],
    ]
    assert repr(optimizers) == f"ComponentOptimizers\n{optimizers.summary()}"


def test_columns_of_the_summary_line_up() -> None:
    big = ComponentOptimizers({"net": torch.optim.SGD([nn.Parameter(torch.zeros(1000, 1000))], lr=1e-4)})

    owners, groups = big.summary().split("\n\n")
    header, row = owners.splitlines()

    assert len(set(map(len, groups.splitlines()))) == 1
    assert row.split()[-3:] == ["1,000,000", "1,000,000", "0.0001"]
    assert len(header) == len(row)
    assert header.index("optimizer") == row.index("SGD")


def test_summary_of_nothing_is_its_header() -> None:
    assert ComponentOptimizers({}).summary().split()[:2] == ["component", "type"]


def test_initial_options_stay_what_the_optimizer_was_built_with(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models)

    optimizers["head"].param_groups[0]["lr"] = 99.0

    (options,) = optimizers.initial_options("head")
    assert options["lr"] == 0.1
    assert options["momentum"] == 0.9
    assert "params" not in options


def test_parameters_are_by_name_within_the_component(models: dict[str, nn.Linear]) -> None:
    optimizers = make(models, parameters={"head": dict(models["head"].named_parameters())})

    assert optimizers.parameters_of("head")["bias"] is models["head"].bias
    assert optimizers.parameters_of("backbone") == {}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_trains_like_the_original_and_apart_from_it(models: dict[str, nn.Linear], duplicate: Any) -> None:
    optimizers = trained(models)

    copied_models, copied = duplicate((models, optimizers))
    for some_models, some in ((models, optimizers), (copied_models, copied)):
        backward(some_models)
        some.step()

    assert equal(weights(models), weights(copied_models))
    assert copied["head"].param_groups[0]["params"][0] is copied_models["head"].weight
    assert copied["head"].param_groups[0]["params"][0] is not models["head"].weight
    assert copied.summary() == optimizers.summary()


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


def test_closure_is_called_once_with_gradients_before_all_updates(models: dict[str, nn.Linear]) -> None:
    optimizers, calls = make(models), []
    before = weights(models)
    oracle_models = copy.deepcopy(models)
    oracle = make(oracle_models)

    def closure() -> float:
        calls.append((torch.is_grad_enabled(), equal(before, weights(models))))
        optimizers.zero_grad()
        backward(models)
        return 0.25

    with torch.no_grad():
        assert optimizers.step(closure) == 0.25
    backward(oracle_models)
    assert oracle.step() is None
    assert calls == [(True, True)]
    assert equal(weights(models), weights(oracle_models))


def test_closure_is_not_called_where_an_optimizer_is_in_evaluation_mode(models: dict[str, nn.Linear]) -> None:
    optimizers = ComponentOptimizers({"backbone": Averaging(models["backbone"].parameters())})
    optimizers.eval()
    with pytest.raises(EvaluationModeError):
        optimizers.step(lambda: pytest.fail("called"))
