"""What is wrong with rules, in full: where, what, and what may have been meant; and no model has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.building.build_optimizers import build_optimizers
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import ConfigurationError

Refused = Callable[..., Sequence[str]]

FREEZE = {"match": "0.bias", "freeze": True}
GROUPS_HAVE = (
    "Its groups have lr, momentum, dampening, weight_decay, nesterov, maximize, foreach, differentiable, fused; a rule "
    "has 'lr_scale' and 'freeze' beside these"
)
FORM = "A rule is as {match: 'bias$', weight_decay: 0.0}, a policy as no_weight_decay or {layer_decay: 0.75}"
ESCAPING = r"In it, ( [ { * + ? . ^ $ | and \ have a meaning; a backslash before one takes it away"
POLICIES = "The policies are layer_decay, no_weight_decay; a rule has 'match', 'ndim' or 'type'"
NEEDED = (
    "a rule needs at least one of 'match', 'ndim' and 'type'. Options of all parameters belong under 'params'. "
    "Policies are entries of the list, one by one"
)

WRONG: list[tuple[Any, str]] = [
    ({"match": "biass", "lr": 1}, ".match = 'biass': is found in no parameter's name. Did you mean 'bias'?"),
    (
        {"match": "zzz"},
        ".match = 'zzz': is found in no parameter's name. There are 0.weight, 0.bias, 1.weight, 1.bias, 2.weight, "
        "2.bias",
    ),
    ({"type": "layernorm"}, ".type = 'layernorm': no module with parameters is one. Did you mean 'LayerNorm'?"),
    ({"type": "Conv"}, ".type = 'Conv': no module with parameters is one. There are LayerNorm, Linear"),
    ({"ndim": 4}, ".ndim = 4: no parameter has so many dimensions. There are 1, 2"),
    (
        {"match": "2", "type": "LayerNorm"},
        ": no parameter meets all of its conditions together (match alone 2, type alone 2)",
    ),
    (
        {"match": "(", "lr": 1},
        f".match = '(': is no regular expression: missing ), unterminated subpattern at position 0. {ESCAPING}",
    ),
    ({"match": None}, ".match = None: must be a regular expression, as a string. Put it in single quotes"),
    ({"match": ["bias"]}, ".match = ['bias']: must be a regular expression, as a string. Put it in single quotes"),
    ({"ndim": True}, ".ndim = True: must be a number of dimensions, zero or more"),
    ({"ndim": "1"}, ".ndim = '1': must be a number of dimensions, zero or more"),
    ({"type": ""}, ".type = '': must be the name of a module's class, such as LayerNorm"),
    (
        {"match": "2", "weight_deca": 0},
        ".weight_deca: the optimizer's groups have no such option. Did you mean 'weight_decay'?",
    ),
    ({"match": "2", "betas": [0, 0]}, f".betas: the optimizer's groups have no such option. {GROUPS_HAVE}"),
    (
        {"match": "2", "max_lr": 1},
        ".max_lr: the optimizer's groups have no such option. A group's own rate is its 'lr', the peak where there "
        "is a schedule; 'lr_scale' multiplies it",
    ),
    ({"match": "2", "lr": -1}, ".lr = -1: must be a finite number, zero or more"),
    ({"match": "2", "lr": True}, ".lr = True: must be a finite number, zero or more"),
    ({"match": "2", "lr": None}, ".lr = None: must be a finite number, zero or more"),
    ({"match": "2", "lr": "fast"}, ".lr = 'fast': must be a finite number, zero or more"),
    ({"match": "2", "lr": "1e999"}, ".lr = '1e999': must be a finite number, zero or more"),
    ({"match": "2", "lr_scale": True}, ".lr_scale = True: must be a finite number, zero or more"),
    ({"match": "2", "lr_scale": float("nan")}, ".lr_scale = nan: must be a finite number, zero or more"),
    ({"match": "2", "lr": 1, "lr_scale": 1}, ".lr_scale: can't be given together with lr: each says what the rate is"),
    ({"match": "2", "freeze": 1}, ".freeze = 1: must be true or false"),
    ({"match": "2", "weight_decay": True}, ".weight_decay = True: must be a number, not true or false"),
    ({"match": "2", "weight_decay": None}, ".weight_decay = None: must be a valid number"),
    ({"match": "2", "weight_decay": [{}]}, ".weight_decay = [{}]: must be a valid number"),
    ({"match": "2", "nesterov": "yes"}, ".nesterov = 'yes': must be true or false"),
    (
        {"match": "2", "params": []},
        ".params: is no option. 'match', 'ndim' and 'type' say which parameters a rule is for",
    ),
    ({"mtach": "2", "lr": 1}, ".mtach: no such key. Did you mean 'match'?"),
    ({"freeze": True}, f": {NEEDED}"),
    ({"lr": 1, "weight_decay": 0}, f": {NEEDED}"),
    ({1: 2}, ": has the key 1, which is no string"),
    ({}, f" = {{}}: must be a rule or a policy. {FORM}"),
    (None, f" = None: must be a rule or a policy. {FORM}"),
    ([{"match": "2"}], f" = [{{'match': '2'}}]: must be a rule or a policy. {FORM}"),
    ("no_decay", f": no policy is called 'no_decay'. Did you mean 'no_weight_decay' or 'layer_decay'? {POLICIES}"),
    ({"mtach": "x"}, f": no policy is called 'mtach'. Did you mean 'match'? {POLICIES}"),
    ({"no_weight_decay": 0.1}, ".no_weight_decay: takes no argument, not 0.1"),
]
_DECAY = "must be a factor above 0, at most 1, as in {layer_decay: 0.75}"
WRONG += [
    ({"layer_decay": value}, f".layer_decay = {value!r}: {_DECAY}")
    for value in (None, True, 0, 1.5, "x0.75", [0.75], float("nan"))
]


@pytest.mark.parametrize(("entry", "problem"), WRONG, ids=[str(entry) for entry, _ in WRONG])
def test_a_fault_is_told_with_its_place(refused: Refused, net: nn.Module, entry: Any, problem: str) -> None:
    net(torch.ones(1, 3)).sum().backward()
    assert refused(net, [FREEZE, entry]) == [f"net.param_groups[1]{problem}"]


HUGE = 10**400


@pytest.mark.parametrize(
    "entry",
    [
        {"match": "2", "lr_scale": HUGE},
        {"match": "2", "lr": HUGE},
        {"match": "2", "weight_decay": HUGE},
        {"layer_decay": HUGE},
    ],
    ids=["lr_scale", "lr", "weight_decay", "layer_decay"],
)
def test_a_number_too_large_for_a_float_is_a_problem_like_others(refused: Refused, net: nn.Module, entry: Any) -> None:
    assert len(refused(net, [entry], "adamw")) == 1


@pytest.mark.parametrize("key", ["sgd", "adamw"])
def test_an_option_that_is_no_number_is_told_at_its_place(refused: Refused, net: nn.Module, key: str) -> None:
    (problem,) = refused(net, [{"match": "2", "weight_decay": float("nan")}], key)
    assert problem.startswith("net.param_groups[0].weight_decay = nan: must be a")


def test_a_rule_that_comes_too_late_for_all_its_matches_is_a_problem(refused: Refused, net: nn.Module) -> None:
    assert refused(net, [{"match": "bias"}, {"ndim": 2}, {"match": "0", "lr": 0.5}]) == [
        "net.param_groups[2]: each of the 2 parameters that it matches has a rule before this one. The first rule "
        "that matches a parameter counts"
    ]


def test_an_optimizer_without_a_schedule_has_no_peak(refused: Refused, net: nn.Module) -> None:
    (problem,) = refused(net, [{"match": "2", "peak_lr": 0.5}])
    assert problem.startswith("net.param_groups[0].peak_lr: the optimizer's groups have no such option")


def test_a_rate_by_two_names_is_refused(refused: Refused, net: nn.Module) -> None:
    assert len(refused(net, [{"match": "2", "peak_lr": 0.5, "lr": 0.4}], "scheduled")) == 1
    assert len(refused(net, [{"match": "2", "peak_lr": 0.5, "lr_scale": 0.5}], "scheduled")) == 1


def test_the_same_policy_twice_is_refused(refused: Refused, net: nn.Module) -> None:
    assert refused(net, ["no_weight_decay", {"no_weight_decay": None}]) == [
        "net.param_groups[1]: the policy 'no_weight_decay' stands at param_groups[0] already"
    ]


@pytest.mark.parametrize("value", [5, True, b"bias", {"no_weight_decay"}])
def test_what_is_no_list_is_refused(refused: Refused, net: nn.Module, value: Any) -> None:
    assert refused(net, value) == [
        f"net.param_groups = {value!r}: must be a list of rules and policies, or the name of a policy"
    ]


def test_one_rule_or_policy_needs_no_list(named: Callable[..., list[list[str]]], net: nn.Module) -> None:
    biases = ["0.bias", "1.bias", "2.bias"]
    assert named(net, {"match": "bias", "lr": 0.5})[1] == biases
    assert named(net, "no_weight_decay")[1] == ["0.bias", "1.weight", "1.bias", "2.bias"]


@pytest.mark.parametrize("value", [None, [], ()])
def test_no_entries_are_no_rules(named: Callable[..., list[list[str]]], net: nn.Module, value: Any) -> None:
    assert len(named(net, value)) == 1


def test_a_module_without_parameters_is_the_one_thing_that_is_wrong(refused: Refused) -> None:
    (problem,) = refused(nn.Sequential(), [{"match": "bias"}])
    assert problem.startswith("net.param_groups[0].match = 'bias': is found in no parameter's name")
    assert not problem.endswith("There are ")


def test_a_policy_on_a_module_without_parameters_is_skipped_as_it_is_without(build: Callable[..., Any]) -> None:
    assert build(nn.Sequential(), ["no_weight_decay"]).skipped == ("net",)


def test_what_freezes_is_undone_where_the_optimizer_refuses(
    registry: OptimizerRegistry, refused: Refused, net: nn.Module
) -> None:
    class Refusing:
        def build(self, params: Any) -> torch.optim.Optimizer:
            params = list(params)
            if not all(p.requires_grad for p in params):
                raise ValueError("something is frozen")
            return torch.optim.SGD(params, lr=0.1)

    registry.register("refusing", Refusing)
    net(torch.ones(1, 3)).sum().backward()
    assert refused(net, [FREEZE], "refusing") == ["net.params: the optimizer can't be built: something is frozen"]


def test_one_components_fault_leaves_the_others_models_alone(registry: OptimizerRegistry, net: nn.Module) -> None:
    other = nn.Linear(2, 2)
    specs = {
        "other": {"type": "sgd", "param_groups": [{"match": "bias", "freeze": True}]},
        "net": {"type": "sgd", "param_groups": [{"match": "nothing"}]},
    }
    with pytest.raises(ConfigurationError):
        build_optimizers({"other": other, "net": net}, specs, registry=registry)
    assert other.bias.requires_grad


def test_uncovered_parameters_refuse_before_anything_is_frozen(registry: OptimizerRegistry, net: nn.Module) -> None:
    specs = {"0": {"type": "sgd", "param_groups": [{"match": "bias", "freeze": True}]}}
    with pytest.raises(ConfigurationError):
        build_optimizers(net, specs, registry=registry, uncovered="error")
    assert net[0].bias.requires_grad


YAML = """\
model:
  component_optims:
    a:
      type: sgd
      param_groups: &rules
        - match: 0.weight
          weight_dcay: 0.0
        - no_weigth_decay
        - {match: "(", lr_scale: -1}
        - layer_decay: 2
        - match: weight
          ndim: 1
          type: Linear
    b:
      type: sgd
      param_groups: *rules
    c:
      type: nothing
      param_groups:
        match: bias
        betas:
          - 0.9
"""


def test_lines_of_a_file_are_those_of_the_innermost_part(registry: OptimizerRegistry, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(YAML)
    models = {name: nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)) for name in "abc"}
    with pytest.raises(ConfigurationError) as caught:
        build_optimizers(models, file, registry=registry)
    entries = [(7, "[0].weight_dcay"), (8, "[1]"), (9, "[2].match"), (9, "[2].lr_scale")]
    entries += [(10, "[3].layer_decay"), (11, "[4]")]
    expected = [
        (line, f"model.component_optims.{component}.param_groups{path}") for line, path in entries for component in "ab"
    ]
    found = [(problem.line, problem.path) for problem in caught.value.problems]
    assert sorted(found) == sorted([*expected, (18, "model.component_optims.c.type")])


def test_a_huge_number_in_a_file_is_a_problem_with_its_line(registry: OptimizerRegistry, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"a:\n  type: sgd\n  param_groups:\n    - match: bias\n      lr_scale: 1{'0' * 400}\n")
    with pytest.raises(ConfigurationError) as caught:
        build_optimizers({"a": nn.Linear(2, 2)}, file, registry=registry)
    assert [(p.line, p.path) for p in caught.value.problems] == [(5, "a.param_groups[0].lr_scale")]


def test_a_misspelt_key_of_a_component_is_named(registry: OptimizerRegistry, net: nn.Module) -> None:
    with pytest.raises(ConfigurationError, match=r"net\.param_grups: no such key\. Did you mean 'param_groups'\?"):
        build_optimizers({"net": net}, {"net": {"type": "sgd", "param_grups": []}}, registry=registry)


def test_a_control_character_is_told_to_be_one_of_double_quotes(refused: Callable[..., Any], net: nn.Module) -> None:
    (problem,) = refused(net, [{"match": "\x08bias", "weight_decay": 0.0}])
    assert problem.startswith("net.param_groups[0].match = '\\x08bias': has a control character in it. YAML makes one")


def test_the_component_before_a_name_is_told_to_be_left_out(refused: Callable[..., Any], net: nn.Module) -> None:
    (problem,) = refused(net, [{"match": "^net\\.0", "lr_scale": 0.5}])
    assert problem.endswith("Names are those within the component: leave 'net' out")


def test_a_rate_has_one_source_whatever_it_is_called(refused: Callable[..., Any], net: nn.Module) -> None:
    (problem,) = refused(net, [{"match": "0", "peak_lr": 1, "lr_scale": 0.5}], "scheduled")
    assert problem == "net.param_groups[0].lr_scale: can't be given together with peak_lr: each says what the rate is"


def test_groups_among_the_params_are_told_where_they_belong(refused: Callable[..., Any], net: nn.Module) -> None:
    problem = "net.params.param_groups: no such argument. It belongs beside 'params', not into it"
    assert refused(net, None, param_groups=["no_weight_decay"]) == [problem]
