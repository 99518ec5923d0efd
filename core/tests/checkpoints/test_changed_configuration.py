"""Loading under a changed configuration: which values hold under each policy, and what is said of them."""

import warnings

import pytest
import torch

from core_support.checkpointed_training import (
    CONFIGURATION,
    REGISTRY,
    changed,
    everything,
    formula,
    make,
    make_models,
    same,
    train,
)
from optim_core import CheckpointMismatchError, ResumeWarning, build_optimizers, load_checkpoint, save_checkpoint


def test_a_changed_configuration_holds_from_here_on_and_every_value_is_named(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 20)
    save_checkpoint(tmp_path, models, optimizers)
    configuration = changed(total_steps=100, peak_lr=0.02, weight_decay=0.5)
    configuration["head"] = {"type": "averaged", "params": {"momentum": 0.5}}
    resumed, resumed_optimizers = make(configuration)

    with pytest.warns(ResumeWarning) as caught:
        load_checkpoint(tmp_path, resumed, resumed_optimizers)

    (warning,) = caught
    message = str(warning.message)
    assert "the configuration's values hold" in message
    assert "body.total_steps: is 50 in the checkpoint and 100 now" in message
    assert "body.peak_lr: is 0.01 in the checkpoint and 0.02 now" in message
    assert "body.weight_decay: is 0.01 in the checkpoint and 0.5 now" in message
    assert "head.momentum: is 0.9 in the checkpoint and 0.5 now" in message
    assert "body.lr" not in message
    group = resumed_optimizers["body"].param_groups[0]
    assert group["lr"] == pytest.approx(formula(20, 0.02, 100))
    assert group["weight_decay"] == 0.5
    assert resumed_optimizers["head"].param_groups[0]["momentum"] == 0.5
    assert torch.equal(resumed["body"].weight, models["body"].weight)


def test_the_checkpoints_values_hold_where_that_is_chosen(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 20)
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = make(changed(total_steps=100, weight_decay=0.5))

    with pytest.warns(ResumeWarning, match="the checkpoint's values hold"):
        load_checkpoint(tmp_path, resumed, resumed_optimizers, on_mismatch="checkpoint")

    train(models, optimizers, 20, start=20)
    train(resumed, resumed_optimizers, 20, start=20)
    assert same(everything(resumed, resumed_optimizers), everything(models, optimizers))


def test_a_changed_configuration_is_an_error_where_that_is_chosen(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 5)
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = make(changed(total_steps=100))
    before = everything(resumed, resumed_optimizers)
    with pytest.raises(CheckpointMismatchError, match=r"body\.total_steps"):
        load_checkpoint(tmp_path, resumed, resumed_optimizers, on_mismatch="error")
    assert same(everything(resumed, resumed_optimizers), before)


def test_a_default_written_out_is_no_change(tmp_path):
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = make(changed(total_steps="50", peak_lr="1e-2", weight_decay=0.01))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(tmp_path, resumed, resumed_optimizers)


def test_an_option_changed_by_the_training_itself_is_restored(tmp_path):
    models, optimizers = make()
    optimizers["head"].param_groups[0]["lr"] = 0.001
    optimizers["body"].param_groups[0]["weight_decay"] = 0.3
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = make()
    load_checkpoint(tmp_path, resumed, resumed_optimizers)
    assert resumed_optimizers["head"].param_groups[0]["lr"] == 0.001
    assert resumed_optimizers["body"].param_groups[0]["weight_decay"] == 0.3


def test_values_taken_over_from_a_checkpoint_are_what_the_next_one_records(saved, tmp_path):
    models, optimizers = make(changed(weight_decay=0.5))
    with pytest.warns(ResumeWarning):
        load_checkpoint(saved, models, optimizers, on_mismatch="checkpoint")
    save_checkpoint(tmp_path / "second", models, optimizers)

    models, optimizers = make(changed(weight_decay=0.5))
    with pytest.raises(CheckpointMismatchError, match=r"body\.weight_decay: is 0\.01 in the checkpoint and 0\.5 now"):
        load_checkpoint(tmp_path / "second", models, optimizers, on_mismatch="error")


def test_only_what_the_configuration_says_is_listed_and_not_what_follows_from_it(saved):
    models = make_models()
    configuration = changed(peak_lr=0.02)
    optimizers = build_optimizers(models, configuration, registry=REGISTRY)
    with pytest.warns(ResumeWarning) as caught:
        load_checkpoint(saved, models, optimizers)
    assert str(caught[0].message).count(" in the checkpoint and ") == 1


@pytest.mark.parametrize("on_mismatch", ["config", "checkpoint", "error"])
def test_a_peak_changed_by_the_training_itself_is_restored(tmp_path, on_mismatch):
    models, optimizers = make()
    optimizers["body"].param_groups[0]["peak_lr"] = 0.002
    train(models, optimizers, 20)
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = make(seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(tmp_path, resumed, resumed_optimizers, on_mismatch=on_mismatch)
    assert same(everything(resumed, resumed_optimizers), everything(models, optimizers))
    assert resumed_optimizers["body"].param_groups[0]["lr"] == pytest.approx(formula(20, 0.002, 50))


def test_a_changed_option_leaves_the_evaluation_weights_alone(saved):
    published = make_models(seed=3)
    load_checkpoint(saved, published, None)
    models, optimizers = make({**CONFIGURATION, "head": {"type": "averaged", "params": {"factor": 0.5}}}, seed=1)
    with pytest.warns(ResumeWarning, match=r"head\.factor"):
        load_checkpoint(saved, models, optimizers)
    with optimizers.eval_mode():
        torch.testing.assert_close(models["head"].weight, published["head"].weight)
    torch.testing.assert_close(models["head"].weight, published["head"].weight * 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("peak_lr", 0.02), ("total_steps", 70), ("weight_decay", 0.5), ("betas", (0.8, 0.99)), ("betas", [0.5, 0.9])],
)
def test_each_changed_value_holds_by_itself_under_each_policy(tmp_path, name, value):
    models, optimizers = make()
    train(models, optimizers, 20)
    save_checkpoint(tmp_path, models, optimizers)
    before = optimizers["body"].param_groups[0]
    for policy in ("config", "checkpoint"):
        resumed, resumed_optimizers = make(changed(**{name: value}), seed=1)
        with pytest.warns(ResumeWarning, match=rf"body\.{name}: is .* in the checkpoint") as caught:
            load_checkpoint(tmp_path, resumed, resumed_optimizers, on_mismatch=policy)
        assert str(caught[0].message).count(" in the checkpoint and ") == 1
        group = {k: v for k, v in resumed_optimizers["body"].param_groups[0].items() if k != "params"}
        if policy == "checkpoint":
            assert group == {k: v for k, v in before.items() if k != "params"}
        else:
            values = {"peak_lr": 0.01, "total_steps": 50, "weight_decay": 0.01, "betas": (0.9, 0.999)} | {name: value}
            assert group["lr"] == pytest.approx(formula(20, values["peak_lr"], values["total_steps"]))
            assert (group["weight_decay"], group["betas"]) == (values["weight_decay"], tuple(values["betas"]))
    with pytest.raises(CheckpointMismatchError, match=name):
        load_checkpoint(tmp_path, *make(changed(**{name: value})), on_mismatch="error")
