"""States of reordered parameters: each parameter gets its own, whatever the order of modules and groups."""

import copy
import time

import pytest
import torch
from torch import nn

from core_support.reordered_builds import (
    KINDS,
    ORDER,
    REGISTRY,
    REORDERED,
    RULES,
    STEPS,
    assert_named_right,
    build,
    configuration,
    each_key,
    trained,
)
from core_support.reordered_runs import Network, assert_same, each_route, everything, options, states, train
from optim_core import StateMismatchError, build_optimizers


@each_route
@pytest.mark.parametrize(
    ("key", "params", "rules"),
    [(*kind, RULES["two groups"]) for kind in KINDS]
    + [(key, {}, rules) for key in ("scheduled", "sgd") for name, rules in RULES.items() if name != "two groups"],
)
def test_a_resumed_run_with_reordered_parameters_is_the_uninterrupted_one(tmp_path, key, params, rules, route):
    run = trained(key, params, rules)
    resumed = build(key, params, rules, order=REORDERED, seed=1)
    route(run, resumed, tmp_path)
    assert_same(everything(*resumed), everything(*run))
    for each in (run, resumed):
        train(*each, STEPS, 2 * STEPS)
    assert_same(everything(*resumed), everything(*run))
    assert_named_right(resumed[0], resumed[1]["net"])


@each_key
def test_the_order_of_groups_does_change_in_these_tests(key):
    names = [
        [
            group["param_names"][0].split(".")[0]
            for group in build(key, {}, RULES[rules], order=order)[1]["net"].param_groups
        ]
        for rules in ["groups in the order of parameters"]
        for order in (ORDER, REORDERED)
    ]
    assert names == [list(ORDER), list(REORDERED)]


@each_route
def test_every_order_of_modules_loads_every_other(tmp_path, route):
    orders = [ORDER, REORDERED, ("norm", "embed", "second", "first"), ("first", "second", "embed", "norm")]
    rules = RULES["groups in the order of parameters"]
    runs = [trained("scheduled", {}, rules, order=order) for order in orders]
    for run in runs:
        for order in orders:
            resumed = build("scheduled", {}, rules, order=order, seed=1)
            route(run, resumed, tmp_path)
            assert_same(everything(*resumed), everything(*runs[0]))


@each_route
def test_an_adamw_over_groups_permuted_by_hand_goes_on_alike(tmp_path, route):
    rules = RULES["two groups"]
    run = trained("adamw", {}, rules)
    resumed = build("adamw", {}, rules, order=REORDERED, seed=1)
    route(run, resumed, tmp_path)
    train(*resumed, STEPS, 2 * STEPS)

    network = Network(REORDERED)
    named = dict(network.named_parameters())
    plain = [p for name, p in named.items() if "norm" in name or name.endswith("bias")]
    decayed = [p for name, p in named.items() if "norm" not in name and not name.endswith("bias")]
    oracle = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=0.01
    )
    train({"net": network}, oracle, 0, 2 * STEPS)
    assert_same(states(resumed[0], resumed[1]["net"]), states({"net": network}, oracle))
    assert_same(dict(resumed[0]["net"].named_parameters()), named)


@each_key
def test_what_was_changed_in_training_goes_to_the_group_of_the_same_names(key):
    rules = RULES["groups in the order of parameters"]
    run = trained(key, {}, rules)
    run[1]["net"].param_groups[0]["weight_decay"] = 0.7
    resumed = build(key, {}, rules, order=REORDERED)
    resumed[1].load_state_dict(run[1].state_dict())
    assert_same(options(resumed[0], resumed[1]["net"]), options(run[0], run[1]["net"]))


@each_key
def test_a_load_changes_nothing_in_the_state_that_it_is_given(key):
    state = trained(key, {}, RULES["two groups"])[1]["net"].state_dict()
    before = copy.deepcopy(state)
    optimizer = build(key, {}, RULES["two groups"], order=REORDERED)[1]["net"]
    optimizer.load_state_dict(state)
    assert_same(state["state"], before["state"])
    assert state["param_groups"] == before["param_groups"]
    optimizer.param_groups[0]["param_names"].append("mine")
    assert state["param_groups"] == before["param_groups"]


def test_lbfgs_goes_on_as_it_was_or_refuses_another_order():
    def step(models, optimizers, number):
        def closure():
            optimizers.zero_grad()
            torch.manual_seed(number)
            loss = models["net"](torch.randn(8, 4)).square().mean()
            loss.backward()
            return loss

        optimizers["net"].step(closure)

    run, resumed = build("lbfgs"), build("lbfgs", {}, order=REORDERED, seed=1)
    for number in range(3):
        step(*run, number)
    resumed[0]["net"].load_state_dict(run[0]["net"].state_dict())
    try:
        resumed[1].load_state_dict(copy.deepcopy(run[1].state_dict()))
    except StateMismatchError:
        return
    for each in (run, resumed):
        step(*each, 3)
    torch.testing.assert_close(
        dict(resumed[0]["net"].named_parameters()), dict(run[0]["net"].named_parameters()), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("key", ["scheduled"])
def test_ten_thousand_tensors_in_another_order_are_matched_in_a_moment(key):
    def run(names):
        models = {"net": nn.ParameterDict({name: nn.Parameter(torch.ones(1)) for name in names})}
        rules = [{"match": "[02468]$", "weight_decay": 0.0}]
        return models, build_optimizers(models, configuration(key, {}, rules), registry=REGISTRY)

    names = [f"p{index}" for index in range(10_000)]
    saved, same, other = run(names), run(names), run(names[::-1])
    for index, parameter in enumerate(saved[0]["net"].values()):
        parameter.grad = torch.full((1,), float(index))
    saved[1].step()
    state = saved[1].state_dict()
    took = []
    for resumed in (same, other):
        start = time.perf_counter()
        resumed[1].load_state_dict(state)
        took.append(time.perf_counter() - start)
    assert took[1] < 2 * took[0] + 0.5
    assert_same(states(other[0], other[1]["net"]), states(saved[0], saved[1]["net"]))
