"""Optimizers that are copied or wrapped, and modules that are compiled, are matched by name too."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from core_support.reordered_builds import (
    REGISTRY,
    REORDERED,
    RULES,
    STEPS,
    build,
    configuration,
    each_change,
    each_key,
    trained,
)
from core_support.reordered_runs import assert_same, each_route, everything, options, states, train
from optim_core import build_optimizers, hook_manager, hookimpl, load_checkpoint, save_checkpoint
from optim_core.authoring import without_hooks


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
