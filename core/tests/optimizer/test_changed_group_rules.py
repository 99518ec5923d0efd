"""Resuming under changed rules: the new groups hold and each parameter keeps its state, or all is refused."""

import pytest
import torch

from core_support.reordered_builds import (
    CHANGED_RULES,
    ORDER,
    REORDERED,
    RULES,
    STEPS,
    assert_named_right,
    build,
    each_change,
    each_key,
    trained,
)
from core_support.reordered_runs import assert_same, everything, options, states, train
from optim_core import CheckpointMismatchError, ResumeWarning, StateMismatchError, load_checkpoint, save_checkpoint


@each_change
@pytest.mark.parametrize("order", [ORDER, REORDERED])
@pytest.mark.parametrize(("key", "params"), [("scheduled", {}), ("adamw", {"amsgrad": True}), ("sgd", {})])
def test_changed_rules_hold_and_each_parameter_has_its_own_state(tmp_path, key, params, before, after, order):
    run = trained(key, params, before)
    save_checkpoint(tmp_path, *run)
    resumed = build(key, params, after, order=order, seed=1)
    fresh = build(key, params, after, order=order)
    train(*fresh, 0, STEPS)
    with pytest.warns(ResumeWarning, match="the configuration's values hold"):
        load_checkpoint(tmp_path, *resumed)
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))
    assert_same(options(resumed[0], resumed[1]["net"]), options(fresh[0], fresh[1]["net"]))
    assert_named_right(resumed[0], resumed[1]["net"])


@each_change
def test_a_resumption_under_changed_rules_goes_on_as_adamw_does(tmp_path, before, after):
    run = trained("adamw", {}, before)
    save_checkpoint(tmp_path, *run)
    resumed = build("adamw", {}, after, order=REORDERED, seed=1)
    wanted = options(resumed[0], resumed[1]["net"])
    with pytest.warns(ResumeWarning):
        load_checkpoint(tmp_path, *resumed)
    train(*resumed, STEPS, 2 * STEPS)

    # One group for each parameter, in the order of the first run.
    named = dict(run[0]["net"].named_parameters())
    oracle = torch.optim.AdamW([{"params": [p], **wanted[name]} for name, p in named.items()])
    for parameter in named.values():
        oracle.state[parameter] = run[1]["net"].state[parameter]
    train(run[0], oracle, STEPS, 2 * STEPS)
    assert_same(dict(resumed[0]["net"].named_parameters()), named)


@each_change
@each_key
@pytest.mark.parametrize("policy", ["checkpoint", "error"])
def test_changed_rules_are_refused_on_request_and_nothing_changes(tmp_path, key, before, after, policy):
    if policy == "checkpoint" and (before, after) == CHANGED_RULES["an option only"]:
        pytest.skip("the same groups: the checkpoint's options can hold")
    save_checkpoint(tmp_path, *trained(key, {}, before))
    resumed = build(key, {}, after, order=REORDERED, seed=1)
    unchanged = everything(*resumed)
    with pytest.raises(CheckpointMismatchError):
        load_checkpoint(tmp_path, *resumed, on_mismatch=policy)
    assert_same(everything(*resumed), unchanged)


@pytest.mark.parametrize("change", ["split", "merged", "split otherwise", "split into many", "merged from many"])
@each_key
def test_a_bare_state_of_other_groups_is_refused_and_changes_nothing(key, change):
    before, after = CHANGED_RULES[change]
    state = trained(key, {}, before)[1].state_dict()
    resumed = trained(key, {}, after, order=REORDERED, seed=1)
    unchanged = everything(*resumed)
    with pytest.raises(StateMismatchError, match="the same parameters in other groups: group"):
        resumed[1].load_state_dict(state)
    assert_same(everything(*resumed), unchanged)


def test_the_checkpoints_options_hold_in_groups_of_another_order(tmp_path):
    before = RULES["groups in the order of parameters"]
    after = [{**rule, "weight_decay": rule["weight_decay"] / 10} for rule in before]
    run = trained("scheduled", {}, before)
    save_checkpoint(tmp_path, *run)
    resumed = build("scheduled", {}, after, order=REORDERED, seed=1)
    with pytest.warns(ResumeWarning, match="the checkpoint's values hold"):
        load_checkpoint(tmp_path, *resumed, on_mismatch="checkpoint")
    assert_same(everything(*resumed), everything(*run))


def test_a_checkpoint_is_resumed_twice_under_changed_rules(tmp_path):
    run = trained("scheduled", {}, RULES["two groups"])
    save_checkpoint(tmp_path / "1", *run)
    middle = build("scheduled", {}, RULES["groups in the order of parameters"], order=REORDERED, seed=1)
    with pytest.warns(ResumeWarning):
        load_checkpoint(tmp_path / "1", *middle)
    save_checkpoint(tmp_path / "2", *middle)
    last = build("scheduled", {}, RULES["two groups"], seed=2)
    with pytest.warns(ResumeWarning):
        load_checkpoint(tmp_path / "2", *last)
    assert_same(everything(*last), everything(*run))
