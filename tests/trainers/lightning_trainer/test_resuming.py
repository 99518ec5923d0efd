"""Training resumed by Lightning goes on exactly, with `ScheduleFreeCallback` and without."""

import pytest
import torch

from optim_core import EvaluationModeError
from optim_core.integrations import ScheduleFreeCallback
from workspace_support import training_by_hand as by_hand
from workspace_support.training_by_hand import PARAMS, STEPS, Run, vector

pytest.importorskip("lightning.pytorch", reason="lightning is not installed; the nox session 'trainers' has it")
from workspace_support.lightning_checkpoints import (
    WHEN,
    checkpoints_in,
    kept_checkpoints,
    resumes_inside,
    saved_weights,
)
from workspace_support.lightning_modules import PER_EPOCH, WARNINGS, Automatic, Manual, RunOfThree, assert_weights

pytestmark = WARNINGS

each_key = pytest.mark.parametrize("key", PARAMS)


@resumes_inside
@each_key
@pytest.mark.parametrize("when", WHEN)
def test_resuming_is_exact(make_trainer, tmp_path, key, when):
    run = Run(key)
    make_trainer(kept_checkpoints(tmp_path, when), ScheduleFreeCallback()).fit(Automatic(key))
    for step, path in checkpoints_in(tmp_path).items():
        module = Automatic(key, seed=1)
        make_trainer(ScheduleFreeCallback()).fit(module, ckpt_path=path)
        assert torch.equal(vector(module), run.evaluation[-1]), step
        assert_weights(
            module.weights_in("on_train_batch_end") or [(STEPS, vector(module))],
            run.training if step < STEPS else run.evaluation,
        )


@resumes_inside
@pytest.mark.parametrize("when", ["at the end of an epoch", "at the end of a validation"])
def test_resuming_several_optimizers_is_exact(make_trainer, tmp_path, when):
    run = RunOfThree()
    make_trainer(kept_checkpoints(tmp_path, when), ScheduleFreeCallback()).fit(Manual())
    for path in checkpoints_in(tmp_path).values():
        module = Manual(seed=1)
        make_trainer(ScheduleFreeCallback()).fit(module, ckpt_path=path)
        assert torch.equal(vector(module), run.evaluation[-1])


@pytest.mark.parametrize("key", by_hand.SCHEDULED)
def test_optimizers_without_modes_resume_exactly_without_any_callback(make_trainer, tmp_path, key):
    make_trainer(kept_checkpoints(tmp_path, "at the end of an epoch")).fit(Automatic(key))
    module = Automatic(key, seed=1)
    make_trainer().fit(module, ckpt_path=checkpoints_in(tmp_path)[PER_EPOCH])
    assert torch.equal(vector(module), Run(key).training[-1])


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_second_fit_starts_from_the_evaluation_weights_with_a_new_optimizer(
    make_trainer, tmp_path, schedule_free_run
):
    module = Automatic()
    trainer = make_trainer(kept_checkpoints(tmp_path, "at the end of an epoch"), ScheduleFreeCallback(), max_epochs=1)
    trainer.fit(module)
    module.seen.clear()
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module)
    started, *_ = module.weights_in("on_train_batch_start")
    assert torch.equal(started[1], schedule_free_run.evaluation[PER_EPOCH])
    _, *trained = module.weights_in("on_train_batch_end")
    _, *validated = module.weights_in("validation_step")
    assert not torch.equal(trained[-1][1], validated[-1][1])
    assert torch.equal(vector(module), validated[-1][1])
    assert torch.equal(saved_weights(checkpoints_in(tmp_path)[2 * PER_EPOCH]), validated[-1][1])


def test_resuming_without_the_callback_is_told_and_refused(make_trainer, tmp_path):
    make_trainer(kept_checkpoints(tmp_path, "at the end of an epoch"), ScheduleFreeCallback()).fit(Automatic())
    with (
        pytest.warns(UserWarning, match="Please add the following callbacks.*ScheduleFreeCallback"),
        pytest.raises(EvaluationModeError),
    ):
        make_trainer().fit(Automatic(), ckpt_path=checkpoints_in(tmp_path)[PER_EPOCH])


def test_a_checkpoint_made_without_the_callback_is_gone_on_from_with_it(make_trainer, tmp_path, schedule_free_run):
    make_trainer(kept_checkpoints(tmp_path, "at the end of an epoch")).fit(Automatic())
    module = Automatic(seed=1)
    make_trainer(ScheduleFreeCallback()).fit(module, ckpt_path=checkpoints_in(tmp_path)[PER_EPOCH])
    assert torch.equal(vector(module), schedule_free_run.evaluation[-1])


def test_a_checkpoint_of_weights_that_were_switched_by_hand_is_gone_on_from(make_trainer, tmp_path, schedule_free_run):
    trainer = make_trainer(max_epochs=2)
    trainer.fit(Automatic())
    trainer.optimizers[0].eval()
    trainer.save_checkpoint(tmp_path / "switched.ckpt")
    module = Automatic(seed=1)
    make_trainer(ScheduleFreeCallback()).fit(module, ckpt_path=tmp_path / "switched.ckpt")
    # Switched by the optimizer's own arithmetic, which rounds.
    torch.testing.assert_close(vector(module), schedule_free_run.evaluation[-1])
