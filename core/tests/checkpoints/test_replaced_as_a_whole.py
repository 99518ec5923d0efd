"""Files of a checkpoint: named for any component, and replaced as a whole or not at all, whenever a save is stopped."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from core_support.checkpointed_training import REGISTRY, everything, make, same, train
from optim_core import build_optimizers, load_checkpoint, save_checkpoint


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


def test_other_folders_beside_a_checkpoint_are_left_alone(tmp_path):
    for name in ("data-raw", "data-123", ".data-x.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").write_text("yes")
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers)
    save_checkpoint(tmp_path, models, optimizers)
    assert len(list(tmp_path.glob("*/precious"))) == 3


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


@pytest.mark.slow
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


@pytest.mark.slow
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
