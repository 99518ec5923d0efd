"""The built-ins under Lightning: the Trainer as it is, and `ScheduleFreeCallback` for schedule-free ones."""

import copy
import pickle
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from optim_core import EvaluationModeError, build_optimizers
from optim_core.integrations import ReadOnlyScheduler, ScheduleFreeCallback
from workspace_support import training_by_hand as by_hand
from workspace_support.training_by_hand import PARAMS, SCHEDULE_FREE, STEPS, Plain, Run, batch, loss_of, network, vector

pytest.importorskip("lightning.pytorch", reason="lightning is not installed; the nox session 'trainers' has it")
import lightning.pytorch as lightning
from lightning.pytorch.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    OnExceptionCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger

EPOCHS, PER_EPOCH = 3, 4
pytestmark = [
    # Lightning looks into a data loader with a function that a new PyTorch has replaced.
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    # Advice on worker processes, which four numbers don't need.
    pytest.mark.filterwarnings("ignore:The '\\w+_dataloader' does not have many workers"),
    # Many of these tests resume in a trainer that saves nothing itself.
    pytest.mark.filterwarnings(
        'ignore:Be aware that when using `ckpt_path`.*following callbacks. \\["ModelCheckpoint[^"]*"\\]\\.$'
    ),
]
each_key = pytest.mark.parametrize("key", PARAMS)


class Watched(lightning.LightningModule):
    """A training whose batch is a function of the number of updates, and which notes its weights.

    Attributes:
        seen: the hook and the weights that it saw, by the number of updates then made, in order.
    """

    def __init__(self):
        super().__init__()
        self.seen = []

    def note(self, hook):
        updates = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        self.seen.append((hook, updates, vector(self)))

    def weights_in(self, *hooks):
        return [(updates, weights) for hook, updates, weights in self.seen if hook in hooks]

    def on_train_batch_start(self, batch, index):
        # The batch that is ready is not an update yet.
        self.seen.append(("on_train_batch_start", self.trainer.global_step, vector(self)))

    def on_train_batch_end(self, outputs, batch, index):
        self.note("on_train_batch_end")

    def on_train_epoch_end(self):
        self.note("on_train_epoch_end")

    def on_sanity_check_start(self):
        self.note("on_sanity_check_start")

    def on_validation_start(self):
        self.note("on_validation_start")

    def validation_step(self, _, index):
        self.note("validation_step")

    def on_validation_epoch_end(self):
        self.note("on_validation_epoch_end")

    def test_step(self, batch, index):
        self.note("test_step")

    def predict_step(self, _, index):
        self.note("predict_step")
        return index

    def train_dataloader(self):
        return torch.utils.data.DataLoader(range(PER_EPOCH))

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Automatic(Watched):
    """One optimizer, automatic optimization."""

    def __init__(self, key=SCHEDULE_FREE, seed=0):
        super().__init__()
        self.save_hyperparameters()
        self.network = network(seed)

    def configure_optimizers(self):
        (optimizer,) = build_optimizers(
            self, {"network": {"type": self.hparams.key, "params": PARAMS[self.hparams.key]}}
        ).values()
        return optimizer

    def training_step(self, _, index):
        return loss_of(self.network, batch(self.global_step))


class Manual(Watched):
    """An optimizer for each of three components, manual optimization."""

    def __init__(self, seed=0):
        super().__init__()
        self.automatic_optimization = False
        self.parts = three_parts(seed)

    def configure_optimizers(self):
        return list(
            build_optimizers(self.parts, {key: {"type": key, "params": PARAMS[key]} for key in PARAMS}).values()
        )

    def training_step(self, _, index):
        optimizers = self.optimizers()
        # Each optimizer's step counts: three of them are one update here.
        loss = loss_of_three(self.parts, batch(self.global_step // 3))
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()


def three_parts(seed):
    torch.manual_seed(seed)
    return nn.ModuleDict(dict(zip(PARAMS, (nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)), strict=True)))


def loss_of_three(parts, batch):
    first, second, third = parts.values()
    return loss_of(lambda inputs: third(second(first(inputs).tanh()).tanh()), batch)


class RunOfThree:
    """`Run`, for the three components of `Manual`."""

    def __init__(self):
        parts = three_parts(0)
        plain = [Plain(key, part) for key, part in parts.items()]
        self.rates, self.training, self.evaluation = [], [vector(parts)], [vector(parts)]
        for update in range(STEPS):
            parts.zero_grad()
            loss_of_three(parts, batch(update)).backward()
            for optimizer in plain:
                optimizer.step()
            self.rates.append([optimizer.rate for optimizer in plain])
            self.training.append(vector(parts))
            self.evaluation.append(torch.cat([optimizer.evaluation_weights() for optimizer in plain]))


@pytest.fixture(scope="module")
def schedule_free_run():
    return Run(SCHEDULE_FREE)


@pytest.fixture
def make_trainer(tmp_path):
    """Makes a trainer that writes to the test's folder and prints nothing."""

    def make(*callbacks, package=lightning, **options):
        options = {"max_epochs": EPOCHS, "logger": False, "enable_checkpointing": False, **options}
        if any(isinstance(callback, package.callbacks.Checkpoint) for callback in callbacks):
            options["enable_checkpointing"] = True
        return package.Trainer(
            accelerator="cpu",
            devices=1,
            default_root_dir=tmp_path,
            callbacks=list(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )

    return make


@pytest.fixture
def _signals():
    """Puts back the handling of Ctrl-C, which Lightning turns off when it has seen one."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def interrupts_in_validation(after, exception):
    class Interrupts(Callback):
        def on_validation_batch_end(self, trainer, *_):
            if trainer.global_step >= after:
                raise exception

    return Interrupts()


def assert_weights(noted, expected):
    assert noted
    for updates, weights in noted:
        assert torch.equal(weights, expected[updates])


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


WHEN = {
    "at the end of an epoch": {"save_on_train_epoch_end": True},
    "at the end of a validation": {"save_on_train_epoch_end": False},
    "inside an epoch": {"every_n_train_steps": 3},
}


def kept_checkpoints(tmp_path, when, **options):
    options = {"dirpath": tmp_path / "kept", "filename": "{step}", "save_top_k": -1, **WHEN[when], **options}
    return ModelCheckpoint(**options)


def checkpoints_in(tmp_path):
    """The kept checkpoints by the number of steps that they are of."""
    found = {int(path.stem.removeprefix("step=").split("-")[0]): path for path in (tmp_path / "kept").glob("*.ckpt")}
    assert found
    return found


# A checkpoint from inside an epoch, where the data are a function of the step.
resumes_inside = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")


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


def test_without_the_callback_training_weights_are_validated_and_saved(make_trainer, tmp_path, schedule_free_run):
    module = Automatic()
    make_trainer(kept_checkpoints(tmp_path, "at the end of an epoch")).fit(module)
    assert_weights(module.weights_in("validation_step"), schedule_free_run.training)
    assert torch.equal(saved_weights(checkpoints_in(tmp_path)[PER_EPOCH]), schedule_free_run.training[PER_EPOCH])
    assert not torch.equal(schedule_free_run.training[PER_EPOCH], schedule_free_run.evaluation[PER_EPOCH])


def saved_weights(path):
    state = torch.load(path, weights_only=True)["state_dict"]
    return torch.cat([weights.flatten() for weights in state.values()])


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
