"""States matched by the names of parameters: reordered ones load right, others are listed and refused."""

import copy
import pickle
import time
import warnings
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from core_support.reordered_runs import (
    Network,
    assert_same,
    each_route,
    everything,
    options,
    states,
    through_checkpoint,
    through_optimizer,
    train,
)
from optim_core import (
    CheckpointMismatchError,
    OptimizerRegistry,
    ResumeWarning,
    ScheduledAdamW,
    ScheduledOptimizer,
    StateMismatchError,
    WarmupCosine,
    build_optimizers,
    hook_manager,
    hookimpl,
    load_checkpoint,
    save_checkpoint,
)
from optim_core.authoring import without_hooks

STEPS = 4
ORDER = ("embed", "first", "norm", "second")
# Position by position of the same shapes: nothing but names can tell that it is another order.
REORDERED = ("second", "first", "norm", "embed")
SCHEDULE = WarmupCosine(peak_lr=0.02, total_steps=40, warmup_steps=3)


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    """SGD on a schedule."""


@dataclass(frozen=True, kw_only=True)
class ScheduledFactory:
    """AdamW on a schedule."""

    weight_decay: float = 0.1
    amsgrad: bool = False
    fused: bool | None = None
    foreach: bool | None = None

    def build(self, params):
        return ScheduledAdamW(params, schedule=SCHEDULE, **vars(self))


@dataclass(frozen=True, kw_only=True)
class ScheduledSGDFactory:
    """SGD on a schedule."""

    momentum: float = 0.9
    weight_decay: float = 0.1

    def build(self, params):
        return ScheduledSGD(params, schedule=SCHEDULE, **vars(self))


@dataclass(frozen=True, kw_only=True)
class AdamWFactory:
    """PyTorch's AdamW."""

    lr: float = 0.01
    weight_decay: float = 0.1
    amsgrad: bool = False
    fused: bool | None = None
    foreach: bool | None = None

    def build(self, params):
        return torch.optim.AdamW(params, **vars(self))


@dataclass(frozen=True, kw_only=True)
class SGDFactory:
    """PyTorch's SGD."""

    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.1

    def build(self, params):
        return torch.optim.SGD(params, **vars(self))


@dataclass(frozen=True, kw_only=True)
class LBFGSFactory:
    """PyTorch's L-BFGS, whose state is of all parameters together."""

    lr: float = 0.1

    def build(self, params):
        return torch.optim.LBFGS(params, lr=self.lr, max_iter=2)


@dataclass(frozen=True, kw_only=True)
class WithEmptyGroupFactory:
    """AdamW with a group for adapters, of which there may be none."""

    lr: float = 0.01
    weight_decay: float = 0.1
    spare: bool = True

    def build(self, params):
        groups = [{"params": list(params)}]
        groups += [{"params": [], "weight_decay": 0.0}] if self.spare else []
        return torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay)


REGISTRY = OptimizerRegistry()
for _key, _factory in {
    "scheduled": ScheduledFactory,
    "scheduled_sgd": ScheduledSGDFactory,
    "adamw": AdamWFactory,
    "sgd": SGDFactory,
    "lbfgs": LBFGSFactory,
    "with_empty_group": WithEmptyGroupFactory,
}.items():
    REGISTRY.register(_key, _factory)

KINDS = [
    ("scheduled", {}),
    ("scheduled", {"amsgrad": True}),
    ("scheduled", {"foreach": True, "amsgrad": True}),
    ("scheduled", {"foreach": False, "fused": False}),
    ("scheduled_sgd", {}),
    ("adamw", {}),
    ("adamw", {"fused": True, "amsgrad": True}),
    ("adamw", {"foreach": True}),
    ("sgd", {}),
]
RULES = {
    "one group": (),
    "two groups": ({"match": "norm|bias$", "weight_decay": 0.0},),
    # With these the groups change places with the parameters.
    "groups in the order of parameters": (
        {"match": "^embed", "weight_decay": 0.2},
        {"match": "^first", "weight_decay": 0.3},
        {"match": "^norm", "weight_decay": 0.4},
        {"match": "^second", "weight_decay": 0.5},
    ),
    "rates and policies": (
        {"match": "^embed", "lr_scale": 0.1},
        "no_weight_decay",
        {"layer_decay": 0.75},
    ),
    "frozen": ({"match": "^first", "freeze": True}, "no_weight_decay"),
}
each_key = pytest.mark.parametrize("key", ["scheduled", "adamw"])


def configuration(key, params=None, rules=()):
    return {"net": {"type": key, "params": params or {}, "param_groups": list(rules)}}


def build(key, params=None, rules=(), *, order=ORDER, seed=0):
    models = {"net": Network(order, seed)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no optimizer")
        return models, build_optimizers(models, configuration(key, params, rules), registry=REGISTRY)


def trained(*arguments, **options):
    run = build(*arguments, **options)
    train(*run, 0, STEPS)
    return run


def assert_named_right(models, optimizer):
    names = {id(p): name for name, p in models["net"].named_parameters()}
    for group in optimizer.param_groups:
        assert group["param_names"] == [names[id(p)] for p in group["params"]]


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


# Rules that have changed.

CHANGED_RULES = {
    "split": ((), RULES["two groups"]),
    "merged": (RULES["two groups"], ()),
    "split otherwise": (RULES["two groups"], ({"match": "^embed", "weight_decay": 0.3},)),
    "split into many": (RULES["two groups"], RULES["groups in the order of parameters"]),
    "merged from many": (RULES["groups in the order of parameters"], RULES["two groups"]),
    "rates gone": (RULES["rates and policies"], RULES["two groups"]),
    "rates come": (RULES["two groups"], RULES["rates and policies"]),
    "an option only": (RULES["two groups"], ({"match": "norm|bias$", "weight_decay": 0.05},)),
    "one weight decay for all": (RULES["two groups"], ({"match": "norm|bias$", "weight_decay": 0.1},)),
}
each_change = pytest.mark.parametrize(("before", "after"), CHANGED_RULES.values(), ids=CHANGED_RULES)
# What a position decides, or a way to make steps.
POSITION = ("schedule_step", "lr", "fused", "foreach")


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


# Names that are not the same.


class Renamed(nn.Module):
    """The network with other layers in it."""

    def __init__(self, names):
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(4, 4, bias=False))


def named_run(key, names, count=0):
    models = {"net": Renamed(names)}
    optimizers = build_optimizers(models, configuration(key), registry=REGISTRY)
    for _ in range(count):
        for parameter in models["net"].parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizers.step()
    return models, optimizers


@pytest.mark.parametrize("key", ["scheduled", "scheduled_sgd", "adamw", "sgd"])
@pytest.mark.parametrize("number", [1, 12, 40])
def test_missing_and_unexpected_names_are_all_listed_and_nothing_changes(key, number):
    ours, theirs = ([f"{side}{index}" for index in range(number)] for side in ("new", "old"))
    state = named_run(key, ["same", *theirs], 2)[1].state_dict()
    run = named_run(key, ["same", *ours], 1)
    unchanged = everything(*run)
    with pytest.raises(StateMismatchError) as caught:
        run[1].load_state_dict(state)
    message = str(caught.value)
    assert not [name for name in ours + theirs if f"'{name}.weight'" not in message]
    assert "same.weight" not in message
    assert_same(everything(*run), unchanged)


@each_key
def test_a_renamed_parameter_is_refused_though_number_and_shapes_fit(key, tmp_path):
    run = named_run(key, ["one", "two"], 2)
    save_checkpoint(tmp_path, *run)
    renamed = named_run(key, ["one", "three"])
    unchanged = everything(*renamed)
    both = r"(?s)(?=.*'three\.weight')(?=.*'two\.weight')"
    with pytest.raises(StateMismatchError, match=both):
        renamed[1]["net"].load_state_dict(run[1]["net"].state_dict())
    with pytest.raises(CheckpointMismatchError, match=both):
        load_checkpoint(tmp_path, *renamed)
    assert_same(everything(*renamed), unchanged)


@each_key
def test_one_component_that_is_refused_leaves_all_as_they_were(key):
    def two(names):
        models = {"first": Renamed(["one", "two"]), "second": Renamed(names)}
        spec = {"type": key, "params": {}}
        optimizers = build_optimizers(models, {"first": spec, "second": spec}, registry=REGISTRY)
        for parameter in [p for model in models.values() for p in model.parameters()]:
            parameter.grad = torch.randn_like(parameter)
        optimizers.step()
        return models, optimizers

    state = two(["three", "four"])[1].state_dict()
    _, optimizers = two(["three", "five"])
    unchanged = copy.deepcopy(optimizers.state_dict())
    with pytest.raises(StateMismatchError, match=r"component 'second'.*'five\.weight'"):
        optimizers.load_state_dict(state)
    assert_same(optimizers.state_dict()["first"]["state"], unchanged["first"]["state"])


# States with other names than they should have.


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


def test_shapes_that_differ_under_equal_names_are_refused(tmp_path):
    def run(sizes):
        models = {"net": nn.ModuleDict({name: nn.Linear(size, 1, bias=False) for name, size in sizes.items()})}
        optimizers = build_optimizers(models, configuration("scheduled"), registry=REGISTRY)
        for parameter in models["net"].parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizers.step()
        return models, optimizers

    saved = run({"one": 2, "two": 3})
    save_checkpoint(tmp_path, *saved)
    run({"two": 3, "one": 2})[1].load_state_dict(saved[1].state_dict())
    other = run({"one": 3, "two": 2})
    unchanged = everything(*other)
    with pytest.raises(StateMismatchError, match="shapes"):
        other[1].load_state_dict(saved[1].state_dict())
    with pytest.raises(CheckpointMismatchError):
        load_checkpoint(tmp_path, *other)
    assert_same(everything(*other), unchanged)


# Groups that are empty, parameters that are frozen or tied.


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
def test_a_group_without_parameters_may_come_and_go(tmp_path, before, after):
    run = trained("with_empty_group", {"spare": before})
    save_checkpoint(tmp_path, *run)
    resumed = build("with_empty_group", {"spare": after}, order=REORDERED, seed=1)
    if before == after:
        load_checkpoint(tmp_path, *resumed)
    else:
        with pytest.warns(ResumeWarning, match="spare"):
            load_checkpoint(tmp_path, *resumed)
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))
    assert_named_right(resumed[0], resumed[1]["net"])


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_a_bare_state_with_another_number_of_empty_groups_is_refused_in_words(before, after):
    state = trained("with_empty_group", {"spare": before})[1].state_dict()
    resumed = build("with_empty_group", {"spare": after})
    with pytest.raises(StateMismatchError) as caught:
        resumed[1].load_state_dict(state)
    message = str(caught.value)
    assert "groups: ." not in message
    assert "groups  of" not in message


@each_route
@each_key
def test_frozen_parameters_without_state_stay_without(tmp_path, key, route):
    def run(order, seed):
        models = {"net": Network(order, seed)}
        models["net"].first.requires_grad_(False)
        return models, build_optimizers(models, configuration(key), registry=REGISTRY)

    saved, resumed = run(ORDER, 0), run(REORDERED, 1)
    train(*saved, 0, STEPS)
    route(saved, resumed, tmp_path)
    assert "first.weight" not in states(resumed[0], resumed[1]["net"])
    for each in (saved, resumed):
        train(*each, STEPS, 2 * STEPS)
    assert_same(everything(*resumed), everything(*saved))


class Tied(nn.Module):
    """An embedding whose weights are the output's too; whichever is registered first names them."""

    def __init__(self, order):
        super().__init__()
        for name in order:
            self.add_module(name, nn.Linear(4, 4, bias=False))
        self.output.weight = self.embed.weight

    def forward(self, inputs):
        return self.output(self.hidden(self.embed(inputs)).tanh())


@each_route
@each_key
@pytest.mark.parametrize("order", [("embed", "output", "hidden"), ("hidden", "output", "embed")])
def test_tied_parameters_are_one_whichever_name_comes_first(tmp_path, key, order, route):
    def run(order):
        models = {"net": Tied(order)}
        return models, build_optimizers(models, configuration(key), registry=REGISTRY)

    saved, resumed = run(("embed", "hidden", "output")), run(order)
    train(*saved, 0, STEPS)
    if route is through_optimizer and order[0] != "embed":
        # An optimizer alone knows no module, and so no further names.
        with pytest.raises(StateMismatchError, match=r"not in the checkpoint: 'output.weight'; only .*'embed.weight'"):
            route(saved, resumed, tmp_path)
        return
    route(saved, resumed, tmp_path)
    for each in (saved, resumed):
        train(*each, STEPS, 2 * STEPS)
    assert_same(resumed[0]["net"].state_dict(), saved[0]["net"].state_dict())


# Groups that are added later.


class OnlyTrainable:
    """Leaves out what isn't trainable when the optimizers are built."""

    @hookimpl
    def optim_param_groups(self, module, policy):
        return [p for p in module.parameters() if p.requires_grad] if policy is None else None


def with_late_groups(key, order=ORDER, *, named=True, seed=0):
    """A run with two frozen layers, which are thawed and added later, in one group."""
    models = {"net": Network(order, seed)}
    late = [models["net"].get_submodule(name) for name in order if name in ("first", "second")]
    for layer in late:
        layer.requires_grad_(False)
    plugin = OnlyTrainable()
    hook_manager().register(plugin)
    run = models, build_optimizers(models, configuration(key), registry=REGISTRY)
    hook_manager().unregister(plugin)
    train(*run, 0, 2)
    for layer in late:
        layer.requires_grad_(True)
    pairs = [pair for pair in models["net"].named_parameters() if pair[0].startswith(("first", "second"))]
    run[1]["net"].add_param_group({"params": pairs if named else [p for _, p in pairs], "weight_decay": 0.3})
    train(*run, 2, STEPS)
    return run


@each_route
@each_key
def test_layers_thawed_later_with_names_are_matched_by_them(tmp_path, key, route):
    run, resumed = with_late_groups(key), with_late_groups(key, REORDERED, seed=1)
    train(*resumed, STEPS, 2 * STEPS)
    route(run, resumed, tmp_path)
    for each in (run, resumed):
        train(*each, STEPS, 2 * STEPS)
    assert_same(everything(*resumed), everything(*run))


def test_layers_thawed_later_without_names_get_what_was_saved_for_them_in_a_checkpoint(tmp_path):
    # What build_optimizers has walked is known by name, whenever it joins; a state alone goes by the place.
    run = with_late_groups("scheduled", named=False)
    resumed = with_late_groups("scheduled", REORDERED, named=False, seed=1)
    train(*resumed, STEPS, 2 * STEPS)
    through_checkpoint(run, resumed, tmp_path)
    assert_same(everything(*resumed), everything(*run))


def test_a_group_without_names_can_be_added_to_what_was_built():
    _, optimizers = build("scheduled")
    added = nn.Parameter(torch.ones(2))
    optimizers["net"].add_param_group({"params": [added]})
    added.grad = torch.ones(2)
    optimizers.step()
    assert added in optimizers["net"].state


@each_key
def test_a_name_that_is_taken_does_not_end_the_matching_by_names(key):
    run = trained(key)
    resumed = build(key, {}, order=REORDERED, seed=1)
    for each in (run, resumed):
        # A head that was made later, whose names begin anew.
        each[1]["net"].add_param_group({"params": [("embed.weight", nn.Parameter(torch.ones(2)))]})
    state = run[1]["net"].state_dict()
    try:
        resumed[1]["net"].load_state_dict(state)
    except StateMismatchError:
        return
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))


def test_made_up_names_are_not_made_up_twice():
    _, optimizers = build("scheduled")
    optimizer = optimizers["net"]
    for _ in range(2):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    del optimizer.param_groups[1]
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    names = [name for group in optimizer.param_groups for name in group["param_names"]]
    assert len(set(names)) == len(names)


def test_a_set_of_parameters_is_refused_as_pytorch_does():
    _, optimizers = build("scheduled")
    with pytest.raises(TypeError, match="ordered collections"):
        optimizers["net"].add_param_group({"params": {nn.Parameter(torch.ones(2))}})


@pytest.mark.parametrize("make", [list, tuple, iter, lambda params: params[0]])
def test_a_group_may_be_given_in_every_way_that_pytorch_takes(make):
    _, optimizers = build("scheduled")
    given = {"params": make([nn.Parameter(torch.ones(2))]), "weight_decay": 0.0}
    keys = list(given)
    optimizers["net"].add_param_group(given)
    assert list(given) == keys
    assert len(optimizers["net"].param_groups[1]["param_names"]) == 1


# Copies, hooks and wrappers.


@each_key
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])
def test_a_copy_matches_by_name_too(key, copied):
    run = trained(key)
    resumed = copied(build(key, {}, order=REORDERED, seed=1))
    resumed[1].load_state_dict(run[1].state_dict())
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))


@each_key
def test_a_scheduled_or_plain_optimizer_that_was_copied_matches_by_name(key):
    run = trained(key)
    models, optimizers = build(key, {}, order=REORDERED, seed=1)
    network, optimizer = copy.deepcopy((models["net"], optimizers["net"]))
    if key == "adamw":
        pytest.xfail("PyTorch drops the hooks of a copied optimizer")
    optimizer.load_state_dict(run[1]["net"].state_dict())
    assert_same(states({"net": network}, optimizer), states(run[0], run[1]["net"]))


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


class Lookahead(torch.optim.Optimizer):
    """As in docs/hooks.md."""

    def __init__(self, inner, period=2, alpha=0.5):
        self.inner, self.period, self.alpha = inner, period, alpha
        super().__init__(inner.param_groups, inner.defaults)
        self._share()

    def _share(self):
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def step(self, closure=None):
        loss = without_hooks(self.inner.step)(self.inner, closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._look_back(parameter, self.state[parameter])
        return loss

    @torch.no_grad()
    def _look_back(self, parameter, state):
        state["ahead"] = state.get("ahead", 0) + 1
        if "slow" not in state:
            state["slow"] = parameter.detach().clone()
        if state["ahead"] % self.period == 0:
            parameter.copy_(state["slow"].lerp_(parameter, self.alpha))

    def add_param_group(self, param_group):
        if self.param_groups is self.inner.param_groups:
            self.inner.add_param_group(param_group)
        else:
            super().add_param_group(param_group)

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state_dict, **policy):
        self.inner.load_state_dict(state_dict, **policy)
        self._share()


class ScheduledLookahead(Lookahead):
    """Of an optimizer that can be told whose schedule holds."""

    def load_state_dict(self, state_dict, *, on_mismatch=None):
        super().load_state_dict(state_dict, **({} if on_mismatch is None else {"on_mismatch": on_mismatch}))


class LookaheadEverywhere:
    """Puts a Lookahead around every optimizer."""

    @hookimpl(wrapper=True)
    def optim_build(self):
        optimizer = yield
        return ScheduledLookahead(optimizer) if hasattr(optimizer, "schedule") else Lookahead(optimizer)


@each_route
@each_key
@pytest.mark.parametrize("rules", [RULES["rates and policies"], RULES["frozen"]], ids=["rates", "frozen"])
def test_a_wrapped_optimizer_is_matched_by_name(tmp_path, key, rules, route):
    plugin = LookaheadEverywhere()
    hook_manager().register(plugin)
    run = trained(key, {}, rules)
    resumed = build(key, {}, rules, order=REORDERED, seed=1)
    hook_manager().unregister(plugin)
    route(run, resumed, tmp_path)
    assert_same(everything(*resumed), everything(*run))
    for each in (run, resumed):
        train(*each, STEPS, 2 * STEPS)
    assert_same(everything(*resumed), everything(*run))


@each_change
@each_key
def test_a_wrapped_optimizer_under_changed_rules_keeps_each_state(tmp_path, key, before, after):
    plugin = LookaheadEverywhere()
    hook_manager().register(plugin)
    run = trained(key, {}, before)
    fresh = trained(key, {}, after)
    resumed = build(key, {}, after, order=REORDERED, seed=1)
    hook_manager().unregister(plugin)
    save_checkpoint(tmp_path, *run)
    with warnings.catch_warnings():
        # What the optimizer inside says of its own, beside the ResumeWarning.
        warnings.simplefilter("ignore")
        load_checkpoint(tmp_path, *resumed)
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))
    assert_same(options(resumed[0], resumed[1]["net"]), options(fresh[0], fresh[1]["net"]))


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


@each_key
@pytest.mark.parametrize("compiled", [0, 1])
def test_compiled_parts_have_the_state_of_those_that_are_not(key, compiled):
    def run(is_compiled):
        net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        if is_compiled:
            net[0] = torch.compile(net[0], backend="eager")
        return {"net": net}, build_optimizers({"net": net}, configuration(key), registry=REGISTRY)

    saved, resumed = run(compiled == 0), run(compiled == 1)
    for parameter in saved[0]["net"].parameters():
        parameter.grad = torch.rand_like(parameter)
    saved[1].step()
    resumed[1]["net"].load_state_dict(saved[1]["net"].state_dict())
    ours, theirs = (list(optimizer["net"].state.values()) for _, optimizer in (resumed, saved))
    assert_same(ours, theirs)


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
