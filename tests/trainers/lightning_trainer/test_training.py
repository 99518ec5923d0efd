"""The built-ins under Lightning's Trainer: the weights and rates of a training by hand."""

import copy
import pickle
from pathlib import Path

import pytest
import torch

from optim_core.integrations import ReadOnlyScheduler, ScheduleFreeCallback
from workspace_support import training_by_hand as by_hand
from workspace_support.training_by_hand import PARAMS, SCHEDULE_FREE, STEPS, Run, network, vector

pytest.importorskip("lightning.pytorch", reason="lightning is not installed; the nox session 'trainers' has it")
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger

from workspace_support.lightning_checkpoints import checkpoints_in, kept_checkpoints
from workspace_support.lightning_modules import PER_EPOCH, WARNINGS, Automatic, Manual, RunOfThree, assert_weights

pytestmark = WARNINGS

each_key = pytest.mark.parametrize("key", PARAMS)


@each_key
def test_automatic_optimization_trains_as_by_hand(make_trainer, key):
    run, module = Run(key), Automatic(key)
    make_trainer().fit(module)
    assert len(module.weights_in("on_train_batch_end")) == STEPS
    assert_weights(module.weights_in("on_train_batch_start", "on_train_batch_end"), run.training)


def test_manual_optimization_with_several_optimizers_trains_as_by_hand(make_trainer):
    run, module = RunOfThree(), Manual()
    make_trainer(ScheduleFreeCallback()).fit(module)
    assert_weights(module.weights_in("on_train_batch_end"), run.training)
    assert_weights(module.weights_in("validation_step"), run.evaluation)
    assert torch.equal(vector(module), run.evaluation[-1])


@each_key
def test_the_learning_rate_monitor_shows_the_rates(make_trainer, tmp_path, key):
    monitor = LearningRateMonitor("step")
    make_trainer(monitor, logger=CSVLogger(tmp_path), log_every_n_steps=1).fit(Automatic(key))
    # It reads "lr", which for schedule-free is the rate that all others derive from.
    expected = [by_hand.PEAK] * STEPS if key == SCHEDULE_FREE else Run(key).rates
    ((name, rates),) = monitor.lrs.items()
    assert name.startswith("lr-")
    assert rates == pytest.approx(expected, rel=1e-12)


def test_a_read_only_scheduler_may_be_given_to_a_trainer_that_needs_none(make_trainer, tmp_path):
    key, monitor = "adamw_cosine_schedule", LearningRateMonitor("step")

    class Scheduled(Automatic):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [{"scheduler": ReadOnlyScheduler(optimizer), "interval": "step"}]

    module, run = Scheduled(key), Run(key)
    checkpoints = kept_checkpoints(tmp_path, "at the end of an epoch")
    make_trainer(monitor, checkpoints, logger=CSVLogger(tmp_path), log_every_n_steps=1).fit(module)
    assert_weights(module.weights_in("on_train_batch_end"), run.training)
    assert monitor.lrs == {"lr-AdamWWithOneCycle": pytest.approx(run.rates, rel=1e-12)}
    resumed = Scheduled(key, seed=1)
    make_trainer().fit(resumed, ckpt_path=checkpoints_in(tmp_path)[PER_EPOCH])
    assert torch.equal(vector(resumed), run.training[-1])


def test_the_learning_rate_monitor_shows_the_rates_of_several_optimizers(make_trainer, tmp_path):
    monitor = LearningRateMonitor("step")
    make_trainer(monitor, logger=CSVLogger(tmp_path), log_every_n_steps=1).fit(Manual())
    expected = RunOfThree().rates
    shown = list(monitor.lrs.values())
    for index in range(2):
        assert shown[index] == pytest.approx([rates[index] for rates in expected], rel=1e-12)


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_the_callback_is_one_of_either_package(make_trainer, tmp_path, schedule_free_run, name):
    package = pytest.importorskip(name, reason=f"{name} is not installed; the nox session 'trainers' has it")
    callback = ScheduleFreeCallback()
    assert isinstance(callback, (package.Callback, ScheduleFreeCallback))
    trainer = package.Trainer(callbacks=callback, logger=False, enable_progress_bar=False, accelerator="cpu")
    assert callback in trainer.callbacks

    class Module(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = network()
            self.validated = []

        configure_optimizers = Automatic.configure_optimizers
        training_step = Automatic.training_step
        train_dataloader = val_dataloader = Automatic.train_dataloader

        def validation_step(self, _, index):
            self.validated.append((self.global_step, vector(self)))

    module = Module()
    module.save_hyperparameters({"key": SCHEDULE_FREE})
    trainer = make_trainer(ScheduleFreeCallback(), package=package)
    trainer.fit(module)
    assert_weights(module.validated, schedule_free_run.evaluation)
    assert torch.equal(vector(module), schedule_free_run.evaluation[-1])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_the_callback_can_be_copied_and_subclassed(duplicate):
    copied = duplicate(Subclass("argument"))
    assert isinstance(copied, Subclass)
    assert isinstance(copied, Callback)
    assert copied.attribute == "argument"
    assert copied.state_key == "Subclass"


class Subclass(ScheduleFreeCallback):
    def __init__(self, attribute):
        super().__init__()
        self.attribute = attribute


def test_nothing_is_written_outside_the_folder_given(make_trainer, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))
    make_trainer(kept_checkpoints(tmp_path, "at the end of an epoch"), ScheduleFreeCallback()).fit(Automatic())
    assert list(elsewhere.iterdir()) == []
    assert not (Path(__file__).parent / "lightning_logs").exists()
