"""Rules: which parameters each one has, what it gives them, and how the groups come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

Named = Callable[..., list[list[str]]]
Groups = Callable[..., list[dict[str, Any]]]

CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "anywhere in the name": ({"match": "ias"}, ["0.bias", "1.bias", "2.bias"]),
    "with its signs": ({"match": r"^[01]\.w"}, ["0.weight", "1.weight"]),
    "by dimensions": ({"ndim": 2}, ["0.weight", "2.weight"]),
    "by class": ({"type": "LayerNorm"}, ["1.weight", "1.bias"]),
    "all conditions together": ({"type": "Linear", "ndim": 1, "match": "2"}, ["2.bias"]),
}


@pytest.mark.parametrize(("conditions", "names"), CASES.values(), ids=CASES)
def test_a_rule_is_for_what_meets_its_conditions(
    named: Named, net: nn.Module, conditions: dict[str, Any], names: list[str]
) -> None:
    everything = ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    assert named(net, [{**conditions, "lr": 0.5}]) == [[n for n in everything if n not in names], names]


def test_the_first_rule_that_matches_a_parameter_has_it(groups: Groups, net: nn.Module) -> None:
    rules = [{"match": "^0", "lr": 0.3}, {"match": "weight", "lr": 0.2, "weight_decay": 0.0}]
    found = {name: (g["lr"], g["weight_decay"]) for g in groups(net, rules) for name in g["param_names"]}
    assert found == {
        "0.weight": (0.3, 0.01),
        "0.bias": (0.3, 0.01),
        "1.weight": (0.2, 0.0),
        "2.weight": (0.2, 0.0),
        "1.bias": (0.1, 0.01),
        "2.bias": (0.1, 0.01),
    }


def test_a_rule_that_sets_nothing_exempts_its_matches_from_later_ones(named: Named, net: nn.Module) -> None:
    assert named(net, [{"match": "1.bias"}, {"match": "bias", "lr": 0.5}]) == [
        ["0.weight", "1.weight", "1.bias", "2.weight"],
        ["0.bias", "2.bias"],
    ]


def test_a_class_is_also_that_of_its_base_classes(named: Named) -> None:
    class Own(nn.LayerNorm):
        pass

    net = nn.Sequential(nn.Linear(2, 2), Own(2), nn.BatchNorm1d(2))
    assert named(net, [{"type": "LayerNorm", "lr": 0.5}])[1] == ["1.weight", "1.bias"]
    assert named(net, [{"type": "_BatchNorm", "lr": 0.5}])[1] == ["2.weight", "2.bias"]


def test_a_parameter_of_the_component_itself_has_the_components_class(named: Named) -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(2))
            self.linear = nn.Linear(2, 2)

    assert named(Scale(), [{"type": "Scale", "lr": 0.5}])[1] == ["factor"]


def test_a_tied_parameter_is_matched_by_each_of_its_names_and_classes(named: Named) -> None:
    net = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "norm": nn.LayerNorm(3), "head": nn.Linear(3, 5, bias=False)})
    net["head"].weight = net["embedding"].weight
    for rule in ({"match": "^head"}, {"match": "^embedding"}, {"type": "Linear"}, {"type": "Embedding"}):
        assert named(net, [{**rule, "lr": 0.5}])[1] == ["embedding.weight"]


def test_parametrized_modules_keep_their_class(named: Named) -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    nn.utils.parametrizations.weight_norm(net[0])
    parts = ["0.parametrizations.weight.original0", "0.parametrizations.weight.original1"]
    assert named(net, [{"type": "Linear", "lr": 0.5}])[1] == ["0.bias", *parts]
    assert named(net, [{"match": "original1", "lr": 0.5}])[1] == parts[1:]


def test_equal_groups_are_one_whichever_rules_they_are_of(groups: Groups, net: nn.Module) -> None:
    rules = [{"match": "0.weight", "lr": 0.05}, {"match": "bias", "lr_scale": 0.5}, {"match": "2.weight", "lr": 5e-2}]
    assert [g["lr"] for g in groups(net, rules)] == [0.1, 0.05]


@pytest.mark.parametrize("key", ["sgd", "adamw", "scheduled"])
def test_a_whole_number_and_the_same_with_a_point_make_one_group(groups: Groups, net: nn.Module, key: str) -> None:
    rules = [{"match": "0.weight", "weight_decay": 0}, {"match": "2.weight", "weight_decay": 0.0}]
    assert len(groups(net, rules, key)) == 2


def test_options_that_the_optimizer_has_anyway_make_no_group(named: Named, net: nn.Module) -> None:
    rules = [{"match": "bias", "lr": 0.1, "weight_decay": 0.01}, {"match": "0", "lr_scale": 1}]
    assert len(named(net, rules)) == 1


def test_groups_with_the_configured_rate_come_first(groups: Groups, net: nn.Module) -> None:
    rules = [{"match": "^0", "lr": 0.5}, {"type": "LayerNorm", "weight_decay": 0.0}]
    assert [(g["lr"], g["weight_decay"]) for g in groups(net, rules)] == [(0.1, 0.01), (0.1, 0.0), (0.5, 0.01)]


def test_numbers_may_be_written_as_text_with_an_exponent(groups: Groups, net: nn.Module) -> None:
    rules = [{"match": "^0", "lr": "1e-4"}, {"match": "^1", "lr_scale": "5e-1"}, {"match": "2", "weight_decay": "1e-3"}]
    assert [(g["lr"], g["weight_decay"]) for g in groups(net, rules)] == [(0.1, 0.001), (1e-4, 0.01), (0.05, 0.01)]


def test_a_tuple_option_may_be_a_list(groups: Groups, net: nn.Module) -> None:
    assert groups(net, [{"match": "bias", "betas": [0.8, "9e-1"]}], "adamw")[1]["betas"] == (0.8, 0.9)


def test_the_mapping_given_is_not_changed(named: Named, net: nn.Module) -> None:
    rule = {"match": "bias", "lr_scale": 0.5, "weight_decay": 0.0}
    before = dict(rule)
    named(net, [rule])
    assert rule == before


def test_frozen_parameters_stay_in_the_optimizer_and_do_not_move(groups: Groups, net: nn.Module) -> None:
    net(torch.ones(1, 3)).sum().backward()
    frozen = net[0].weight.detach().clone()
    made = groups(net, [{"match": "^0", "freeze": True}])
    assert made[0]["param_names"] == [name for name, _ in net.named_parameters()]
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True, True, True]
    assert (net[0].weight.grad, net[0].bias.grad) == (None, None)
    torch.optim.SGD(made, lr=1.0).step()
    assert torch.equal(net[0].weight, frozen)


def test_a_gradient_left_over_of_what_was_frozen_before_is_not_applied(
    build: Callable[..., Any], net: nn.Module
) -> None:
    net(torch.ones(1, 3)).sum().backward()
    net[0].weight.requires_grad_(False)
    before = net[0].weight.detach().clone()
    build(net, [{"match": "0.weight", "freeze": True}]).step()
    assert torch.equal(net[0].weight, before)


def test_a_component_that_rules_freeze_as_a_whole_is_skipped(build: Callable[..., Any], net: nn.Module) -> None:
    optimizers = build(net, [{"match": "", "freeze": True}])
    assert (list(optimizers), optimizers.skipped) == ([], ("net",))


def test_rules_on_a_wholly_frozen_component_change_nothing(build: Callable[..., Any], net: nn.Module) -> None:
    assert build(net.requires_grad_(False), [{"match": "bias", "lr": 0.5}]).skipped == ("net",)


def test_a_rate_of_a_tensor_is_scaled_into_one_of_the_groups_own(registry: Any, groups: Groups, net: nn.Module) -> None:
    rate = torch.tensor(0.1)

    class Tensorial:
        def build(self, params: Any) -> torch.optim.Optimizer:
            return torch.optim.AdamW(params, lr=rate, foreach=False)

    registry.register("tensorial", Tensorial)
    base, scaled, own = groups(net, [{"match": "^0", "lr_scale": 0.5}, {"match": "^1", "lr": 0.2}], "tensorial")
    assert [float(g["lr"]) for g in (base, scaled, own)] == pytest.approx([0.1, 0.05, 0.2])
    assert rate == torch.tensor(0.1)
    # A captured graph or compiled step would go on with a number as it was.
    assert isinstance(scaled["lr"], torch.Tensor)
    assert isinstance(own["lr"], torch.Tensor)


def test_names_leave_out_what_compilation_puts_in(named: Named) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    net[0] = torch.compile(net[0])
    assert len(named(net, [{"match": r"^0\.weight$", "lr": 0.5}])) == 2


NAMES = ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
RULES = st.fixed_dictionaries(
    {"match": st.sampled_from(["", "0", "[12]", "weight", "bias$", r"^1\.", "2.bias"])},
    optional={"lr": st.sampled_from([0.1, 0.2]), "weight_decay": st.sampled_from([0, 0.0, 0.01, 0.3])},
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules=st.lists(RULES, min_size=1, max_size=4))
def test_every_parameter_is_in_one_group_with_what_its_first_rule_says(groups: Groups, rules: list[Any]) -> None:
    import re

    first = {name: next((r for r in rules if re.search(r["match"], name)), {}) for name in NAMES}
    # One that comes too late for all of its matches is an error.
    rules = [rule for rule in rules if any(rule is used for used in first.values())]
    net = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    made = groups(net, rules)
    placed = [name for group in made for name in group["param_names"]]
    assert sorted(placed) == sorted(NAMES)
    assert all(net.get_parameter(n) is p for g in made for n, p in zip(g["param_names"], g["params"], strict=True))
    for group in made:
        for name in group["param_names"]:
            assert group["lr"] == first[name].get("lr", 0.1)
            assert group["weight_decay"] == first[name].get("weight_decay", 0.01)
    assert len({(g["lr"], g["weight_decay"]) for g in made}) == len(made)
