"""Models, optimizers and arguments that don't fit a checkpoint are refused, and everything stays as it was."""

import warnings

import pytest
from torch import nn

from core_support.checkpointed_training import CONFIGURATION, REGISTRY, changed, everything, make, make_models, same
from optim_core import CheckpointMismatchError, ResumeWarning, build_optimizers, load_checkpoint, save_checkpoint


def refuse(tmp_path, models, optimizers):
    before = everything(models, optimizers)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_checkpoint(tmp_path, models, optimizers)
    assert same(everything(models, optimizers), before)
    return str(caught.value)


def test_another_model_is_refused_with_every_difference(saved):
    models = nn.ModuleDict({"body": nn.Linear(4, 9, bias=False), "head": nn.Linear(9, 3)})
    message = refuse(saved, models, build_optimizers(models, CONFIGURATION, registry=REGISTRY))
    assert "only in the checkpoint: 'frozen'" in message
    assert "only in the checkpoint: 'bias'" in message
    assert "'weight' is [8, 4] in the checkpoint and [9, 4] in the model" in message
    assert "'weight' is [3, 8] in the checkpoint and [3, 9] in the model" in message


def test_another_optimizer_is_refused(saved):
    configuration = {"body": {"type": "averaged"}, "head": {"type": "averaged"}}
    message = refuse(saved, *make(configuration))
    assert "'body'" in message
    assert "adamw (ScheduledAdamW) in the checkpoint and averaged (Averaged)" in message


def test_other_components_are_refused(saved):
    models = make_models()
    models["head"].requires_grad_(False)
    message = refuse(saved, models, build_optimizers(models, CONFIGURATION, registry=REGISTRY))
    assert "optimizers: only in the checkpoint: 'head'" in message


def test_a_refusal_half_way_leaves_everything_as_it_was(saved):
    class Stubborn(nn.Linear):
        def _load_from_state_dict(self, *arguments):
            super()._load_from_state_dict(*arguments)
            raise RuntimeError("not today")

    models, _ = make(seed=1)
    models["head"] = Stubborn(8, 3)
    models["frozen"].requires_grad_(False)
    optimizers = build_optimizers(models, changed(total_steps=70), registry=REGISTRY)
    before = everything(models, optimizers)
    schedule = optimizers["body"].schedule

    with pytest.raises(CheckpointMismatchError, match="not today"):
        load_checkpoint(saved, models, optimizers, on_mismatch="checkpoint")

    assert same(everything(models, optimizers), before)
    assert optimizers["body"].schedule == schedule


def test_an_optimizers_refusal_puts_the_others_back_under_any_policy(saved):
    models, optimizers = make(changed(total_steps=70), seed=1)
    before = everything(models, optimizers)

    def refuse(optimizer):
        raise RuntimeError("not today")

    optimizers["head"].register_load_state_dict_post_hook(refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointMismatchError, match="not today"):
            load_checkpoint(saved, models, optimizers, on_mismatch="checkpoint")

    assert same(everything(models, optimizers), before)
    assert optimizers["body"].schedule.total_steps == 70


def test_a_warning_that_is_an_error_changes_nothing(saved):
    models, optimizers = make(changed(total_steps=100), seed=1)
    before = everything(models, optimizers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ResumeWarning):
            load_checkpoint(saved, models, optimizers)
    assert same(everything(models, optimizers), before)


def test_models_other_than_those_of_the_optimizers_are_refused(tmp_path):
    models, optimizers = make()
    others = make_models()
    with pytest.raises(ValueError, match="'body', 'head' are not of the models given"):
        save_checkpoint(tmp_path, others, optimizers)
    save_checkpoint(tmp_path, models, optimizers)
    with pytest.raises(ValueError, match="'body', 'head' are not of the models given"):
        load_checkpoint(tmp_path, others, optimizers)


def test_swapped_arguments_are_type_errors(tmp_path):
    models, optimizers = make()
    for arguments in (
        (models, tmp_path, optimizers),
        (tmp_path, optimizers, models),
        (tmp_path, models, {}),
        (3, models),
    ):
        with pytest.raises(TypeError, match=r"must be|missing"):
            save_checkpoint(*arguments)
        with pytest.raises(TypeError, match=r"must be|missing"):
            load_checkpoint(*arguments)
    with pytest.raises(TypeError, match="extra must be a mapping, not int"):
        save_checkpoint(tmp_path, models, optimizers, extra=5)
    with pytest.raises(ValueError, match="weights_only"):
        save_checkpoint(tmp_path, models, optimizers, extra={"x": lambda: 1})
    assert not (tmp_path / "checkpoint.json").exists()
