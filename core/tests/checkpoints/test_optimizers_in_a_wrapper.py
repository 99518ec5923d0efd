"""Optimizers around others: put back after a refusal, and told whose schedule holds where they can be."""

import pytest
import torch

from core_support.checkpointed_training import (
    AdamWFactory,
    AveragedFactory,
    everything,
    formula,
    make_models,
    same,
    train,
)
from optim_core import CheckpointMismatchError, ComponentOptimizers, OptimWarning, load_checkpoint, save_checkpoint


class Wrapper(torch.optim.Optimizer):
    """An optimizer around another, as a hook may return one."""

    def __init__(self, inner):
        self.inner = inner
        self.defaults = inner.defaults
        self.__setstate__({})  # the hooks that PyTorch's own methods expect, without its constructor

    param_groups = property(lambda self: self.inner.param_groups)
    state = property(lambda self: self.inner.state)

    def step(self, closure=None):
        return self.inner.step(closure)

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state_dict):
        self.inner.load_state_dict(state_dict)


class ObligingWrapper(Wrapper):
    def load_state_dict(self, state_dict, *, on_mismatch=None):
        self.inner.load_state_dict(state_dict, on_mismatch=on_mismatch)


def make_wrapped(wrapper, **params):
    models = make_models()
    body = wrapper(AdamWFactory(**params).build(models["body"].parameters()))
    head = AveragedFactory().build(models["head"].parameters())
    return models, ComponentOptimizers({"body": body, "head": head}, params={"body": params})


def test_a_wrapped_optimizer_is_put_back_too(tmp_path):
    models, optimizers = make_wrapped(Wrapper)
    train(models, optimizers, 4)
    save_checkpoint(tmp_path, models, optimizers)
    models, optimizers = make_wrapped(Wrapper)
    before = everything(models, optimizers)

    def refuse(optimizer):
        raise RuntimeError("not today")

    optimizers["head"].register_load_state_dict_post_hook(refuse)
    with pytest.raises(CheckpointMismatchError, match="not today"):
        load_checkpoint(tmp_path, models, optimizers)
    assert same(everything(models, optimizers), before)


def test_a_wrapper_takes_over_the_checkpoints_schedule_or_says_that_it_cannot(tmp_path):
    models, optimizers = make_wrapped(Wrapper, peak_lr=0.01)
    train(models, optimizers, 20)
    save_checkpoint(tmp_path / "rigid", models, optimizers)
    with pytest.raises(CheckpointMismatchError, match="Wrapper can't take over the checkpoint's schedule"):
        load_checkpoint(tmp_path / "rigid", *make_wrapped(Wrapper, peak_lr=0.02), on_mismatch="checkpoint")

    models, optimizers = make_wrapped(ObligingWrapper, peak_lr=0.01)
    train(models, optimizers, 20)
    save_checkpoint(tmp_path / "obliging", models, optimizers)
    models, optimizers = make_wrapped(ObligingWrapper, peak_lr=0.02)
    with pytest.warns(OptimWarning):
        load_checkpoint(tmp_path / "obliging", models, optimizers, on_mismatch="checkpoint")
    assert optimizers["body"].param_groups[0]["lr"] == pytest.approx(formula(20, 0.01, 50))
