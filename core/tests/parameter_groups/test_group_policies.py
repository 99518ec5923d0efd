"""Named policies: the core's `no_weight_decay`, those of others, and what they may return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from optim_core.discovery.hook_specifications import hookimpl
from optim_core.discovery.hooks import hook_manager

Named = Callable[..., list[list[str]]]
Groups = Callable[..., list[dict[str, Any]]]
Refused = Callable[..., list[str]]


class Policies:
    """A plugin that offers "mine"."""

    POLICIES: Any = ("mine",)

    def __init__(self, make: Callable[[nn.Module, Any], Any]) -> None:
        self.make = make

    @hookimpl
    def optim_param_groups(self, component: str, module: nn.Module, spec: Any, policy: str, argument: Any) -> Any:
        assert (component, spec.component) == ("net", "net")
        return self.make(module, argument) if policy == "mine" else None


def offer(make: Callable[[nn.Module, Any], Any], name: str = "a plugin") -> Policies:
    plugin = Policies(make)
    hook_manager().register(plugin, name=name)
    return plugin


def test_no_weight_decay_is_for_vectors_and_biases(named: Named) -> None:
    class Matrix(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.ones(2, 2))
            self.biased = nn.Parameter(torch.ones(2, 2))
            self.scalar = nn.Parameter(torch.ones(()))
            self.inner = nn.ModuleDict({"bias_net": nn.Linear(2, 2)})

    assert named(Matrix(), ["no_weight_decay"]) == [
        ["biased", "inner.bias_net.weight"],
        ["bias", "scalar", "inner.bias_net.bias"],
    ]


class Listing(nn.Module):
    def __init__(self, names: Any) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.ones(1, 2))
        self.head = nn.Linear(2, 2, bias=False)
        self.names = names

    def no_weight_decay(self) -> Any:
        return self.names


@pytest.mark.parametrize("names", [{"position"}, ["pos*"], ("position", "not there")])
def test_no_weight_decay_is_for_what_the_module_lists(named: Named, names: Any) -> None:
    assert named(Listing(names), "no_weight_decay") == [["head.weight"], ["position"]]


def test_no_weight_decay_asks_submodules_where_the_component_lists_nothing(named: Named) -> None:
    net = nn.Sequential(nn.Sequential(Listing({"position"})), nn.Linear(2, 2, bias=False))
    assert named(net, "no_weight_decay") == [["0.0.head.weight", "1.weight"], ["0.0.position"]]


def test_no_weight_decay_asks_through_a_compiled_submodule(named: Named) -> None:
    net = nn.Sequential(Listing({"position"}))
    net[0] = torch.compile(net[0])
    assert len(named(net, "no_weight_decay")) == 2


@pytest.mark.parametrize("names", [5, None])
def test_a_listing_of_no_use_is_a_problem_that_names_it(refused: Refused, names: Any) -> None:
    (problem,) = refused(Listing(names), ["no_weight_decay"])
    assert problem.startswith("net.param_groups[0].no_weight_decay: no_weight_decay() of Listing returned")


def test_no_weight_decay_does_not_take_a_lazy_matrix_for_a_vector(build: Callable[..., Any]) -> None:
    from optim_core.errors import ConfigurationError

    try:
        groups = build(nn.Sequential(nn.LazyLinear(3)), ["no_weight_decay"])["net"].param_groups
    except ConfigurationError:
        return  # what isn't known yet may be refused, as for a rule with `ndim`
    decay = {name: group["weight_decay"] for group in groups for name in group["param_names"]}
    assert decay["0.weight"] == 0.01


def test_lazy_modules_have_rules_by_name_and_class_and_a_summary(build: Callable[..., Any], refused: Refused) -> None:
    net = nn.Sequential(nn.LazyLinear(3), nn.LayerNorm(3))
    optimizers = build(net, [{"match": "0.weight", "lr": 0.2}, {"type": "Linear", "lr": 0.3}])
    assert [g["lr"] for g in optimizers["net"].param_groups] == [0.1, 0.2, 0.3]
    assert refused(net, [{"ndim": 1, "lr": 0.2}]) == [
        "net.param_groups[0].ndim: the module has parameters whose dimensions are not known yet. Run the model once on "
        "a batch before its optimizers are built"
    ]
    assert "match 0.weight" in optimizers.summary()


def test_the_first_entry_that_sets_an_option_wins_be_it_a_rule_or_a_policy(groups: Groups, net: nn.Module) -> None:
    rule = {"type": "LayerNorm", "weight_decay": 0.3}
    decay = [
        {n: g["weight_decay"] for g in groups(net, entries) for n in g["param_names"]}["1.bias"]
        for entries in ([rule, "no_weight_decay"], ["no_weight_decay", rule])
    ]
    assert decay == [0.3, 0.0]


def test_a_policy_takes_no_matches_from_rules(groups: Groups, net: nn.Module) -> None:
    entries = ["no_weight_decay", {"match": "bias", "lr": 0.2}, {"match": "bias|^1", "lr": 0.3}]
    found = {n: (g["lr"], g["weight_decay"]) for g in groups(net, entries) for n in g["param_names"]}
    assert (found["2.bias"], found["1.weight"], found["2.weight"]) == ((0.2, 0.0), (0.3, 0.0), (0.1, 0.01))


FORMS: dict[str, Callable[[nn.Module, Any], Any]] = {
    "list": lambda net, argument: [{"params": [net[0].bias, net[2].bias], "lr_scale": argument}],
    "iterator": lambda net, argument: [{"params": iter([net[0].bias, net[2].bias]), "lr_scale": argument}],
    "tuple": lambda net, argument: tuple({"params": net[i].bias, "lr_scale": argument} for i in (0, 2)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_third_partys_policy_takes_part(groups: Groups, net: nn.Module, form: str) -> None:
    offer(FORMS[form])
    made = groups(net, [{"mine": 0.5}, {"match": "2", "weight_decay": 0.0}])
    found = {n: (g["lr"], g["weight_decay"]) for g in made for n in g["param_names"]}
    assert found["0.bias"] == (0.05, 0.01)
    assert found["2.bias"] == (0.05, 0.0)
    assert found["2.weight"] == (0.1, 0.0)


def test_a_policy_may_freeze_and_have_a_label(build: Callable[..., Any], net: nn.Module) -> None:
    offer(lambda net, _: [{"params": [net[0].weight], "freeze": True, "label": "the stem"}])
    optimizers = build(net, ["mine"])
    (frozen,) = [a for a in optimizers.assignments() if not a.trainable]
    assert (frozen.rule, frozen.names, net[0].weight.requires_grad) == ("mine (the stem)", ("0.weight",), False)


def test_a_policy_with_nothing_to_say_changes_nothing(groups: Groups, net: nn.Module) -> None:
    offer(lambda net, _: [])
    assert len(groups(net, ["mine"])) == 1


RUBBISH: dict[str, tuple[Callable[[nn.Module, Any], Any], str]] = {
    "None": (lambda net, _: None, "NoneType, not a list of dictionaries"),
    "tensors": (lambda net, _: list(net.parameters()), "list, not a list of dictionaries"),
    "a dictionary": (lambda net, _: {"params": []}, "dict, not a list of dictionaries"),
    "no params": (lambda net, _: [{"lr": 1}], "a group without a list of 'params'"),
    "a number": (lambda net, _: [{"params": 1}], "a group without a list of 'params'"),
    "foreign": (lambda net, _: [{"params": [torch.ones(1)]}], "something that is no parameter of the component"),
    "names": (lambda net, _: [{"params": "0.bias"}], "something that is no parameter of the component"),
    "twice": (lambda net, _: [{"params": [net[0].bias]}] * 2, "a parameter twice"),
    "a key": (lambda net, _: [{"params": [], 1: 2}], "a group with an option whose name is no string"),
    "a scale": (
        lambda net, _: [{"params": [], "lr_scale": -1}],
        "lr_scale = -1, which is no finite number of zero or more",
    ),
}


@pytest.mark.parametrize(("make", "what"), RUBBISH.values(), ids=RUBBISH)
def test_rubbish_from_a_policy_is_its_authors(refused: Refused, net: nn.Module, make: Any, what: str) -> None:
    offer(make)
    assert refused(net, [{"match": "0.bias", "freeze": True}, "mine"]) == [
        f"net.param_groups[1]: the policy 'mine' returned {what}. Its author must mend that"
    ]


@pytest.mark.parametrize("group", [{"lr_scale": 10**400}, {"freeze": "no"}])
def test_effects_of_the_wrong_kind_are_its_authors_too(refused: Refused, net: nn.Module, group: dict[str, Any]) -> None:
    offer(lambda net, _: [{"params": [net[0].bias], **group}])
    (problem,) = refused(net, ["mine"])
    assert problem.startswith("net.param_groups[0]: the policy 'mine' returned")


def test_an_option_that_the_optimizer_does_not_have_is_a_problem_of_the_policy(refused: Refused, net: Any) -> None:
    offer(lambda net, _: [{"params": [net[0].bias], "momentumm": 1}])
    assert refused(net, ["mine"]) == [
        "net.param_groups[0].mine.momentumm: the optimizer's groups have no such option. Did you mean 'momentum'?"
    ]


def test_a_policy_that_refuses_is_reported(refused: Refused, net: nn.Module) -> None:
    def refuse(_: nn.Module, argument: Any) -> Any:
        raise ValueError(f"= {argument!r}: must be even")

    offer(refuse)
    assert refused(net, [{"mine": 3}]) == ["net.param_groups[0].mine = 3: must be even"]


def test_a_policy_that_fails_says_whose_it_is(build: Callable[..., Any], net: nn.Module) -> None:
    def fail(_: nn.Module, __: Any) -> Any:
        raise RuntimeError("boom")

    offer(fail)
    with pytest.raises(RuntimeError, match="boom") as caught:
        build(net, [{"match": "0.bias", "freeze": True}, "mine"])
    assert caught.value.__notes__[0] == "raised by the policy 'mine' of component 'net'"
    assert net[0].bias.requires_grad


def test_a_policy_that_two_plugins_offer_is_refused_with_their_names(refused: Refused, net: nn.Module) -> None:
    offer(lambda net, _: [], name="one")
    offer(lambda net, _: [], name="two")
    (problem,) = refused(net, ["mine"])
    assert {"'mine' is offered by two and by one", "'mine' is offered by one and by two"} & {
        problem.removeprefix("net.param_groups[0]: the policy ").partition(". ")[0]
    }


def test_objects_that_have_no_name_are_named_by_their_class(refused: Refused, net: nn.Module) -> None:
    for _ in range(2):
        hook_manager().register(Policies(lambda net, _: []))
    assert "Policies" in refused(net, ["mine"])[0]


def test_nobody_takes_over_the_cores_policies_unnoticed(refused: Refused, net: nn.Module) -> None:
    plugin = Policies(lambda net, _: [])
    plugin.POLICIES = ("no_weight_decay",)
    hook_manager().register(plugin, name="rival")
    assert "rival" in refused(net, ["no_weight_decay"])[0]


@pytest.mark.parametrize("policies", [{"mine"}, frozenset({"mine"}), "mine"])
def test_a_sign_of_policies_in_another_form_is_not_silently_ignored(groups: Groups, net: Any, policies: Any) -> None:
    from optim_core.errors import ConfigurationError

    plugin = Policies(lambda net, _: [{"params": [net[0].bias], "lr": 0.5}])
    plugin.POLICIES = policies
    hook_manager().register(plugin, name="plugin")
    try:
        assert len(groups(net, ["mine"])) == 2
    except ConfigurationError as error:
        assert "POLICIES" in str(error)  # noqa: PT017


def test_a_hook_without_policies_is_never_asked_for_one(groups: Groups, net: nn.Module) -> None:
    class Old:
        @hookimpl
        def optim_param_groups(self, module: nn.Module) -> list[nn.Parameter]:
            return list(module.parameters())

    hook_manager().register(Old())
    assert [g["weight_decay"] for g in groups(net, ["no_weight_decay"])] == [0.01, 0.0]


class Base:
    """Gives a group of vectors with a rate of its own, and the rest."""

    @hookimpl
    def optim_param_groups(self, module: nn.Module, policy: str | None) -> Iterator[dict[str, Any]] | None:
        if policy is not None:
            return None
        vectors = [p for p in module.parameters() if p.ndim == 1]
        matrices = [p for p in module.parameters() if p.ndim > 1]
        return iter([{"params": vectors, "lr": 0.4, "weight_decay": 0.0}, {"params": matrices}])


def test_rules_apply_to_the_groups_of_a_hook(groups: Groups, net: nn.Module) -> None:
    hook_manager().register(Base())
    made = groups(net, [{"match": "^0", "lr_scale": 0.5}, {"match": "1.bias", "weight_decay": 0.01}])
    found = {n: (g["lr"], g["weight_decay"]) for g in made for n in g["param_names"]}
    assert found == {
        "0.weight": (0.05, 0.01),
        "0.bias": (0.2, 0.0),
        "1.weight": (0.4, 0.0),
        "1.bias": (0.4, 0.01),
        "2.weight": (0.1, 0.01),
        "2.bias": (0.4, 0.0),
    }


def test_what_rules_make_equal_is_merged_with_a_group_of_a_hook(groups: Groups, net: nn.Module) -> None:
    hook_manager().register(Base())
    made = groups(net, [{"match": "0.weight", "lr": 0.4, "weight_decay": 0.0}])
    assert len(made) == 2


@pytest.mark.parametrize("listing", [{"0.weight": 1}, ["0.weight"], ("0.weight",)])
def test_a_listing_may_be_any_collection(groups: Callable[..., Any], listing: Any) -> None:
    class Listed(nn.Sequential):
        def no_weight_decay(self) -> Any:
            return listing

    found = groups(Listed(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)), "no_weight_decay")
    assert [(g["param_names"], g["weight_decay"]) for g in found] == [(["1.weight"], 0.01), (["0.weight"], 0.0)]


def test_a_rule_may_keep_parameters_from_being_frozen_by_a_policy(groups: Callable[..., Any]) -> None:
    class Freezes:
        POLICIES = ("frozen",)

        @hookimpl
        def optim_param_groups(self, module: nn.Module, policy: str | None) -> Any:
            return [{"params": module.parameters(), "freeze": True}] if policy == "frozen" else None

    hook_manager().register(Freezes())
    net = nn.Linear(2, 2)
    groups(net, [{"match": "bias", "freeze": False}, "frozen"])
    assert (net.bias.requires_grad, net.weight.requires_grad) == (True, False)


def test_names_that_a_hook_gives_stay_under_rules(groups: Callable[..., Any]) -> None:
    class Names:
        @hookimpl
        def optim_param_groups(self, module: nn.Module, policy: str | None) -> Any:
            return [(f"x.{name}", p) for name, p in module.named_parameters()] if policy is None else None

    hook_manager().register(Names())
    found = groups(nn.Linear(2, 2), [{"match": "bias", "weight_decay": 0.5}])
    assert [group["param_names"] for group in found] == [["x.weight"], ["x.bias"]]
