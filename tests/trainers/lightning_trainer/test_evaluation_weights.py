"""`ScheduleFreeCallback` has Lightning validate and save the evaluation weights, and train the training weights."""

import pytest
import torch

from optim_core.integrations import ScheduleFreeCallback
from workspace_support.training_by_hand import vector

pytest.importorskip("lightning.pytorch", reason="lightning is not installed; the nox session 'trainers' has it")
from lightning.pytorch.callbacks import Callback, OnExceptionCheckpoint

from workspace_support.lightning_checkpoints import WHEN, checkpoints_in, kept_checkpoints, saved_weights
from workspace_support.lightning_modules import PER_EPOCH, WARNINGS, Automatic, assert_weights

pytestmark = WARNINGS


def interrupts_in_validation(after, exception):
    class Interrupts(Callback):
        def on_validation_batch_end(self, trainer, *_):
            if trainer.global_step >= after:
                raise exception

    return Interrupts()


def test_without_the_callback_training_weights_are_validated_and_saved(make_trainer, tmp_path, schedule_free_run):
    module = Automatic()
    make_trainer(kept_checkpoints(tmp_path, "at the end of an epoch")).fit(module)
    assert_weights(module.weights_in("validation_step"), schedule_free_run.training)
    assert torch.equal(saved_weights(checkpoints_in(tmp_path)[PER_EPOCH]), schedule_free_run.training[PER_EPOCH])
    assert not torch.equal(schedule_free_run.training[PER_EPOCH], schedule_free_run.evaluation[PER_EPOCH])


def test_validation_sees_the_evaluation_weights_and_training_goes_on_as_if_it_hadn_t_been(
    make_trainer, schedule_free_run
):
    module = Automatic()
    make_trainer(ScheduleFreeCallback(), val_check_interval=2).fit(module)
    validated = module.weights_in("on_validation_start", "validation_step", "on_validation_epoch_end")
    assert {updates for updates, _ in validated} == {0, 2, 4, 6, 8, 10, 12}
    assert_weights(validated, schedule_free_run.evaluation)
    trained = module.weights_in("on_train_batch_start", "on_train_batch_end", "on_train_epoch_end")
    assert_weights(trained, schedule_free_run.training)


class Saves(Callback):
    """Saves a checkpoint in the middle of every validation."""

    def __init__(self, path):
        self.path = path

    def on_validation_batch_end(self, trainer, module, outputs, batch, index):
        if index == 0:
            trainer.save_checkpoint(self.path)


def test_a_checkpoint_saved_inside_a_validation_does_not_disturb_it(make_trainer, tmp_path, schedule_free_run):
    module, path = Automatic(), tmp_path / "inside.ckpt"
    make_trainer(ScheduleFreeCallback(), Saves(path), num_sanity_val_steps=0).fit(module)
    assert_weights(module.weights_in("validation_step", "on_validation_epoch_end"), schedule_free_run.evaluation)
    assert_weights(module.weights_in("on_train_batch_end"), schedule_free_run.training)
    saved = torch.load(path, weights_only=True)
    assert torch.equal(saved_weights(path), schedule_free_run.evaluation[-1])
    (tensors,) = saved["callbacks"]["ScheduleFreeCallback"]["training_weights"].values()
    assert torch.equal(torch.cat([w.flatten() for group in tensors for w in group]), schedule_free_run.training[-1])


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("when", WHEN)
def test_checkpoints_hold_the_evaluation_weights(make_trainer, tmp_path, schedule_free_run, when, weights_only):
    checkpoints = kept_checkpoints(tmp_path, when, save_weights_only=weights_only)
    make_trainer(checkpoints, ScheduleFreeCallback()).fit(Automatic())
    for step, path in checkpoints_in(tmp_path).items():
        assert torch.equal(saved_weights(path), schedule_free_run.evaluation[step])
        assert ("optimizer_states" in torch.load(path, weights_only=True)) is not weights_only


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_checkpoint_that_others_use_is_that_of_the_evaluation_weights(make_trainer, tmp_path, schedule_free_run):
    make_trainer(kept_checkpoints(tmp_path, "at the end of an epoch"), ScheduleFreeCallback()).fit(Automatic())
    path = checkpoints_in(tmp_path)[PER_EPOCH]
    assert torch.equal(
        vector(Automatic.load_from_checkpoint(path, weights_only=True)), schedule_free_run.evaluation[PER_EPOCH]
    )
    for callbacks in ([], [ScheduleFreeCallback()]):
        module = Automatic(seed=1)
        trainer = make_trainer(*callbacks)
        trainer.validate(module, ckpt_path=path, verbose=False)
        trainer.test(module, ckpt_path=path, verbose=False)
        noted = [weights for _, weights in module.weights_in("validation_step", "test_step")]
        assert len(noted) == 2 * PER_EPOCH
        assert all(torch.equal(weights, schedule_free_run.evaluation[PER_EPOCH]) for weights in noted)


def test_after_fit_the_module_has_the_evaluation_weights_and_can_be_saved_to_go_on(
    make_trainer, tmp_path, schedule_free_run
):
    module, path = Automatic(), tmp_path / "half.ckpt"
    trainer = make_trainer(ScheduleFreeCallback(), max_epochs=2)
    trainer.fit(module)
    half = 2 * PER_EPOCH
    assert torch.equal(vector(module), schedule_free_run.evaluation[half])
    assert "save_checkpoint" not in vars(trainer)
    trainer.test(module, verbose=False)
    trainer.validate(module, verbose=False)
    assert torch.equal(vector(module), schedule_free_run.evaluation[half])
    trainer.save_checkpoint(path)
    assert torch.equal(saved_weights(path), schedule_free_run.evaluation[half])

    resumed = Automatic(seed=1)
    make_trainer(ScheduleFreeCallback()).fit(resumed, ckpt_path=path)
    assert_weights(resumed.weights_in("on_train_batch_start", "on_train_batch_end"), schedule_free_run.training)
    assert torch.equal(vector(resumed), schedule_free_run.evaluation[-1])


# Lightning looks for a checkpoint of its own accord where it is to save one on an exception.
@pytest.mark.filterwarnings("ignore:.*fit.ckpt_path=(None|.last.)")
@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(
    ("exception", "raised"), [(ZeroDivisionError(), ZeroDivisionError), (KeyboardInterrupt(), SystemExit)]
)
def test_what_interrupts_a_validation_leaves_training_weights_and_a_checkpoint_to_go_on_from(
    make_trainer, tmp_path, schedule_free_run, exception, raised
):
    module = Automatic()
    trainer = make_trainer(
        interrupts_in_validation(PER_EPOCH, exception), ScheduleFreeCallback(), OnExceptionCheckpoint(tmp_path)
    )
    with pytest.raises(raised):
        trainer.fit(module)
    assert torch.equal(vector(module), schedule_free_run.training[PER_EPOCH])
    assert torch.equal(saved_weights(tmp_path / "on_exception.ckpt"), schedule_free_run.evaluation[PER_EPOCH])

    resumed = Automatic(seed=1)
    make_trainer(ScheduleFreeCallback()).fit(resumed, ckpt_path=tmp_path / "on_exception.ckpt")
    assert torch.equal(vector(resumed), schedule_free_run.evaluation[-1])


def test_after_an_interrupted_fit_evaluations_still_see_the_evaluation_weights(make_trainer, schedule_free_run):
    module = Automatic()
    trainer = make_trainer(interrupts_in_validation(PER_EPOCH, ZeroDivisionError()), ScheduleFreeCallback())
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module)
    module.seen.clear()
    trainer.callbacks = trainer.callbacks[1:]
    trainer.validate(module, verbose=False)
    trainer.test(module, verbose=False)
    trainer.predict(module)
    noted = [weights for _, weights in module.weights_in("validation_step", "test_step", "predict_step")]
    assert len(noted) == 3 * PER_EPOCH
    assert all(torch.equal(weights, schedule_free_run.evaluation[PER_EPOCH]) for weights in noted)
    assert torch.equal(vector(module), schedule_free_run.training[PER_EPOCH])
