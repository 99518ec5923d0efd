"""The layers of modules, written out by hand, and the scales that `layer_decay` makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.parameter_groups.module_layers import layers_of


def linear(size: int = 2) -> nn.Linear:
    return nn.Linear(size, size, bias=False)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = linear()
        self.experts = nn.ModuleList([linear(), linear()])


class Transformer(nn.Module):
    """As timm's: a stem, blocks, a norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(2))
        self.stem = linear()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm = nn.LayerNorm(2, bias=False)
        self.head = linear()


class OfTimm(Transformer):
    grouping: Any = None

    def group_matcher(self, coarse: bool = False) -> Any:
        assert coarse is False
        return self.grouping


def layers(module: nn.Module) -> dict[str, int]:
    return layers_of(module, [name for name, _ in module.named_parameters()])


BLOCKS = {
    "blocks.0.mix.weight": 1,
    "blocks.0.experts.0.weight": 1,
    "blocks.0.experts.1.weight": 1,
    "blocks.1.mix.weight": 2,
    "blocks.1.experts.0.weight": 2,
    "blocks.1.experts.1.weight": 2,
}


def test_numbered_submodules_are_layers_between_a_stem_and_a_head() -> None:
    assert layers(Transformer()) == {"token": 0, "stem.weight": 0} | BLOCKS | {"norm.weight": 3, "head.weight": 3}


def test_the_modules_of_a_sequence_are_layers_where_they_have_parameters() -> None:
    assert layers(nn.Sequential(linear(), nn.ReLU(), nn.Sequential(linear(), linear()))) == {
        "0.weight": 0,
        "2.0.weight": 1,
        "2.1.weight": 1,
    }


def test_ten_layers_are_in_the_order_of_the_module_not_of_the_alphabet() -> None:
    assert layers(nn.Sequential(*[linear() for _ in range(11)]))["10.weight"] == 10


def test_what_lies_between_two_sequences_belongs_to_the_first() -> None:
    parts = {"enc": nn.ModuleList([linear(), linear()]), "mid": linear(), "dec": nn.ModuleList([linear(), linear()])}
    expected = {"enc.0.weight": 0, "enc.1.weight": 1, "mid.weight": 1, "dec.0.weight": 2, "dec.1.weight": 3}
    assert layers(nn.ModuleDict(parts)) == expected


def test_a_head_tied_to_the_embedding_is_of_the_first_layer() -> None:
    net = nn.ModuleDict({"embed": nn.Embedding(2, 2), "blocks": nn.ModuleList([linear(), linear()]), "head": linear()})
    net["head"].weight = net["embed"].weight
    assert layers(net) == {"embed.weight": 0, "blocks.0.weight": 1, "blocks.1.weight": 2}


def test_a_head_is_the_last_layer_wherever_it_is_registered() -> None:
    parts = {"head": linear(), "stem": linear(), "blocks": nn.ModuleList([linear(), linear()]), "norm": linear()}
    found = layers(nn.ModuleDict(parts))
    assert [found[f"{name}.weight"] for name in ("stem", "blocks.0", "blocks.1", "norm", "head")] == [0, 1, 2, 3, 3]


def staged(block: Callable[[], nn.Module]) -> nn.Module:
    blocks = nn.Sequential(block(), block())
    return nn.ModuleDict({"downsample": linear(), "blocks": blocks, "norm": linear()})


def test_the_blocks_of_a_stage_are_layers_with_what_stands_beside_them() -> None:
    stages = nn.ModuleList([staged(lambda: nn.TransformerEncoderLayer(2, 1, 2)) for _ in range(2)])
    found = layers(nn.ModuleDict({"stages": stages}))
    names = ("downsample.weight", "blocks.0.linear1.weight", "blocks.1.linear1.weight", "norm.weight")
    assert [found[f"stages.{stage}.{name}"] for stage in range(2) for name in names] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_what_only_holds_other_modules_is_no_block_of_a_stage() -> None:
    stages = nn.ModuleList([staged(lambda: nn.Sequential(linear(), nn.GELU())) for _ in range(2)])
    assert set(layers(nn.ModuleDict({"stages": stages})).values()) == {0, 1}


def test_what_has_no_parts_is_no_layer_beside_blocks_that_have() -> None:
    blocks = nn.ModuleList([nn.Sequential(linear(), nn.GELU()) for _ in range(2)])
    stem, top = nn.Sequential(linear(), linear()), nn.Sequential(linear(), nn.GELU(), linear())
    found = layers(nn.ModuleDict({"stem": stem, "blocks": blocks, "top": top}))
    assert sorted(set(found.values())) == [0, 1, 2, 3]
    assert found["stem.0.weight"] == found["stem.1.weight"] == 0
    assert found["top.0.weight"] == found["top.2.weight"] == 3


def test_the_grouping_of_a_submodule_counts_in_its_place() -> None:
    backbone = OfTimm()
    backbone.grouping = {"stem": r"^token|stem", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]}
    found = layers(nn.ModuleDict({"stem": linear(), "backbone": backbone, "top": linear()}))
    assert (found["stem.weight"], found["backbone.stem.weight"], found["backbone.head.weight"]) == (0, 1, 4)
    assert found["top.weight"] == 5


STAGES: dict[str, tuple[Any, dict[str, int]]] = {
    "one expression a stage": (
        {"stem": r"^token|stem", "blocks": r"^blocks\.(\d+)", "norm": r"^norm", "head": "^head"},
        {"token": 0, "stem.weight": 0} | BLOCKS | {"norm.weight": 3, "head.weight": 4},
    ),
    "with the layer before": (
        {"stem": r"^token|stem", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]},
        {"token": 0, "stem.weight": 0} | BLOCKS | {"norm.weight": 2, "head.weight": 3},
    ),
    "an empty stage": (
        {"stem": r"^token|stem", "none": None, "blocks": r"^blocks\.(\d+)"},
        {"token": 0, "stem.weight": 0} | BLOCKS | {"norm.weight": 3, "head.weight": 3},
    ),
    "a function": (
        lambda name: 0 if "blocks" in name else (1, 2),
        dict.fromkeys(BLOCKS, 0) | {"token": 1, "stem.weight": 1, "norm.weight": 1, "head.weight": 1},
    ),
}


@pytest.mark.parametrize(("grouping", "expected"), STAGES.values(), ids=STAGES)
def test_the_modules_own_grouping_counts(grouping: Any, expected: dict[str, int]) -> None:
    net = OfTimm()
    net.grouping = grouping
    assert layers(net) == expected


def test_the_rate_falls_by_layer_from_the_head_down(groups: Callable[..., Any]) -> None:
    rates = {n: g["lr"] for g in groups(Transformer(), [{"layer_decay": 0.5}]) for n in g["param_names"]}
    shares = [0.125, 0.25, 0.5, 1.0]
    expected = {"token": 0, "stem.weight": 0} | BLOCKS | {"norm.weight": 3, "head.weight": 3}
    assert rates == pytest.approx({name: 0.1 * shares[layer] for name, layer in expected.items()})


def test_a_factor_of_one_makes_one_group(groups: Callable[..., Any]) -> None:
    assert len(groups(Transformer(), [{"layer_decay": 1}])) == 1


def test_frozen_layers_count(groups: Callable[..., Any]) -> None:
    net = nn.Sequential(linear(), linear().requires_grad_(False), linear())
    rates = {n: g["lr"] for g in groups(net, [{"layer_decay": 0.5}]) for n in g["param_names"]}
    assert rates["0.weight"] == pytest.approx(0.025)


def test_scales_of_layers_and_rules_multiply(groups: Callable[..., Any], net: nn.Module) -> None:
    entries = [{"match": "0.bias", "lr_scale": 0.1}, {"match": "1.bias", "lr": 0.3}, {"layer_decay": 0.5}]
    rates = {n: g["lr"] for g in groups(net, entries) for n in g["param_names"]}
    assert (rates["0.bias"], rates["1.bias"], rates["0.weight"]) == pytest.approx((0.0025, 0.15, 0.025))


def test_layers_that_are_not_known_are_a_problem(refused: Callable[..., Any]) -> None:
    assert refused(nn.Linear(2, 2), [{"layer_decay": 0.5}]) == [
        "net.param_groups[0].layer_decay: its layers are not known: it has no group_matcher() and no numbered "
        "submodules with parameters, such as blocks.0, blocks.1. Give it a method group_matcher(coarse), or write "
        "rules with lr_scale in place of the policy"
    ]


@pytest.mark.parametrize("grouping", [None, [("a", 1)], {"a": "("}, {"a": 5}, {"a": "(b)locks"}, lambda name: "abc"])
def test_a_grouping_of_no_use_is_a_problem_that_names_it(refused: Callable[..., Any], grouping: Any) -> None:
    net = OfTimm()
    net.grouping = grouping
    (problem,) = refused(net, [{"layer_decay": 0.5}])
    assert problem.startswith("net.param_groups[0].layer_decay: nothing can be made of the group_matcher() of OfTimm: ")


class Stage(nn.Sequential):
    """A stage that is a class of its own."""


def test_a_stage_may_be_of_a_class_of_its_own() -> None:
    stages = nn.ModuleList([Stage(*[nn.TransformerEncoderLayer(2, 1, 2) for _ in range(3)]) for _ in range(2)])
    assert set(layers(nn.ModuleDict({"stages": stages, "fc": linear()})).values()) == set(range(7))


def test_a_module_that_holds_itself_has_the_layers_that_it_has() -> None:
    class Held(nn.Module):
        pass

    module = nn.ModuleDict({"part": Held(), "blocks": nn.ModuleList([linear(), linear()])})
    module["part"].parent = module
    assert layers(module) == {"blocks.0.weight": 0, "blocks.1.weight": 1}
