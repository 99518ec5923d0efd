"""Resuming each built-in where the model registers its parameters in another order, or its groups have changed."""

import copy
import warnings

import pytest
import schedulefree
import torch
from torch import nn

from core_support.reordered_runs import (
    Network,
    assert_same,
    each_route,
    everything,
    options,
    states,
    train,
    weights,
)
from optim_core import (
    CheckpointMismatchError,
    ResumeWarning,
    StateMismatchError,
    build_optimizers,
    load_checkpoint,
    save_checkpoint,
)
from optim_schedule_free_radam import ScheduleFreeRAdam

STEPS = 7
ORDER = ("embed", "first", "norm", "second", "head")
# Position by position of the same shapes: nothing but names can tell that it is another order.
REORDERED = ("head", "second", "norm", "embed", "first")
WARMUP_COSINE = {"peak_lr": 0.02, "total_steps": 40, "warmup_steps": 3, "weight_decay": 0.1}
ONE_CYCLE = {"max_lr": 0.02, "total_steps": 40, "weight_decay": 0.1}
# So short an average that the rectification begins with the fifth update.
SCHEDULE_FREE = {"betas": [0.9, 0.9], "weight_decay": 0.1, "silent_sgd_phase": False}
KINDS = {
    "warmup cosine": ("adamw_warmup_cosine_decay", WARMUP_COSINE),
    "one cycle": ("adamw_cosine_schedule", ONE_CYCLE),
    "schedule-free": ("schedule_free_radam", SCHEDULE_FREE),
}
VARIANTS = {
    **KINDS,
    "warmup cosine, amsgrad": ("adamw_warmup_cosine_decay", WARMUP_COSINE | {"amsgrad": True}),
    "warmup cosine, foreach": ("adamw_warmup_cosine_decay", WARMUP_COSINE | {"foreach": True}),
    "warmup cosine, plain": ("adamw_warmup_cosine_decay", WARMUP_COSINE | {"foreach": False, "fused": False}),
    "warmup cosine, capturable": ("adamw_warmup_cosine_decay", WARMUP_COSINE | {"capturable": True}),
    "one cycle, amsgrad": ("adamw_cosine_schedule", ONE_CYCLE | {"amsgrad": True, "fused": True}),
    "schedule-free, plain": ("schedule_free_radam", SCHEDULE_FREE | {"foreach": False}),
}
RULES = {
    "one group": [],
    "two groups": [{"match": "norm|bias$", "weight_decay": 0.0}],
    "groups in the order of parameters": [
        {"match": f"^{name}", "weight_decay": 0.1 * number} for number, name in enumerate(ORDER, 2)
    ],
    "all that there is": [
        {"match": "norm|bias$", "weight_decay": 0.0},
        {"match": "^embed", "lr_scale": 0.1},
        "no_weight_decay",
        {"layer_decay": 0.75},
    ],
    "frozen": [{"match": "^first", "freeze": True}, "no_weight_decay"],
}
each_kind = pytest.mark.parametrize(("key", "params"), KINDS.values(), ids=KINDS)
each_rules = pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
# The rest of the kinds are of interest where there is most to be matched.
each_variant_and_rules = pytest.mark.parametrize(
    ("key", "params", "rules"),
    [(*kind, rules) for kind in KINDS.values() for rules in RULES.values()]
    + [(*VARIANTS[name], RULES["all that there is"]) for name in VARIANTS if name not in KINDS],
)


def build(key, params, rules=(), *, order=ORDER, seed=0):
    models = {"net": Network(order, seed)}
    configuration = {"net": {"type": key, "params": params, "param_groups": list(rules)}}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no optimizer")
        return models, build_optimizers(models, configuration)


def trained(*arguments, **options):
    run = build(*arguments, **options)
    train(*run, 0, STEPS)
    return run


@each_route
@each_variant_and_rules
def test_a_run_with_reordered_parameters_is_resumed_bit_for_bit(tmp_path, key, params, rules, route):
    run = trained(key, params, rules)
    resumed = build(key, params, rules, order=REORDERED, seed=1)
    route(run, resumed, tmp_path)
    assert_same(everything(*resumed), everything(*run))
    for each in (run, resumed):
        train(*each, STEPS, 2 * STEPS)
    assert_same(everything(*resumed), everything(*run))
    assert resumed[1].learning_rates() == run[1].learning_rates() or rules == RULES["all that there is"]


@each_route
@pytest.mark.parametrize("rules", [RULES["one group"], RULES["all that there is"]])
@pytest.mark.parametrize("saved_in_evaluation", [True, False])
@pytest.mark.parametrize("loaded_in_evaluation", [True, False])
def test_schedule_free_weights_are_matched_in_either_mode(
    tmp_path, rules, route, saved_in_evaluation, loaded_in_evaluation
):
    run = trained("schedule_free_radam", SCHEDULE_FREE, rules)
    resumed = trained("schedule_free_radam", SCHEDULE_FREE, rules, order=REORDERED, seed=1)
    if saved_in_evaluation:
        run[1].eval()
    if loaded_in_evaluation:
        resumed[1].eval()
    route(run, resumed, tmp_path)
    assert_same(everything(*resumed), everything(*run))
    for each in (run, resumed):
        each[1].train()
        train(*each, STEPS, 2 * STEPS)
    assert_same(everything(*resumed), everything(*run))
    for each in (run, resumed):
        each[1].eval()
    assert_same(weights(resumed[0]), weights(run[0]))


def test_a_checkpoint_has_the_training_weights_of_each_parameter(tmp_path):
    run = trained("schedule_free_radam", SCHEDULE_FREE, RULES["groups in the order of parameters"])
    save_checkpoint(tmp_path, *run)
    resumed = build(
        "schedule_free_radam", SCHEDULE_FREE, RULES["groups in the order of parameters"], order=REORDERED, seed=1
    )
    load_checkpoint(tmp_path, *resumed)
    assert_same(weights(resumed[0]), weights(run[0]))
    only_weights = Network(REORDERED)
    load_checkpoint(tmp_path, {"net": only_weights}, None)
    with run[1].eval_mode():
        assert_same(dict(only_weights.named_parameters()), dict(run[0]["net"].named_parameters()))


# An independent implementation, over groups that are in the new order by hand.


def groups_by_hand(network, order):
    plain, decayed = [], []
    for name in order:
        for kind, parameter in network.get_submodule(name).named_parameters():
            (plain if name == "norm" or kind == "bias" else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]


@each_route
def test_the_resumed_run_is_an_adamw_with_the_scheduled_rates_over_permuted_groups(tmp_path, route):
    run = trained("adamw_warmup_cosine_decay", WARMUP_COSINE, RULES["two groups"])
    resumed = build("adamw_warmup_cosine_decay", WARMUP_COSINE, RULES["two groups"], order=REORDERED, seed=1)
    rates = []
    rated = build("adamw_warmup_cosine_decay", WARMUP_COSINE)
    for step in range(2 * STEPS):
        rates.append(rated[1].learning_rates()["net"])
        train(*rated, step, step + 1)
    route(run, resumed, tmp_path)
    train(*resumed, STEPS, 2 * STEPS)

    network = Network(ORDER)
    oracle = torch.optim.AdamW(groups_by_hand(network, REORDERED), lr=0.0, fused=True)
    for step, rate in enumerate(rates):
        for group in oracle.param_groups:
            group["lr"] = rate
        train({"net": network}, oracle, step, step + 1)
    assert_same(weights(resumed[0]), dict(network.named_parameters()))
    assert_same(states(resumed[0], resumed[1]["net"]), states({"net": network}, oracle))


@each_route
def test_the_resumed_run_is_the_librarys_own_over_permuted_groups(tmp_path, route):
    run = trained("schedule_free_radam", SCHEDULE_FREE, RULES["two groups"])
    resumed = build("schedule_free_radam", SCHEDULE_FREE, RULES["two groups"], order=REORDERED, seed=1)
    route(run, resumed, tmp_path)
    train(*resumed, STEPS, 2 * STEPS)

    network = Network(ORDER)
    oracle = schedulefree.RAdamScheduleFree(
        groups_by_hand(network, REORDERED), lr=0.0025, betas=(0.9, 0.9), silent_sgd_phase=False
    )
    oracle.train()
    train({"net": network}, oracle, 0, 2 * STEPS)
    assert_same(weights(resumed[0]), dict(network.named_parameters()))
    assert_same(states(resumed[0], resumed[1]["net"]), states({"net": network}, oracle))


# Rules that have changed.

CHANGES = {
    "split": ("one group", "two groups"),
    "merged": ("two groups", "one group"),
    "split into many": ("two groups", "groups in the order of parameters"),
    "merged from many": ("groups in the order of parameters", "two groups"),
    "rates come": ("two groups", "all that there is"),
    "rates go": ("all that there is", "two groups"),
}
each_change = pytest.mark.parametrize(
    ("before", "after"), [(RULES[before], RULES[after]) for before, after in CHANGES.values()], ids=CHANGES
)
# What schedule-free steps have accumulated, under the old options.
ACCUMULATED = ("weight_sum", "lr_max", "scheduled_lr")


@each_change
@each_kind
@pytest.mark.parametrize("order", [ORDER, REORDERED])
def test_under_changed_rules_each_parameter_has_its_state_and_its_new_options(
    tmp_path, key, params, before, after, order
):
    if key == "schedule_free_radam" and before == RULES["all that there is"]:
        pytest.skip("what was accumulated at different rates can't be merged; see the refusal below")
    run = trained(key, params, before)
    save_checkpoint(tmp_path, *run)
    resumed = build(key, params, after, order=order, seed=1)
    fresh = trained(key, params, after)
    with pytest.warns(ResumeWarning, match="the configuration's values hold"):
        load_checkpoint(tmp_path, *resumed)
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))
    ours, theirs = (options(each[0], each[1]["net"], without=ACCUMULATED) for each in (resumed, fresh))
    assert_same(ours, theirs)
    torch.testing.assert_close(weights(resumed[0]), weights(run[0]))
    train(*resumed, STEPS, 2 * STEPS)


@each_change
@each_kind
def test_under_changed_rules_the_bare_state_and_the_checkpoints_options_are_refused(
    tmp_path, key, params, before, after
):
    run = trained(key, params, before)
    save_checkpoint(tmp_path, *run)
    resumed = trained(key, params, after, order=REORDERED, seed=1)
    unchanged = everything(*resumed)
    with pytest.raises(StateMismatchError, match="other groups"):
        resumed[1].load_state_dict(run[1].state_dict())
    for policy in ("checkpoint", "error"):
        with pytest.raises(CheckpointMismatchError):
            load_checkpoint(tmp_path, *resumed, on_mismatch=policy)
    assert_same(everything(*resumed), unchanged)


def test_schedule_free_groups_of_other_rates_are_not_merged(tmp_path):
    run = trained("schedule_free_radam", SCHEDULE_FREE, RULES["all that there is"])
    save_checkpoint(tmp_path, *run)
    resumed = build("schedule_free_radam", SCHEDULE_FREE, RULES["two groups"], order=REORDERED, seed=1)
    unchanged = everything(*resumed)
    with pytest.raises(CheckpointMismatchError, match=r"between which training has moved .*lr_max.* apart"):
        load_checkpoint(tmp_path, *resumed)
    assert_same(everything(*resumed), unchanged)


@pytest.mark.parametrize("evaluating", [True, False])
def test_schedule_free_evaluation_weights_stay_when_rules_change_its_options(tmp_path, evaluating):
    run = trained("schedule_free_radam", SCHEDULE_FREE)
    with run[1].eval_mode():
        averaged = weights(run[0])
    if evaluating:
        run[1].eval()
    save_checkpoint(tmp_path, *run)
    rules = [{"match": "^embed|^norm", "betas": [0.7, 0.9]}]
    resumed = build("schedule_free_radam", SCHEDULE_FREE, rules, order=REORDERED, seed=1)
    with pytest.warns(ResumeWarning):
        load_checkpoint(tmp_path, *resumed)
    with resumed[1].eval_mode():
        torch.testing.assert_close(weights(resumed[0]), averaged)


# Names that differ, or aren't there.


@each_kind
def test_missing_and_unexpected_names_are_listed_and_nothing_changes(tmp_path, key, params):
    run = trained(key, params)
    save_checkpoint(tmp_path, *run)
    resumed = trained(key, params, order=REORDERED, seed=1)
    unchanged = everything(*resumed)
    other = Network(ORDER)
    other.tail = other.head
    del other.head
    optimizers = build_optimizers({"net": other}, {"net": {"type": key, "params": params}})
    both = r"(?s)(?=.*'tail\.weight')(?=.*'tail\.bias')(?=.*'head\.weight')(?=.*'head\.bias')"
    with pytest.raises(StateMismatchError, match=both):
        optimizers.load_state_dict(run[1].state_dict())
    with pytest.raises(StateMismatchError, match=both):
        resumed[1].load_state_dict(optimizers.state_dict())
    with pytest.raises(CheckpointMismatchError, match=both):
        load_checkpoint(tmp_path, {"net": other}, optimizers)
    assert_same(everything(*resumed), unchanged)


@each_kind
def test_a_state_from_before_there_were_names_is_loaded_by_position(key, params):
    run = trained(key, params, RULES["two groups"])
    state = copy.deepcopy(run[1].state_dict())
    for group in state["net"]["param_groups"]:
        del group["param_names"]
    resumed = build(key, params, RULES["two groups"], seed=1)
    resumed[0]["net"].load_state_dict(run[0]["net"].state_dict())
    resumed[1].load_state_dict(state)
    for each in (run, resumed):
        train(*each, STEPS, 2 * STEPS)
    assert_same(everything(*resumed), everything(*run))
    assert resumed[1]["net"].param_groups[0]["param_names"] == run[1]["net"].param_groups[0]["param_names"]


def test_the_librarys_own_state_without_names_is_still_taken():
    network = Network(ORDER)
    library = schedulefree.RAdamScheduleFree(network.parameters(), betas=(0.9, 0.9))
    library.train()
    train({"net": network}, library, 0, STEPS)
    models, optimizers = build("schedule_free_radam", SCHEDULE_FREE, seed=1)
    optimizers["net"].load_state_dict(library.state_dict())
    assert_same(states(models, optimizers["net"]), states({"net": network}, library))


@each_kind
@pytest.mark.parametrize("spoil", [lambda names: [names[0]] * len(names), lambda names: names[:-1]])
def test_names_that_say_nothing_certain_are_refused(key, params, spoil):
    state = copy.deepcopy(trained(key, params)[1]["net"].state_dict())
    state["param_groups"][0]["param_names"] = spoil(state["param_groups"][0]["param_names"])
    resumed = build(key, params, order=REORDERED, seed=1)
    unchanged = everything(*resumed)
    with pytest.raises(StateMismatchError):
        resumed[1]["net"].load_state_dict(state)
    assert_same(everything(*resumed), unchanged)


@each_kind
def test_a_group_added_in_training_is_matched_by_the_names_it_was_given(key, params):
    def run(order, seed):
        models, optimizers = trained(key, params, order=order, seed=seed)
        late = nn.ModuleDict({name: nn.Linear(4, 4) for name in sorted(order)})
        models["late"] = late
        pairs = [(f"late.{name}.weight", late[name].weight) for name in order]
        optimizers["net"].add_param_group({"params": pairs, "weight_decay": 0.0})
        for name in order:
            late[name].weight.grad = torch.full((4, 4), float(sum(name.encode()) % 7 - 3))
        optimizers.step()
        return models, optimizers

    def late_states(models, optimizers):
        return {name: optimizers["net"].state[layer.weight] for name, layer in models["late"].items()}

    first, second = run(ORDER, 0), run(REORDERED, 1)
    for (_, layer), (_, other) in zip(first[0]["late"].items(), second[0]["late"].items(), strict=True):
        other.load_state_dict(layer.state_dict())
    second[1].load_state_dict(first[1].state_dict())
    assert_same(late_states(*second), late_states(*first))


def test_a_group_joins_an_optimizer_in_evaluation_mode_without_names():
    models, optimizers = trained("schedule_free_radam", SCHEDULE_FREE)
    optimizers.eval()
    optimizers["net"].add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert optimizers["net"].param_groups[1]["train_mode"] is False
    optimizers.train()
    train(models, optimizers, 0, 1)


@pytest.mark.parametrize("fused", [True, False])
def test_a_schedule_free_optimizer_with_names_of_its_own_matches_by_them(fused):
    def run(order, seed=0):
        network = Network(order, seed)
        return {"net": network}, ScheduleFreeRAdam(
            network.named_parameters(), betas=(0.9, 0.9), silent_sgd_phase=False, fused=fused
        )

    first, second = run(ORDER), run(REORDERED, 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*can't compile its step")
        train(*first, 0, STEPS)
        second[0]["net"].load_state_dict(first[0]["net"].state_dict())
        second[1].load_state_dict(copy.deepcopy(first[1].state_dict()))
        for each in (first, second):
            train(*each, STEPS, 2 * STEPS)
    assert_same(states(*second), states(*first))
    assert_same(weights(second[0]), weights(first[0]))
