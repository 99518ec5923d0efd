"""The optimizer against PyTorch's own of either algorithm, with the rates set by hand."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from optim_core import InvalidArgumentsError, StateMismatchError
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from optim_muon import MuonAdamWFactory, MuonAdamWWithWarmupCosine

SHAPE: dict[str, Any] = {"peak_lr": 0.02, "total_steps": 12, "warmup_steps": 4, "start_lr": 1e-3, "end_lr": 2e-3}


def rate(step: int, peak: float = 0.02) -> float:
    share = peak / 0.02
    if step < 4:
        return share * (1e-3 + (0.02 - 1e-3) * step / 4)
    progress = min(1.0, (step - 4) / (11 - 4))
    return share * (2e-3 + (0.02 - 2e-3) * (1 + math.cos(math.pi * progress)) / 2)


def model() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4), nn.Tanh(), nn.Linear(4, 3))


def update(module: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    inputs = torch.linspace(number, number + 2, 30).reshape(5, 6).sin()
    optimizer.zero_grad()
    torch.autograd.backward(module(inputs).square().mean())
    optimizer.step()


def matrices_and_rest(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    parameters = list(module.parameters())
    return [p for p in parameters if p.ndim == 2], [p for p in parameters if p.ndim != 2]


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(map(torch.equal, weights(first), weights(second)))


@pytest.mark.parametrize(
    ("muon", "adamw"),
    [
        ({}, {}),
        ({"momentum": 0.9, "nesterov": False, "weight_decay": 0.3}, {"betas": (0.8, 0.9), "eps": 1e-6}),
        ({"ns_steps": 3, "adjust_lr_fn": "original"}, {"weight_decay": 0.2}),
    ],
    ids=str,
)
def test_updates_are_those_of_pytorchs_two_optimizers(muon: dict[str, Any], adamw: dict[str, Any]) -> None:
    ours, theirs = model(), model()
    arguments = {**muon, **{f"adamw_{name}": value for name, value in adamw.items()}}
    optimizer = MuonAdamWFactory(**SHAPE, **arguments).build(ours.parameters())
    matrices, rest = matrices_and_rest(theirs)
    first = torch.optim.Muon(matrices, **{"weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw", **muon})
    second = torch.optim.AdamW(rest, **{"betas": (0.9, 0.95), "weight_decay": 0.0, **adamw})

    for step in range(12):
        first.param_groups[0]["lr"] = second.param_groups[0]["lr"] = rate(step)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate(step)] * 2)
        second.zero_grad()
        update(theirs, first, step)
        second.step()
        update(ours, optimizer, step)

        torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-6, atol=1e-7)


def test_group_without_an_algorithm_is_parted() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Linear(4, 5), nn.LayerNorm(5))
    given = {"params": list(module.parameters()), "lr": 0.5, "betas": (0.5, 0.6), "momentum": 0.7}
    before = copy.copy(given)

    optimizer = MuonAdamWWithWarmupCosine([given], **SHAPE)

    found = [(group["algorithm"], [p.ndim for p in group["params"]]) for group in optimizer.param_groups]
    assert found == [("muon", [2]), ("adamw", [4, 1, 1, 1, 1])]
    assert [group["peak_lr"] for group in optimizer.param_groups] == [0.5, 0.5]
    muon, adamw = optimizer.param_groups
    assert (muon["momentum"], adamw["betas"]) == (0.7, (0.5, 0.6))
    assert "betas" not in muon
    assert "momentum" not in adamw
    assert given == before


def test_names_go_with_their_parameters() -> None:
    optimizer = MuonAdamWWithWarmupCosine(model().named_parameters(), **SHAPE)

    names = [group["param_names"] for group in optimizer.param_groups]
    assert names == [["0.weight", "2.weight", "4.weight"], ["0.bias", "2.bias", "4.bias"]]


def test_algorithm_of_a_group_is_kept() -> None:
    matrices, rest = matrices_and_rest(model())
    groups: list[dict[str, Any]] = [
        {"params": matrices[:1], "algorithm": "adamw"},
        {"params": rest},
        {"params": matrices[1:]},
    ]

    optimizer = MuonAdamWWithWarmupCosine(groups, **SHAPE)

    assert [group["algorithm"] for group in optimizer.param_groups] == ["adamw", "adamw", "muon"]


def test_adamw_has_a_peak_of_its_own() -> None:
    module = model()
    optimizer = MuonAdamWWithWarmupCosine(module.parameters(), **SHAPE, adamw_peak_lr=0.005)

    for step in range(12):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate(step))
        assert optimizer.param_groups[1]["lr"] == pytest.approx(rate(step, 0.005))
        update(module, optimizer, step)


def test_group_added_later_is_parted_and_joins_the_schedule() -> None:
    module = model()
    optimizer = MuonAdamWWithWarmupCosine(module[0].parameters(), **SHAPE, adamw_peak_lr=0.005)
    for _ in range(3):
        optimizer.step()
    optimizer.add_param_group({"params": module[2].parameters()})

    assert [group["schedule_step"] for group in optimizer.param_groups] == [3] * 4
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate(3), rate(3, 0.005)] * 2)
    for step in range(3, 6):
        update(module, optimizer, step)


def test_refused_group_leaves_no_part_behind() -> None:
    module = model()
    optimizer = MuonAdamWWithWarmupCosine(module[0].parameters(), **SHAPE)

    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [module[2].weight, module[0].bias]})

    assert len(optimizer.param_groups) == 2
    update(module, optimizer, 0)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"algorithm": "lion"}, "algorithm = 'lion': must be one of 'muon', 'adamw'"),
        ({"algorithm": "muon", "params": [torch.ones(3)]}, r"float32 of shape \(3,\): Muon takes real matrices only"),
        ({"algorithm": "muon", "betas": (0.9, 0.9)}, "betas: is no option of a parameter group for 'muon'"),
        ({"algorithm": "adamw", "momentum": 0.9}, "momentum: is no option of a parameter group for 'adamw'"),
        ({"betas": (0.9, 0.9)}, "betas: is no option of a parameter group for 'muon'"),
        ({"momentum": 1.5}, "momentum = 1.5: must be less than 1"),
        ({"algorithm": "adamw", "betas": (0.9, 1.0)}, r"adamw_betas\[1\] = 1.0: must be less than 1"),
        ({"lr": -1.0}, "must be a finite number, zero or more"),
    ],
    ids=str,
)
def test_wrong_group_is_refused(group: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=message):
        MuonAdamWWithWarmupCosine([{"params": [torch.ones(3, 3)], **group}], **SHAPE)


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        MuonAdamWFactory(peak_lr=0.0, total_steps=5, warmup_steps=5, adjust_lr_fn="none", adamw_peak_lr=-1)  # type: ignore[arg-type]

    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"peak_lr", "warmup_steps", "adjust_lr_fn", "adamw_peak_lr"}


@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy"])
def test_training_goes_on_bit_for_bit(way: str) -> None:
    module = model()
    optimizer = MuonAdamWWithWarmupCosine(module.parameters(), **SHAPE)
    for step in range(5):
        update(module, optimizer, step)
    if way == "state_dict":
        resumed = model()
        resumed.load_state_dict(module.state_dict())
        other = MuonAdamWWithWarmupCosine(resumed.parameters(), **SHAPE)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    elif way == "pickle":
        resumed, other = pickle.loads(pickle.dumps((module, optimizer)))
    else:
        resumed, other = copy.deepcopy((module, optimizer))

    for step in range(5, 10):
        update(module, optimizer, step)
        update(resumed, other, step)
        assert same(module, resumed)
    other.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))]})
    assert other.param_groups[-1]["weight_decay"] == 0.1


def test_state_of_another_kind_of_optimizer_is_refused() -> None:
    module = model()
    optimizer = MuonAdamWWithWarmupCosine(module.parameters(), **SHAPE)
    matrices, rest = matrices_and_rest(module)
    other = torch.optim.AdamW([{"params": matrices}, {"params": rest}])
    update(module, other, 0)
    before = copy.deepcopy(optimizer.state_dict())

    with pytest.raises(StateMismatchError, match=r"group 0 is for 'muon'.*of another kind of optimizer"):
        optimizer.load_state_dict(other.state_dict())

    assert optimizer.state_dict() == before


def test_state_of_other_algorithms_is_refused() -> None:
    module = model()
    matrices, rest = matrices_and_rest(module)
    groups: list[dict[str, Any]] = [{"params": matrices, "algorithm": "adamw"}, {"params": rest}]
    saved = MuonAdamWWithWarmupCosine(groups, **SHAPE).state_dict()

    with pytest.raises(StateMismatchError, match="group 0 is for 'muon', and in the checkpoint for 'adamw'"):
        MuonAdamWWithWarmupCosine(module.parameters(), **SHAPE).load_state_dict(saved)


def test_state_without_an_option_of_this_pytorch_is_completed() -> None:
    module = model()
    optimizer = MuonAdamWWithWarmupCosine(module.parameters(), **SHAPE)
    state = copy.deepcopy(optimizer.state_dict())
    for group, name in zip(state["param_groups"], ("ns_coefficients", "foreach"), strict=True):
        del group[name]

    optimizer.load_state_dict(state)
    update(module, optimizer, 0)

    assert [name in group for group, name in zip(optimizer.param_groups, ("eps", "foreach"), strict=True)] == [True] * 2


def test_step_hooks_run_once_and_closures_too() -> None:
    module, calls = model(), []
    optimizer = MuonAdamWWithWarmupCosine(module.parameters(), **SHAPE)
    handle = register_optimizer_step_pre_hook(lambda *_: calls.append("all"))
    optimizer.register_step_pre_hook(lambda *_: calls.append("own"))

    def closure() -> float:
        calls.append("closure")
        return 3.0

    try:
        assert optimizer.step(closure) == 3.0
    finally:
        handle.remove()

    assert calls == ["all", "own", "closure"]


def test_patterns_are_refused_where_there_are_no_names() -> None:
    factory = MuonAdamWFactory(**SHAPE, adamw_names=("head.*",))

    with pytest.raises(InvalidArgumentsError, match="adamw_names: the parameters to choose from have come without"):
        factory.build(model().parameters())
