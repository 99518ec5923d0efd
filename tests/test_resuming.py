"""Resuming each built-in under a changed configuration: whose values hold, and that it is said."""

import copy
import warnings

import pytest
import torch
from torch import nn

from optim_core import CheckpointMismatchError, build_optimizers, load_checkpoint, save_checkpoint

STEPS = 12
WARMUP_COSINE = {"peak_lr": 0.01, "total_steps": 40, "warmup_steps": 5, "end_lr": 0.001}
ONE_CYCLE = {"max_lr": 0.01, "total_steps": 40}
CHANGES = [
    ("adamw_warmup_cosine_decay", WARMUP_COSINE, change)
    for change in (
        {"peak_lr": 0.02},
        {"total_steps": 80},
        {"warmup_steps": 20},
        {"start_lr": 0.001},
        {"betas": [0.8, 0.99]},
        {"weight_decay": 0.3},
        {"peak_lr": 0.02, "total_steps": 100, "eps": 1e-6},
    )
]
CHANGES += [
    ("adamw_cosine_schedule", ONE_CYCLE, change)
    for change in (
        {"max_lr": 0.02},
        {"total_steps": 80},
        {"pct_start": 0.5},
        {"cycle_momentum": False},
        {"cycle_momentum": False, "betas": [0.7, 0.9]},
        {"betas": [0.8, 0.99]},
        {"max_momentum": 0.99},
        {"three_phase": True},
        {"anneal_strategy": "linear", "weight_decay": 0.3},
    )
]
CHANGES += [
    ("schedule_free_radam", {}, change)
    for change in ({"lr": 0.01}, {"betas": [0.8, 0.99]}, {"weight_decay": 0.1}, {"r": 1.0})
]
each_change = pytest.mark.parametrize(("key", "params", "change"), CHANGES)


def build(key, params, seed=0):
    torch.manual_seed(seed)
    models = {"net": nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))}
    return models, build_optimizers(models, {"net": {"type": key, "params": params}})


def train(models, optimizers, first, last):
    for step in range(first, last):
        torch.manual_seed(step)
        optimizers.zero_grad()
        models["net"](torch.randn(16, 4)).square().mean().backward()
        optimizers.step()


def options(optimizers):
    (group,) = optimizers["net"].param_groups
    return {name: value for name, value in group.items() if name != "params"}


def everything(models, optimizers):
    return copy.deepcopy((models["net"].state_dict(), optimizers["net"].state_dict()))


def same(left, right):
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def saved_run(tmp_path, key, params):
    models, optimizers = build(key, params)
    train(models, optimizers, 0, STEPS)
    save_checkpoint(tmp_path, models, optimizers)
    return models, optimizers


@pytest.mark.parametrize(("key", "params"), dict.fromkeys((key, tuple(p.items())) for key, p, _ in CHANGES))
def test_an_unchanged_configuration_resumes_bit_for_bit_without_a_word(tmp_path, key, params):
    models, optimizers = saved_run(tmp_path, key, dict(params))
    train(models, optimizers, STEPS, 2 * STEPS)
    resumed, resumed_optimizers = build(key, dict(params), seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(tmp_path, resumed, resumed_optimizers)
    train(resumed, resumed_optimizers, STEPS, 2 * STEPS)
    assert same(everything(resumed, resumed_optimizers), everything(models, optimizers))


@each_change
def test_the_configuration_holds_at_the_checkpoints_position(tmp_path, key, params, change):
    saved_run(tmp_path, key, params)
    resumed = build(key, params | change, seed=1)
    with pytest.warns(UserWarning, match="the configuration's values hold") as caught:
        load_checkpoint(tmp_path, *resumed)
    fresh = build(key, params | change)
    train(*fresh, 0, STEPS)

    assert len(caught) == 1
    assert all(f"net.{name}: is " in str(caught[0].message) for name in change)
    assert str(caught[0].message).count(" in the checkpoint and ") == len(change)
    ours, expected = options(resumed[1]), options(fresh[1])
    if key == "schedule_free_radam":
        # What its steps have accumulated is the checkpoint's, made under the old options.
        accumulated = ("weight_sum", "lr_max", "scheduled_lr")
        ours, expected = ({k: v for k, v in o.items() if k not in accumulated} for o in (ours, expected))
    assert ours == expected


@each_change
def test_the_checkpoints_values_go_on_bit_for_bit(tmp_path, key, params, change):
    models, optimizers = saved_run(tmp_path, key, params)
    resumed, resumed_optimizers = build(key, params | change, seed=1)
    with pytest.warns(UserWarning, match="the checkpoint's values hold"):
        load_checkpoint(tmp_path, resumed, resumed_optimizers, on_mismatch="checkpoint")
    train(models, optimizers, STEPS, 2 * STEPS)
    train(resumed, resumed_optimizers, STEPS, 2 * STEPS)
    assert same(everything(resumed, resumed_optimizers), everything(models, optimizers))


@each_change
def test_any_change_is_an_error_on_request_and_changes_nothing(tmp_path, key, params, change):
    saved_run(tmp_path, key, params)
    resumed = build(key, params | change, seed=1)
    before = everything(*resumed)
    with pytest.raises(CheckpointMismatchError, match=rf"net\.{next(iter(change))}: is"):
        load_checkpoint(tmp_path, *resumed, on_mismatch="error")
    assert same(everything(*resumed), before)


@pytest.mark.parametrize("beta", [0.5, 0.95])
def test_a_changed_interpolation_leaves_the_averaged_weights_alone(tmp_path, beta):
    models, optimizers = saved_run(tmp_path, "schedule_free_radam", {})
    with optimizers.eval_mode():
        averaged = models["net"][0].weight.detach().clone()
    resumed, resumed_optimizers = build("schedule_free_radam", {"betas": [beta, 0.999]}, seed=1)
    with pytest.warns(UserWarning, match=r"net\.betas"):
        load_checkpoint(tmp_path, resumed, resumed_optimizers)
    with resumed_optimizers.eval_mode():
        torch.testing.assert_close(resumed["net"][0].weight, averaged)
