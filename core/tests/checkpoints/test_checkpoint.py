"""Checkpoints: whole or not at all, checked before anything changes, exact when resumed."""

import copy
import hashlib
import json
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from optim_core import (
    CheckpointError,
    CheckpointMismatchError,
    ComponentOptimizers,
    OptimizerRegistry,
    OptimWarning,
    ResumeWarning,
    ScheduledOptimizer,
    UncoveredParametersWarning,
    WarmupCosine,
    build_optimizers,
    load_checkpoint,
    save_checkpoint,
)


class ScheduledAdamW(ScheduledOptimizer, torch.optim.AdamW):
    """AdamW on a schedule."""


class Averaged(torch.optim.SGD):
    """SGD with a second set of weights to evaluate, which rounding makes impossible to undo exactly."""

    def add_param_group(self, param_group):
        super().add_param_group({"train_mode": True, "factor": 0.3, **param_group})

    @torch.no_grad()
    def _switch(self, to_training):
        for group in self.param_groups:
            if group["train_mode"] is not to_training:
                group["train_mode"] = to_training
                for parameter in group["params"]:
                    parameter.mul_(group["factor"] if to_training else 1 / group["factor"])

    def train(self):
        self._switch(True)

    def eval(self):
        self._switch(False)


@dataclass(frozen=True, kw_only=True)
class AdamWFactory:
    """AdamW with warmup and cosine."""

    peak_lr: float = 0.01
    total_steps: int = 50
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)

    def build(self, params):
        schedule = WarmupCosine(peak_lr=self.peak_lr, total_steps=self.total_steps, warmup_steps=5)
        return ScheduledAdamW(params, schedule=schedule, weight_decay=self.weight_decay, betas=self.betas)


@dataclass(frozen=True, kw_only=True)
class AveragedFactory:
    """SGD with modes."""

    lr: float = 0.05
    momentum: float = 0.9
    factor: float = 0.3

    def build(self, params):
        return Averaged([{"params": list(params), "factor": self.factor}], lr=self.lr, momentum=self.momentum)


REGISTRY = OptimizerRegistry()
REGISTRY.register("adamw", AdamWFactory)
REGISTRY.register("averaged", AveragedFactory)
CONFIGURATION = {"body": {"type": "adamw", "params": {}}, "head": {"type": "averaged", "params": {}}}


def make_models(seed=0):
    torch.manual_seed(seed)
    models = nn.ModuleDict({"body": nn.Linear(4, 8), "head": nn.Linear(8, 3), "frozen": nn.Linear(2, 2)})
    models["frozen"].requires_grad_(False)
    return models


def make(configuration=CONFIGURATION, seed=0):
    models = make_models(seed)
    return models, build_optimizers(models, configuration, registry=REGISTRY)


def train(models, optimizers, steps, start=0):
    for step in range(start, start + steps):
        torch.manual_seed(step)
        optimizers.zero_grad()
        models["head"](models["body"](torch.randn(16, 4)).tanh()).square().mean().backward()
        optimizers.step()


def weights(models):
    return {name: value.clone() for name, value in models.state_dict().items()}


def everything(models, optimizers):
    return copy.deepcopy((models.state_dict(), optimizers.state_dict()))


def same(left, right):
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def test_a_resumed_run_ends_with_the_very_weights_of_one_that_went_through(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 20)
    save_checkpoint(tmp_path, models, optimizers, extra={"step": 20})
    train(models, optimizers, 20, start=20)

    resumed, resumed_optimizers = make(seed=1)
    extra = load_checkpoint(tmp_path, resumed, resumed_optimizers)
    train(resumed, resumed_optimizers, 20, start=extra["step"])

    assert same(everything(resumed, resumed_optimizers), everything(models, optimizers))


def test_saving_changes_nothing_not_even_the_last_bit(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 7)
    before = everything(models, optimizers)

    save_checkpoint(tmp_path, models, optimizers)

    assert same(everything(models, optimizers), before)


def test_weight_files_hold_the_evaluation_weights(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 7)
    training = models["head"].weight.detach().clone()
    save_checkpoint(tmp_path, models, optimizers)

    published = make_models(seed=5)
    load_checkpoint(tmp_path, published, None)

    torch.testing.assert_close(published["head"].weight, training / 0.3)
    assert torch.equal(published["body"].weight, models["body"].weight)


def test_an_optimizer_saved_in_evaluation_mode_is_loaded_in_it(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 3)
    optimizers.eval()
    before = everything(models, optimizers)
    save_checkpoint(tmp_path, models, optimizers)

    resumed, resumed_optimizers = make(seed=1)
    load_checkpoint(tmp_path, resumed, resumed_optimizers)

    assert same(everything(resumed, resumed_optimizers), before)


def test_a_checkpoint_saved_before_the_first_step_is_resumed(tmp_path):
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = make(seed=1)
    load_checkpoint(tmp_path, resumed, resumed_optimizers)
    train(models, optimizers, 5)
    train(resumed, resumed_optimizers, 5)
    assert same(everything(resumed, resumed_optimizers), everything(models, optimizers))


def test_one_module_is_saved_whole(tmp_path):
    configuration = {"0": {"type": "adamw"}, "2.0": {"type": "averaged"}}

    def build(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Sequential(nn.Linear(4, 2)))
        return model, build_optimizers(model, configuration, registry=REGISTRY)

    model, optimizers = build(0)
    model(torch.randn(9, 4)).sum().backward()
    optimizers.step()
    save_checkpoint(tmp_path, model, optimizers)
    other, other_optimizers = build(1)
    load_checkpoint(tmp_path, other, other_optimizers)

    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert same(other_optimizers.state_dict(), optimizers.state_dict())


def test_a_wrapped_module_loads_into_a_bare_one(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 2)
    wrapped = {name: nn.DataParallel(module) for name, module in models.items()}
    save_checkpoint(tmp_path, wrapped, optimizers)
    bare, bare_optimizers = make(seed=1)
    load_checkpoint(tmp_path, bare, bare_optimizers)
    assert same(everything(bare, bare_optimizers), everything(models, optimizers))


@pytest.mark.parametrize("name", ["a/b", "../up", "ä ö", "A" * 300, "con", ""])
def test_any_component_name_makes_a_file(tmp_path, name):
    models = {name: nn.Linear(2, 2), name.lower() + "x": nn.Linear(2, 2)}
    configuration = {key: {"type": "adamw"} for key in models}
    optimizers = build_optimizers(models, configuration, registry=REGISTRY)
    save_checkpoint(tmp_path / "run", models, optimizers)
    load_checkpoint(tmp_path / "run", models, optimizers)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_component_names_that_differ_in_case_have_files_of_their_own(tmp_path):
    models = {"net": nn.Linear(2, 2), "NET": nn.Linear(2, 2)}
    optimizers = build_optimizers(models, {key: {"type": "adamw"} for key in models}, registry=REGISTRY)
    save_checkpoint(tmp_path, models, optimizers)
    files = [path.name.lower() for path in tmp_path.glob("data-*/*")]
    assert len(files) == len(set(files)) == 5


def test_extra_comes_back(tmp_path):
    models, optimizers = make()
    extra = {"step": 3, "rng": torch.get_rng_state(), "nested": {"list": [1, 2.5, "three", None, (True,)]}}
    save_checkpoint(tmp_path, models, optimizers, extra=extra)
    assert same(load_checkpoint(tmp_path, models, optimizers), extra)


def test_extra_that_could_not_be_loaded_is_refused_and_the_previous_checkpoint_stays(tmp_path):
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers, extra={"step": 1})
    with pytest.raises(ValueError, match=r"extra\.pt.*weights_only"):
        save_checkpoint(tmp_path, models, optimizers, extra={"path": Path("x")})
    assert load_checkpoint(tmp_path, models, optimizers) == {"step": 1}
    assert len(list(tmp_path.glob("*data-*"))) == 1


def test_old_data_goes_when_the_new_is_there(tmp_path):
    models, optimizers = make()
    for _ in range(3):
        save_checkpoint(tmp_path, models, optimizers)
    names = {path.name.split("-")[0] for path in tmp_path.iterdir()}
    assert names == {"checkpoint.json", "data", ".checkpoint.lock"}
    assert len(list(tmp_path.glob("data-*"))) == 1


def files_of(directory):
    return [directory / "checkpoint.json", *sorted(directory.glob("data-*/*"))]


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "emptied"])
def test_a_damaged_file_is_named_and_nothing_changes(tmp_path, index, damage):
    models, optimizers = make()
    train(models, optimizers, 3)
    save_checkpoint(tmp_path, models, optimizers)
    assert len(files_of(tmp_path)) == 7
    path = files_of(tmp_path)[index]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(
        {"missing": b"", "truncated": content[: len(content) // 2], "flipped": content, "emptied": b""}[damage]
    )
    if damage == "missing":
        path.unlink()
    other, other_optimizers = make(seed=1)
    train(other, other_optimizers, 1)
    before = everything(other, other_optimizers)

    if (index, damage) == (0, "flipped"):
        path.write_text('{"format": 1}')
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path, other, other_optimizers)

    assert path.name in str(caught.value)
    assert same(everything(other, other_optimizers), before)


def test_an_empty_folder_is_no_checkpoint(tmp_path):
    models, optimizers = make()
    with pytest.raises(CheckpointError, match="there is no checkpoint here"):
        load_checkpoint(tmp_path / "nowhere", models, optimizers)


def test_a_format_of_the_future_says_to_upgrade(tmp_path):
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers)
    manifest = json.loads((tmp_path / "checkpoint.json").read_text())
    (tmp_path / "checkpoint.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(CheckpointError, match=r"99.*Upgrade"):
        load_checkpoint(tmp_path, models, optimizers)


def test_a_checkpoint_holding_code_is_refused(tmp_path):
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers)
    path = next(tmp_path.glob("data-*/extra.pt"))
    torch.save({"run": subprocess.Popen}, path)
    manifest = json.loads((tmp_path / "checkpoint.json").read_text())
    sound = {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest["files"]["extra.pt"] = sound
    (tmp_path / "checkpoint.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"extra\.pt.*can't be loaded"):
        load_checkpoint(tmp_path, models, optimizers)


def refuse(tmp_path, models, optimizers):
    before = everything(models, optimizers)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_checkpoint(tmp_path, models, optimizers)
    assert same(everything(models, optimizers), before)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 3)
    save_checkpoint(tmp_path, models, optimizers)
    return tmp_path


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


def test_parameters_in_another_order_are_matched_by_name(saved):
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(8))
            self.weight = nn.Parameter(torch.zeros(8, 4))

    models = nn.ModuleDict({**dict(make_models().items()), "body": Turned()})
    optimizers = build_optimizers(models, CONFIGURATION, registry=REGISTRY)
    load_checkpoint(saved, models, optimizers)
    original, original_optimizers = make()
    load_checkpoint(saved, original, original_optimizers)
    for name in ("weight", "bias"):
        state = optimizers["body"].state[getattr(models["body"], name)]
        expected = original_optimizers["body"].state[getattr(original["body"], name)]
        assert expected["exp_avg"].any()
        assert torch.equal(state["exp_avg"], expected["exp_avg"])


def changed(**params):
    return {**CONFIGURATION, "body": {"type": "adamw", "params": params}}


def formula(step, peak, total, warmup=5):
    if step < warmup:
        return peak * step / warmup
    progress = torch.tensor((step - warmup) / (total - 1 - warmup), dtype=torch.float64)
    return (peak * (1 + torch.cos(torch.pi * progress)) / 2).item()


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


def test_other_folders_beside_a_checkpoint_are_left_alone(tmp_path):
    for name in ("data-raw", "data-123", ".data-x.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").write_text("yes")
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers)
    save_checkpoint(tmp_path, models, optimizers)
    assert len(list(tmp_path.glob("*/precious"))) == 3


def test_training_weights_of_parameters_without_a_name_are_restored(tmp_path):
    def build(seed):
        models, optimizers = make(seed=seed)
        late = nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(seed)))
        optimizers["head"].add_param_group({"params": [("late", late)]})
        return models, optimizers, late

    models, optimizers, late = build(0)
    late.grad = torch.ones(3)
    optimizers.step()
    models["late"] = nn.ParameterList([late])
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers, resumed_late = build(1)
    resumed["late"] = nn.ParameterList([resumed_late])
    load_checkpoint(tmp_path, resumed, resumed_optimizers)
    assert torch.equal(resumed_late, late)


def test_optimizers_put_together_by_hand_are_resumed_exactly(tmp_path):
    def build(seed):
        models = make_models(seed)
        return models, ComponentOptimizers({"head": Averaged(models["head"].parameters(), lr=0.1)})

    models, optimizers = build(0)
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = build(1)
    load_checkpoint(tmp_path, resumed, resumed_optimizers)
    assert same(weights(resumed), weights(models))


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


def test_values_taken_over_from_a_checkpoint_are_what_the_next_one_records(saved, tmp_path):
    models, optimizers = make(changed(weight_decay=0.5))
    with pytest.warns(ResumeWarning):
        load_checkpoint(saved, models, optimizers, on_mismatch="checkpoint")
    save_checkpoint(tmp_path / "second", models, optimizers)

    models, optimizers = make(changed(weight_decay=0.5))
    with pytest.raises(CheckpointMismatchError, match=r"body\.weight_decay: is 0\.01 in the checkpoint and 0\.5 now"):
        load_checkpoint(tmp_path / "second", models, optimizers, on_mismatch="error")


def test_the_version_of_a_module_travels_with_its_weights(tmp_path):
    class Versioned(nn.Linear):
        _version = 3
        seen = None

        def _load_from_state_dict(self, state, prefix, metadata, *rest):
            type(self).seen = metadata.get("version")
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    models = {"net": Versioned(2, 2)}
    optimizers = build_optimizers(models, {"net": {"type": "adamw"}}, registry=REGISTRY)
    save_checkpoint(tmp_path, models, optimizers)
    load_checkpoint(tmp_path, models, optimizers)
    assert Versioned.seen == 3


def test_only_what_the_configuration_says_is_listed_and_not_what_follows_from_it(saved):
    models = make_models()
    configuration = changed(peak_lr=0.02)
    optimizers = build_optimizers(models, configuration, registry=REGISTRY)
    with pytest.warns(ResumeWarning) as caught:
        load_checkpoint(saved, models, optimizers)
    assert str(caught[0].message).count(" in the checkpoint and ") == 1


def test_a_manifest_that_leaves_files_out_or_points_outside_is_damaged(saved):
    models, optimizers = make()
    manifest = json.loads((saved / "checkpoint.json").read_text())
    for broken in ({**manifest, "files": {}}, {**manifest, "data": "../elsewhere"}, {**manifest, "models": 3}, []):
        (saved / "checkpoint.json").write_text(json.dumps(broken))
        with pytest.raises(CheckpointError, match=r"checkpoint\.json: the file is damaged"):
            load_checkpoint(saved, models, optimizers)


def test_a_warning_that_is_an_error_changes_nothing(saved):
    models, optimizers = make(changed(total_steps=100), seed=1)
    before = everything(models, optimizers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ResumeWarning):
            load_checkpoint(saved, models, optimizers)
    assert same(everything(models, optimizers), before)


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


def test_savers_of_one_folder_wait_for_each_other(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path), "40"]) for _ in range(2)]
    models, loaded = {"net": nn.Linear(300, 300)}, 0
    while any(process.poll() is None for process in processes):
        if (tmp_path / "checkpoint.json").exists():
            step = load_checkpoint(tmp_path, models, None)["step"]
            assert torch.equal(models["net"].weight, torch.full((300, 300), float(step)))
            loaded += 1
    assert [process.returncode for process in processes] == [0, 0]
    assert loaded > 0


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


@pytest.mark.parametrize("on_mismatch", ["config", "checkpoint", "error"])
def test_a_group_added_later_is_resumed_with_its_own_peak(tmp_path, on_mismatch):
    def build(seed):
        models, optimizers = make(seed=seed)
        models["frozen"].requires_grad_(True)
        optimizers["body"].add_param_group({"params": list(models["frozen"].parameters()), "lr": 0.003})
        return models, optimizers

    models, optimizers = build(0)
    train(models, optimizers, 5)
    optimizers["body"].param_groups[1]["peak_lr"] = 0.001
    train(models, optimizers, 5)
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = build(1)
    load_checkpoint(tmp_path, resumed, resumed_optimizers, on_mismatch=on_mismatch)
    assert same(everything(resumed, resumed_optimizers), everything(models, optimizers))


def test_what_a_module_dict_itself_owns_is_saved_and_missed(tmp_path):
    class Models(nn.ModuleDict):
        def __init__(self, value):
            super().__init__({"body": nn.Linear(4, 8)})
            self.scale = nn.Parameter(torch.full((2,), value))

    def build(value):
        models = Models(value)
        with pytest.warns(UncoveredParametersWarning, match=r"scale \(2 parameters\)"):
            return models, build_optimizers(models, {"body": {"type": "adamw"}}, registry=REGISTRY)

    models, optimizers = build(7.0)
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = build(1.0)
    load_checkpoint(tmp_path, resumed, resumed_optimizers)
    assert resumed.scale.tolist() == [7, 7]


def test_wrapped_entries_of_a_module_dict_load_into_bare_ones(tmp_path):
    models, optimizers = make()
    wrapped = nn.ModuleDict({name: nn.DataParallel(module) for name, module in models.items()})
    save_checkpoint(tmp_path, wrapped, optimizers)
    bare, bare_optimizers = make(seed=1)
    load_checkpoint(tmp_path, bare, bare_optimizers)
    assert same(everything(bare, bare_optimizers), everything(models, optimizers))


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


class Crash(BaseException):
    """The machine stops here."""


# One save makes ten calls of fsync: six files, the folder, its parent, the manifest, the parent again.
INSTANTS = [("os.fsync", call) for call in range(10)]
INSTANTS += [("torch.save", call) for call in range(6)]
INSTANTS += [("pathlib.Path.rename", 0), ("pathlib.Path.replace", 0), ("json.dump", 0)]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("function", "call"), INSTANTS)
def test_a_failure_at_any_point_leaves_one_whole_checkpoint(tmp_path, monkeypatch, function, moment, call):
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers, extra={"step": 0})
    first = everything(models, optimizers)
    train(models, optimizers, 3)
    second = everything(models, optimizers)
    module, _, name = function.rpartition(".")
    owner = Path if module == "pathlib.Path" else sys.modules[module]
    original, calls = getattr(owner, name), []

    def crashing(*args, **kwargs):
        calls.append(name)
        if len(calls) == call + 1 and moment == "before":
            raise Crash
        result = original(*args, **kwargs)
        if len(calls) == call + 1:
            raise Crash
        return result

    monkeypatch.setattr(owner, name, crashing)
    with pytest.raises(Crash):
        save_checkpoint(tmp_path, models, optimizers, extra={"step": 3})
    monkeypatch.undo()

    assert same(everything(models, optimizers), second)
    resumed, resumed_optimizers = make(seed=1)
    step = load_checkpoint(tmp_path, resumed, resumed_optimizers)["step"]
    assert same(everything(resumed, resumed_optimizers), {0: first, 3: second}[step])
    save_checkpoint(tmp_path, models, optimizers)
    assert len(list(tmp_path.glob("*data-*"))) == 1


SAVER = """
import sys, torch
from torch import nn
from optim_core import OptimizerRegistry, build_optimizers, save_checkpoint

class Factory:
    def build(self, params):
        return torch.optim.AdamW(params)

registry = OptimizerRegistry()
registry.register("adamw", Factory)
models = {"net": nn.Linear(300, 300)}
optimizers = build_optimizers(models, {"net": {"type": "adamw"}}, registry=registry)
for step in range(1, int(sys.argv[2])):
    with torch.no_grad():
        models["net"].weight.fill_(step)
    save_checkpoint(sys.argv[1], models, optimizers, extra={"step": step})
"""


def test_sigkill_at_any_moment_leaves_one_whole_checkpoint(tmp_path):
    models = {"net": nn.Linear(300, 300)}
    manifest = tmp_path / "checkpoint.json"
    for round_number in range(6):
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path), "100000"])
        before = manifest.stat().st_mtime_ns if manifest.exists() else 0
        deadline = time.monotonic() + 60
        while not manifest.exists() or manifest.stat().st_mtime_ns == before:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(0.0037 * round_number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        last = load_checkpoint(tmp_path, models, None)["step"]
        assert torch.equal(models["net"].weight, torch.full((300, 300), float(last)))
