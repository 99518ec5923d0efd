"""Groups that are added after the build: with names and without, and what may be given as one."""

import pytest
import torch
from torch import nn

from core_support.reordered_builds import ORDER, REGISTRY, REORDERED, STEPS, build, configuration, each_key, trained
from core_support.reordered_runs import Network, assert_same, each_route, everything, states, through_checkpoint, train
from optim_core import StateMismatchError, build_optimizers, hook_manager, hookimpl


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
