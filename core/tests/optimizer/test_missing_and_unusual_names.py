"""States whose parameters' names are missing, spoilt, changed by a hook or in an unusual form."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from core_support.reordered_builds import (
    ORDER,
    REGISTRY,
    REORDERED,
    RULES,
    AdamWFactory,
    ScheduledFactory,
    assert_named_right,
    build,
    configuration,
    each_key,
    trained,
)
from core_support.reordered_runs import Network, assert_same, everything, states
from optim_core import StateMismatchError, build_optimizers, load_checkpoint, save_checkpoint


def without_names(state):
    return {
        **state,
        "param_groups": [{k: v for k, v in g.items() if k != "param_names"} for g in state["param_groups"]],
    }


@each_key
def test_a_state_without_names_is_loaded_by_position_and_the_names_stay(key):
    run = trained(key, {}, RULES["two groups"])
    resumed = build(key, {}, RULES["two groups"], seed=1)
    resumed[1]["net"].load_state_dict(without_names(run[1]["net"].state_dict()))
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))
    assert_named_right(resumed[0], resumed[1]["net"])


@each_key
def test_an_optimizer_without_names_takes_a_state_with_names_by_position(key):
    run = trained(key)
    network = Network(ORDER, seed=1)
    factory = {"scheduled": ScheduledFactory, "adamw": AdamWFactory}[key]
    optimizer = factory().build(network.parameters())
    optimizer.load_state_dict(run[1]["net"].state_dict())
    assert_same(states({"net": network}, optimizer), states(run[0], run[1]["net"]))


@each_key
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda names: [names[0]] * len(names), id="all the same"),
        pytest.param(lambda names: [names[0], *names[:-1]], id="one twice"),
        pytest.param(lambda names: names[:-1], id="too few"),
        pytest.param(lambda names: [*names, "more"], id="too many"),
        pytest.param(lambda names: [], id="none"),
    ],
)
def test_names_that_say_nothing_certain_are_refused_and_not_taken_by_position(key, spoil):
    state = copy.deepcopy(trained(key)[1]["net"].state_dict())
    state["param_groups"][0]["param_names"] = spoil(state["param_groups"][0]["param_names"])
    resumed = build(key, {}, order=REORDERED, seed=1)
    unchanged = everything(*resumed)
    with pytest.raises(StateMismatchError):
        resumed[1]["net"].load_state_dict(state)
    assert_same(everything(*resumed), unchanged)


@each_key
def test_names_may_be_a_tuple_and_groups_of_any_mapping(key):
    run = trained(key)
    state = copy.deepcopy(run[1]["net"].state_dict())
    state["param_groups"] = [
        OrderedDict(group, param_names=tuple(group["param_names"])) for group in state["param_groups"]
    ]
    resumed = build(key, {}, order=REORDERED, seed=1)
    resumed[1]["net"].load_state_dict(OrderedDict(state))
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))


@each_key
def test_groups_in_a_tuple_are_matched_or_refused(key):
    run = trained(key)
    state = run[1]["net"].state_dict()
    resumed = build(key, {}, order=REORDERED, seed=1)
    try:
        resumed[1]["net"].load_state_dict({**state, "param_groups": tuple(state["param_groups"])})
    except StateMismatchError:
        return
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))


def test_a_group_without_its_parameters_is_refused_in_words():
    with pytest.raises(StateMismatchError, match="param"):
        build("scheduled")[1]["net"].load_state_dict({"state": {}, "param_groups": [{"lr": 0.1}]})


def test_a_checkpoint_from_before_there_were_names_is_matched_by_name_all_the_same(tmp_path):
    run = trained("scheduled", {}, RULES["two groups"])
    for group in run[1]["net"].param_groups:
        del group["param_names"]
    save_checkpoint(tmp_path, *run)
    resumed = build("scheduled", {}, RULES["two groups"], order=REORDERED, seed=1)
    load_checkpoint(tmp_path, *resumed)
    assert_same(everything(*resumed), everything(*run))
    assert_named_right(resumed[0], resumed[1]["net"])


@each_key
def test_a_users_hook_that_renames_is_seen(key):
    run = trained(key)
    state = copy.deepcopy(run[1]["net"].state_dict())
    for group in state["param_groups"]:
        group["param_names"] = [f"module.{name}" for name in group["param_names"]]

    def rename(_, state):
        groups = [
            {**group, "param_names": [name.removeprefix("module.") for name in group["param_names"]]}
            for group in state["param_groups"]
        ]
        return {**state, "param_groups": groups}

    resumed = build(key, {}, order=REORDERED, seed=1)
    # Before the hook that build_optimizers gives optimizers that don't match by themselves.
    resumed[1]["net"].register_load_state_dict_pre_hook(rename, prepend=key == "adamw")
    resumed[1]["net"].load_state_dict(state)
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))


@each_key
def test_a_users_hook_that_takes_names_away_has_the_state_loaded_by_position(key):
    run = trained(key)
    resumed = build(key, {}, seed=1)
    resumed[1]["net"].register_load_state_dict_pre_hook(lambda _, state: without_names(state))
    resumed[1]["net"].load_state_dict(run[1]["net"].state_dict())
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))
    assert_named_right(resumed[0], resumed[1]["net"])


def test_names_that_are_numbers_are_names_where_a_tool_has_matched_by_them():
    def run(keys):
        module = nn.ParameterDict({key: nn.Parameter(torch.ones(2)) for key in keys})
        return module, build_optimizers({"net": module}, configuration("adamw"), registry=REGISTRY)["net"]

    first, saved = run(("1", "2"))
    for key in first:
        first[key].grad = torch.full((2,), float(key))
    saved.step()
    second, resumed = run(("2", "1"))
    set_optimizer_state_dict(second, resumed, get_optimizer_state_dict(first, saved))
    for key in first:
        assert torch.equal(resumed.state[second[key]]["exp_avg"], saved.state[first[key]]["exp_avg"])
