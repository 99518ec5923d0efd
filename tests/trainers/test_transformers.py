"""The built-ins under Transformers' Trainer, with `ReadOnlyScheduler` and `ScheduleFreeTrainerCallback`."""

from pathlib import Path

import pytest
import torch
from torch import nn

from optim_core import OPTIMIZER_BUILDER_REGISTRY, OptimWarning, ScheduleWarning
from optim_core.integrations import ReadOnlyScheduler
from workspace_support.training_by_hand import (
    BETAS,
    PARAMS,
    SCHEDULE_FREE,
    SCHEDULED,
    STEPS,
    Run,
    batch,
    network,
    vector,
    warmup_cosine,
)

pytest.importorskip("transformers", reason="transformers is not installed; the nox session 'trainers' has it")
pytest.importorskip("accelerate", reason="accelerate is not installed; the nox session 'trainers' has it")
import transformers
from safetensors.torch import load_file

from optim_core.integrations import ScheduleFreeTrainerCallback

each_key = pytest.mark.parametrize("key", PARAMS)
SIZE = 8


class Model(nn.Module):
    """The network, with the loss that a Trainer asks a model for."""

    def __init__(self, seed=0):
        super().__init__()
        self.network = network(seed)

    def forward(self, inputs, labels):
        outputs = self.network(inputs)
        return {"loss": (outputs - labels).square().mean(), "logits": outputs}


def examples(batches=STEPS):
    """What `batch` returns for one step after the other, as single examples."""
    return [{"inputs": x, "labels": y} for step in range(batches) for x, y in zip(*batch(step, SIZE), strict=True)]


class Watching(transformers.TrainerCallback):
    """Notes the weights by the number of updates made: of training, and while evaluating."""

    def __init__(self):
        self.training, self.evaluating = [], []

    def on_pre_optimizer_step(self, args, state, control, model, **_):
        self.training.append((state.global_step, vector(model)))

    def on_optimizer_step(self, args, state, control, model, **_):
        self.training.append((state.global_step + 1, vector(model)))

    def on_prediction_step(self, args, state, control, model, **_):
        self.evaluating.append((state.global_step, vector(model)))


class InOrder(transformers.Trainer):
    """Takes the examples as they come."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


@pytest.fixture
def make_trainer(tmp_path):
    """Makes a trainer with one of the built-ins that prints nothing, clips nothing and logs each update."""

    def make(key, *callbacks, seed=0, scheduler=ReadOnlyScheduler, batches=STEPS, **options):
        model = Model(seed)
        optimizer = OPTIMIZER_BUILDER_REGISTRY[key](**PARAMS[key]).build(model.parameters())
        defaults = {"max_steps": STEPS, "save_strategy": "no", "logging_steps": 1, "max_grad_norm": 0}
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "run"),
            per_device_train_batch_size=SIZE,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            log_level="error",
            **{**defaults, **options},
        )
        trainer = InOrder(
            model=model,
            args=arguments,
            train_dataset=examples(batches),
            eval_dataset=examples(1),
            optimizers=(optimizer, scheduler(optimizer) if scheduler else None),
            callbacks=list(callbacks),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer

    return make


def logged_rates(trainer):
    return [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]


def saved_weights(folder):
    state = load_file(folder / "model.safetensors")
    return torch.cat([state[name].flatten() for name, _ in Model().named_parameters()])


def assert_weights(noted, expected):
    assert noted
    for updates, weights in noted:
        assert torch.equal(weights, expected[updates])


@each_key
def test_it_trains_as_by_hand(make_trainer, key):
    watching = Watching()
    make_trainer(key, watching).train()
    assert len(watching.training) == 2 * STEPS
    assert_weights(watching.training, Run(key).training)


@each_key
def test_the_logs_show_the_rate_that_each_update_applied(make_trainer, key):
    trainer = make_trainer(key)
    trainer.train()
    assert logged_rates(trainer) == pytest.approx(Run(key).rates, rel=1e-12)


@each_key
def test_the_rates_are_those_of_optimizer_updates_where_gradients_are_accumulated(make_trainer, key):
    watching = Watching()
    trainer = make_trainer(key, watching, batches=2 * STEPS, gradient_accumulation_steps=2)
    trainer.train()
    assert len(watching.training) == 2 * STEPS
    assert_weights(watching.training, Run(key, micro_batches=2).training)


def test_without_a_scheduler_the_trainer_adds_one_which_is_told_of(make_trainer):
    trainer = make_trainer("adamw_warmup_cosine_decay", scheduler=None)
    with pytest.warns(ScheduleWarning, match=r"steps its own schedule: take away .*ReadOnlyScheduler\(optimizer\)"):
        trainer.train()
    assert isinstance(trainer.lr_scheduler, torch.optim.lr_scheduler.LambdaLR)
    assert logged_rates(trainer) != pytest.approx([warmup_cosine(update) for update in range(STEPS)], rel=1e-3)


def test_without_a_scheduler_the_trainer_changes_the_training_of_a_schedule_free_optimizer(make_trainer):
    trainer = make_trainer(SCHEDULE_FREE, scheduler=None)
    with pytest.warns(ScheduleWarning, match=r"needs no schedule, .*ReadOnlyScheduler\(optimizer\)"):
        trainer.train()
    assert not torch.allclose(vector(trainer.model), Run(SCHEDULE_FREE).training[-1], rtol=1e-3)


@each_key
@pytest.mark.parametrize("evaluated", [True, False])
def test_resuming_is_exact(make_trainer, tmp_path, key, evaluated):
    evaluation = {"eval_strategy": "steps", "eval_steps": 3} if evaluated else {}
    run = Run(key)
    make_trainer(key, ScheduleFreeTrainerCallback(), save_strategy="steps", save_steps=5, **evaluation).train()
    for step in (5, 10):
        watching = Watching()
        trainer = make_trainer(key, watching, ScheduleFreeTrainerCallback(), seed=1)
        trainer.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))
        assert watching.training[0][0] == step
        assert_weights(watching.training, run.training)
        assert torch.equal(vector(trainer.model), run.evaluation[-1])
        assert logged_rates(trainer) == pytest.approx(run.rates, rel=1e-12)


@each_key
def test_resuming_at_the_end_of_an_epoch_for_more_of_them_is_exact(make_trainer, tmp_path, key):
    options = {"batches": 4, "max_steps": -1, "save_strategy": "epoch"}
    whole = make_trainer(key, ScheduleFreeTrainerCallback(), num_train_epochs=3, **options)
    whole.train()
    make_trainer(key, ScheduleFreeTrainerCallback(), num_train_epochs=2, **options).train()
    resumed = make_trainer(key, ScheduleFreeTrainerCallback(), num_train_epochs=3, seed=1, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-8"))
    assert resumed.state.global_step == STEPS
    assert torch.equal(vector(resumed.model), vector(whole.model))


@pytest.mark.parametrize("key", SCHEDULED)
def test_optimizers_without_modes_resume_exactly_without_any_callback(make_trainer, tmp_path, key):
    make_trainer(key, save_strategy="steps", save_steps=5).train()
    trainer = make_trainer(key, seed=1)
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-5"))
    assert torch.equal(vector(trainer.model), Run(key).training[-1])


def test_without_the_callback_training_weights_are_saved(make_trainer, tmp_path):
    run = Run(SCHEDULE_FREE)
    make_trainer(SCHEDULE_FREE, save_strategy="steps", save_steps=5).train()
    assert torch.equal(saved_weights(tmp_path / "run" / "checkpoint-5"), run.training[5])
    assert not torch.allclose(run.training[5], run.evaluation[5], rtol=1e-3)


@pytest.mark.parametrize("when", ["steps", "epoch", "best"])
def test_the_evaluation_weights_are_saved(make_trainer, tmp_path, when):
    run = Run(SCHEDULE_FREE)
    options = {"save_strategy": when, "save_steps": 4, "num_train_epochs": 3, "max_steps": -1, "batches": STEPS // 3}
    if when == "best":
        options |= {"eval_strategy": "steps", "eval_steps": 4, "metric_for_best_model": "loss"}
    # The data of one epoch again and again: only the first epoch is that of the run by hand.
    make_trainer(SCHEDULE_FREE, ScheduleFreeTrainerCallback(), **options).train()
    assert torch.equal(saved_weights(tmp_path / "run" / "checkpoint-4"), run.evaluation[4])


def test_evaluations_and_saves_do_not_change_the_training(make_trainer):
    run, watching = Run(SCHEDULE_FREE), Watching()
    make_trainer(
        SCHEDULE_FREE,
        watching,
        ScheduleFreeTrainerCallback(),
        eval_strategy="steps",
        eval_steps=2,
        eval_on_start=True,
        save_strategy="steps",
        save_steps=3,
    ).train()
    assert {updates for updates, _ in watching.evaluating} == {0, 2, 4, 6, 8, 10, 12}
    assert_weights(watching.evaluating, run.evaluation)
    assert_weights(watching.training, run.training)


def test_after_training_the_model_has_the_evaluation_weights(make_trainer, tmp_path):
    run = Run(SCHEDULE_FREE)
    trainer = make_trainer(SCHEDULE_FREE, ScheduleFreeTrainerCallback())
    trainer.train()
    assert torch.equal(vector(trainer.model), run.evaluation[-1])
    trainer.evaluate()
    trainer.save_model(str(tmp_path / "published"))
    assert torch.equal(saved_weights(tmp_path / "published"), run.evaluation[-1])


class Stops(transformers.TrainerCallback):
    """Asks for the end of the training after some updates, in one of the callback's events."""

    def __init__(self, updates, event="on_step_end"):
        setattr(self, event, self.stop)
        self.updates = updates

    def stop(self, args, state, control, **_):
        control.should_training_stop = control.should_training_stop or state.global_step >= self.updates


STOPS = [
    lambda: (Stops(6), ScheduleFreeTrainerCallback()),
    lambda: (ScheduleFreeTrainerCallback(), Stops(6)),
    lambda: (ScheduleFreeTrainerCallback(), Stops(6, "on_epoch_end")),
]


@pytest.mark.parametrize("callbacks", STOPS)
def test_a_training_that_is_stopped_early_ends_with_the_evaluation_weights(make_trainer, callbacks):
    trainer = make_trainer(SCHEDULE_FREE, *callbacks(), batches=6)
    trainer.train()
    assert trainer.state.global_step == 6
    assert torch.equal(vector(trainer.model), Run(SCHEDULE_FREE).evaluation[6])


@pytest.mark.parametrize("callbacks", [*STOPS, lambda: (ScheduleFreeTrainerCallback(),)])
def test_the_best_model_is_that_of_its_evaluation_weights(make_trainer, callbacks):
    options = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4}
    options |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "batches": 6}
    trainer = make_trainer(SCHEDULE_FREE, *callbacks(), **options)
    trainer.train()
    assert torch.equal(vector(trainer.model), saved_weights(Path(trainer.state.best_model_checkpoint)))


def test_the_best_model_stays_when_it_is_evaluated(make_trainer):
    options = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4}
    options |= {"load_best_model_at_end": True, "metric_for_best_model": "loss"}
    trainer = make_trainer(SCHEDULE_FREE, Stops(6), ScheduleFreeTrainerCallback(), **options)
    trainer.train()
    trainer.evaluate()
    assert torch.equal(vector(trainer.model), Run(SCHEDULE_FREE).evaluation[4])


class Fails(transformers.TrainerCallback):
    """Raises in the first evaluation."""

    failed = False

    def on_prediction_step(self, *_, **__):
        if not self.failed:
            self.failed = True
            raise ZeroDivisionError


def test_a_training_that_an_evaluation_ended_can_be_resumed_in_the_same_trainer(make_trainer, tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 7, "save_strategy": "steps", "save_steps": 3}
    trainer = make_trainer(SCHEDULE_FREE, Fails(), ScheduleFreeTrainerCallback(), **options)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    assert torch.equal(vector(trainer.model), Run(SCHEDULE_FREE).evaluation[-1])
    assert "training_weights" not in trainer.optimizer.state_dict()


def test_a_training_that_an_evaluation_ended_goes_on_from_its_very_weights(make_trainer):
    watching = Watching()
    trainer = make_trainer(
        SCHEDULE_FREE, watching, Fails(), ScheduleFreeTrainerCallback(), eval_strategy="steps", eval_steps=7
    )
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    watching.training.clear()
    trainer.train()
    assert torch.equal(watching.training[0][1], Run(SCHEDULE_FREE).training[7])


def test_a_second_training_starts_from_the_model_as_it_is(make_trainer):
    watching = Watching()
    trainer = make_trainer(SCHEDULE_FREE, watching, ScheduleFreeTrainerCallback(), max_steps=4)
    trainer.train()
    parameters = list(trainer.model.parameters())
    for parameter in parameters:
        parameter.data.fill_(0.25)
    averages = [trainer.optimizer.state[parameter]["z"] for parameter in parameters]
    # y = x + (1 - beta) * (z - x), where the parameters are x.
    expected = [p.detach().lerp(z, 1 - BETAS[0]).flatten() for p, z in zip(parameters, averages, strict=True)]
    watching.training.clear()
    trainer.train()
    assert torch.equal(watching.training[0][1], torch.cat(expected))


def test_a_callback_that_comes_too_late_to_see_the_state_says_so(make_trainer, tmp_path):
    make_trainer(SCHEDULE_FREE, ScheduleFreeTrainerCallback(), save_strategy="steps", save_steps=5).train()
    trainer = make_trainer(SCHEDULE_FREE, seed=1)
    trainer.add_callback(ScheduleFreeTrainerCallback())
    with pytest.warns(OptimWarning, match="did not see the optimizer's state being loaded"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-5"))
    torch.testing.assert_close(vector(trainer.model), Run(SCHEDULE_FREE).evaluation[-1])


@pytest.mark.parametrize("key", SCHEDULED)
def test_the_callback_leaves_optimizers_without_modes_alone(make_trainer, key):
    trainer = make_trainer(key, save_strategy="steps", save_steps=5)
    trainer.add_callback(ScheduleFreeTrainerCallback())
    trainer.train()
    assert torch.equal(vector(trainer.model), Run(key).training[-1])
    assert "training_weights" not in trainer.optimizer.state_dict()
