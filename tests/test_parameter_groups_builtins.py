"""Rules and policies with the three built-ins, against PyTorch's and schedulefree's own classes over groups by hand."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import schedulefree
import torch
from torch import nn

from optim_core import ConfigurationError, build_optimizers
from optim_core.discovery import hooks
from optim_core.discovery.hooks import hook_manager
from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY

PARAMS: dict[str, dict[str, Any]] = {
    "adamw_warmup_cosine_decay": {"peak_lr": 0.1, "total_steps": 8, "warmup_steps": 2, "end_lr": 0.02},
    "adamw_cosine_schedule": {"max_lr": 0.1, "total_steps": 8},
    "schedule_free_radam": {"lr": 0.1, "silent_sgd_phase": False},
}
ENTRIES = [
    {"match": "0.bias", "freeze": True},
    {"match": "^0", "lr_scale": 0.25, "weight_decay": "1e-1"},
    {"match": "2.bias", "lr": 0.05},
    "no_weight_decay",
]
# The same by hand: names, rate at its peak, weight decay.
BY_HAND: Sequence[tuple[list[str], float, float]] = [
    (["2.weight"], 0.1, 0.3),
    (["1.weight", "1.bias"], 0.1, 0.0),
    (["0.weight"], 0.025, 0.1),
    (["2.bias"], 0.05, 0.0),
]


@pytest.fixture(autouse=True)
def _own_hook_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_manager", None)


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2))


def build(net: nn.Module, key: str, entries: Any, **more: Any) -> Any:
    params = {**PARAMS[key], "weight_decay": 0.3, **more}
    return build_optimizers({"net": net}, {"net": {"type": key, "params": params, "param_groups": entries}})["net"]


def trained(net: nn.Module, optimizer: Any, before: Callable[[int], None] = lambda step: None) -> None:
    for step in range(7):
        before(step)
        optimizer.zero_grad()
        net(torch.randn(5, 3, generator=torch.Generator().manual_seed(step))).square().sum().backward()
        optimizer.step()


def hand_made(net: nn.Module) -> list[dict[str, Any]]:
    net.get_parameter("0.bias").requires_grad_(False)
    return [
        {"params": [net.get_parameter(name) for name in names], "lr": peak, "weight_decay": decay}
        for names, peak, decay in BY_HAND
    ]


def assert_same(net: nn.Module, other: nn.Module) -> None:
    for (name, parameter), (_, expected) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, msg=lambda text, name=name: f"{name}: {text}")


def share(step: int) -> float:
    """Of a peak of 0.1: warmup of two steps from 0, then half a cosine to a fifth at step 7."""
    return step / 2 if step < 2 else 0.2 + 0.8 * (1 + math.cos(math.pi * (step - 2) / 5)) / 2


@pytest.mark.parametrize("way", [{}, {"foreach": True}, {"fused": True}, {"foreach": False}])
def test_warmup_cosine_by_rules_is_adamw_by_hand(net: nn.Module, way: dict[str, bool]) -> None:
    other = deepcopy(net)
    reference = torch.optim.AdamW(hand_made(other), foreach=False)

    def set_rates(step: int) -> None:
        for group, (_, peak, _) in zip(reference.param_groups, BY_HAND, strict=True):
            group["lr"] = peak * share(step)

    trained(net, build(net, "adamw_warmup_cosine_decay", ENTRIES, **way))
    trained(other, reference, set_rates)
    assert_same(net, other)


def test_one_cycle_by_rules_is_pytorchs_with_a_list_of_peaks(net: nn.Module) -> None:
    other = deepcopy(net)
    reference = torch.optim.AdamW(hand_made(other), foreach=False)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(reference, [peak for _, peak, _ in BY_HAND], 8)

    def move(step: int) -> None:
        if step:
            scheduler.step()

    trained(net, build(net, "adamw_cosine_schedule", ENTRIES))
    trained(other, reference, move)
    assert_same(net, other)


def test_schedule_free_by_rules_is_the_librarys_with_groups_by_hand(net: nn.Module) -> None:
    other = deepcopy(net)
    reference = schedulefree.RAdamScheduleFree(hand_made(other), lr=0.1, silent_sgd_phase=False)
    optimizer = build(net, "schedule_free_radam", ENTRIES)
    reference.train()
    trained(net, optimizer)
    trained(other, reference)
    assert_same(net, other)
    optimizer.eval()
    reference.eval()
    assert_same(net, other)


@pytest.mark.parametrize("key", PARAMS)
def test_layer_decay_scales_the_peaks(net: nn.Module, key: str) -> None:
    groups = build(net, key, [{"layer_decay": 0.5}]).param_groups
    assert {n: g.get("peak_lr", g["lr"]) for g in groups for n in g["param_names"]} == pytest.approx(
        {"0.weight": 0.025, "0.bias": 0.025, "1.weight": 0.05, "1.bias": 0.05, "2.weight": 0.1, "2.bias": 0.1}
    )
    assert groups[0]["param_names"] == ["2.weight", "2.bias"]


@pytest.mark.parametrize("key", PARAMS)
def test_no_weight_decay_makes_two_groups(net: nn.Module, key: str) -> None:
    groups = build(net, key, ["no_weight_decay"]).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(2, 0.3), (4, 0.0)]


@pytest.mark.parametrize("key", PARAMS)
def test_a_rule_with_zero_and_the_policy_make_one_group(net: nn.Module, key: str) -> None:
    assert len(build(net, key, [{"match": "0.weight", "weight_decay": 0}, "no_weight_decay"]).param_groups) == 2


@pytest.mark.parametrize("key", ["adamw_warmup_cosine_decay", "adamw_cosine_schedule"])
def test_adamw_stays_fused(net: nn.Module, key: str) -> None:
    assert all(g["fused"] for g in build(net, key, ENTRIES).param_groups)


@pytest.mark.parametrize("key", ["adamw_warmup_cosine_decay", "adamw_cosine_schedule"])
def test_rates_in_tensors_stay_so(net: nn.Module, key: str) -> None:
    groups = build(net, key, ENTRIES, capturable=True).param_groups
    assert all(isinstance(g["lr"], torch.Tensor) for g in groups)
    assert len({id(g["lr"]) for g in groups}) == len(groups) == 4
    assert [g["peak_lr"] for g in groups] == pytest.approx([0.1, 0.1, 0.025, 0.05])


@pytest.mark.parametrize("key", PARAMS)
def test_values_are_checked_as_the_factorys_own(net: nn.Module, key: str) -> None:
    rule = {"match": "^0", "weight_decay": -1, "betas": [0.9, 1.5], "eps": "small"}
    with pytest.raises(ConfigurationError) as caught:
        build(net, key, [rule])
    assert sorted(p.path for p in caught.value.problems) == [
        "net.param_groups[0].betas[1]",
        "net.param_groups[0].eps",
        "net.param_groups[0].weight_decay",
    ]


PEAK_HINT = "A group's own rate is its 'lr', the peak where there is a schedule; 'lr_scale' multiplies it"


def test_the_peak_of_one_cycle_is_lr_in_a_rule(net: nn.Module) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(net, "adamw_cosine_schedule", [{"match": "^0", "max_lr": 0.5}])
    (problem,) = caught.value.problems
    assert str(problem) == f"net.param_groups[0].max_lr: the optimizer's groups have no such option. {PEAK_HINT}"


@pytest.mark.parametrize("key", PARAMS)
def test_the_horizon_is_no_option_of_a_group(net: nn.Module, key: str) -> None:
    for option in ("total_steps", "schedule_step", "initial_lr"):
        with pytest.raises(ConfigurationError, match="no such option"):
            build(net, key, [{"match": "^0", option: 5}])


@pytest.mark.parametrize("key", PARAMS)
def test_the_table_has_the_rates_at_their_peaks(net: nn.Module, key: str) -> None:
    params = {**PARAMS[key], "weight_decay": 0.3}
    optimizers = build_optimizers({"net": net}, {"net": {"type": key, "params": params, "param_groups": ENTRIES}})
    rows = [line.split("  ") for line in optimizers.summary().partition("\n\n")[2].splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        ["component", "group", "rule", "tensors", "parameters", "peak lr", "weight decay"],
        ["net", "0", "(base)", "1", "6", "0.1", "0.3"],
        ["net", "1", "match 0.bias + no_weight_decay", "1", "3", "frozen", "0"],
        ["net", "1", "no_weight_decay", "2", "6", "0.1", "0"],
        ["net", "2", "match ^0", "1", "9", "0.025", "0.1"],
        ["net", "3", "match 2.bias + no_weight_decay", "1", "2", "0.05", "0"],
    ]
    assert "1.bias" in optimizers.summary(verbose=True)


SOURCE = Path(__file__).parents[1] / "examples/optim-muon/src"
MUON = "muon_adamw_warmup_cosine"


@pytest.fixture
def muon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Builds the example's optimizer, which parts groups by itself and by a hook."""
    monkeypatch.syspath_prepend(SOURCE)
    from optim_muon import MuonAdamWFactory
    from optim_muon import hooks as of_muon

    OPTIMIZER_BUILDER_REGISTRY.register(MUON, MuonAdamWFactory)
    hook_manager().register(of_muon, name="muon")

    def built(entries: Any, **params: Any) -> dict[str, dict[str, Any]]:
        net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 9))
        params = {"peak_lr": 1e-3, "total_steps": 10, "warmup_steps": 2, **params}
        made = build_optimizers({"net": net}, {"net": {"type": MUON, "params": params, "param_groups": entries}})
        return {name: group for group in made["net"].param_groups for name in group["param_names"]}

    yield built
    OPTIMIZER_BUILDER_REGISTRY.unregister(MUON)
    for name in [name for name in sys.modules if name.split(".")[0] == "optim_muon"]:
        del sys.modules[name]


def test_muon_has_each_algorithms_rate_scaled(muon: Callable[..., Any]) -> None:
    group_of = muon([{"match": "^1", "lr_scale": 0.5}, {"layer_decay": 1}], adamw_peak_lr=1e-2)
    assert {name: (group["algorithm"], group["peak_lr"]) for name, group in group_of.items()} == {
        "0.weight": ("adamw", 1e-2),
        "1.weight": ("muon", 5e-4),
        "1.bias": ("adamw", 5e-3),
        "2.weight": ("muon", 1e-3),
        "2.bias": ("adamw", 1e-2),
        "3.weight": ("adamw", 1e-2),
        "3.bias": ("adamw", 1e-2),
    }


@pytest.mark.parametrize(
    ("rule", "option"),
    [({"match": "^1.weight", "momentum": 0.5}, "momentum"), ({"match": "^1.bias", "betas": [0.5, 0.6]}, "betas")],
)
def test_muon_takes_an_option_of_the_algorithm_that_all_matches_are_for(
    muon: Callable[..., Any], rule: dict[str, Any], option: str
) -> None:
    group_of = muon([rule])
    wanted = rule[option]
    found = group_of[rule["match"][1:]][option]
    assert found == (tuple(wanted) if isinstance(wanted, list) else wanted)


def test_muon_refuses_an_option_of_the_other_algorithm(muon: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"net\.param_groups\[0\]\.betas: .* no such option"):
        muon([{"match": "^1.weight", "betas": [0.5, 0.6]}])


def test_what_one_cycle_drives_is_left_to_it_and_makes_no_groups(net: nn.Module) -> None:
    groups = build(net, "adamw_cosine_schedule", [{"match": "^0", "betas": [0.5, 0.999]}]).param_groups
    assert len(groups) == 1
    groups = build(net, "adamw_cosine_schedule", [{"match": "^0", "betas": [0.5, 0.9]}]).param_groups
    assert [(group["betas"][0] == 0.95, group["betas"][1]) for group in groups] == [(True, 0.999), (True, 0.9)]


@pytest.mark.parametrize("name", ["k", "weight_sum", "lr_max", "scheduled_lr", "train_mode"])
def test_the_counters_of_schedule_free_are_no_options(net: nn.Module, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"net\.param_groups\[0\]\.{name}: .*no such option"):
        build(net, "schedule_free_radam", [{"match": "^0", name: 1}])
