"""`optim check --model` shows who owns which parameters, and names models that can't be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tools_support.checked_configurations import GOOD, MODEL, PLUGIN, WITH_FROZEN, Check

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., Path]


@pytest.mark.usefixtures("model")
def test_what_can_t_be_built_is_a_problem_with_a_model_too(check: Check) -> None:
    text = """\
        encoder: {type: warm, params: {peak_lr: 1, total_steps: 9, warmup_steps: 1, nesterov: true}}
        frozen: {type: warm, params: {peak_lr: 1, total_steps: 9, warmup_steps: 1, nesterov: true}}
        decodr: {type: plain}
        """
    status, out, _ = check(text, "--model", "mymodel:build")
    assert status == 1
    assert [line.split(": ")[2] for line in out.splitlines()[:-1]] == ["encoder.params", "frozen.params", "decodr"]


@pytest.mark.usefixtures("model")
def test_a_configuration_from_a_pipe_is_read_once(distribution: Install, folder: Path, script: Path) -> None:
    distribution("optim-plugin", factories={"warm": "plugin:Warm", "plain": "plugin:Plain"}, modules={"plugin": PLUGIN})
    command = f"echo 'encoder: {{type: plain}}' | '{script}' check /dev/stdin --model mymodel:parts"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "building\n")


@pytest.mark.usefixtures("model")
def test_a_model_shows_who_owns_which_parameters(check: Check) -> None:
    status, out, err = check(WITH_FROZEN, "--model", "mymodel:build")
    assert (status, err) == (0, "building\n")
    owners = out.partition("\n\n")[0]
    rows = [line.split() for line in owners.splitlines() if not line.startswith(("config.yaml", "extra"))]
    assert rows == [
        ["component", "type", "optimizer", "tensors", "trainable", "frozen"],
        ["encoder", "warm", "ScheduledSGD", "2", "12", "4"],
        ["decoder", "plain", "SGD", "1", "8", "0"],
        ["frozen", "plain", "(skipped:", "frozen)", "2", "0", "30"],
    ]
    assert "config.yaml:8: note: model.component_optims.frozen: is frozen, and so skipped" in out
    assert "config.yaml: note: extra: 110 trainable parameters have no optimizer and will not be trained" in out
    (uncovered,) = [line for line in out.splitlines() if line.startswith("extra")]
    assert uncovered.split() == ["extra", "none", "110", "0"]


@pytest.mark.usefixtures("model")
def test_ownership_as_json(check: Check) -> None:
    _, out, _ = check(WITH_FROZEN, "--model", "mymodel:build", "--json")
    model: dict[str, Any] = json.loads(out)["model"]
    assert [(o["component"], o["optimizer"], o["trainable"], o["frozen"]) for o in model["components"]] == [
        ("encoder", "ScheduledSGD", 12, 4),
        ("decoder", "SGD", 8, 0),
        ("frozen", None, 0, 30),
    ]
    assert (model["uncovered"], model["frozen_elsewhere"]) == ({"extra": 110}, {})


DEEP = """
import torch

def build():
    model = torch.nn.Module()
    model.scale = torch.nn.Parameter(torch.ones(3))
    model.net = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "decoder": torch.nn.Linear(2, 4)})
    model.tied = torch.nn.Linear(2, 2)
    model.tied.weight = model.net["encoder"].weight
    model.statue = torch.nn.Linear(5, 5).requires_grad_(False)
    model.lazy = torch.nn.LazyLinear(3)
    return model
"""


def test_what_no_component_has_is_named_as_exactly_as_can_be(check: Check, folder: Path) -> None:
    (folder / "deepmodel.py").write_text(DEEP)
    _, out, _ = check("net.encoder: {type: plain}", "--model", "deepmodel:build", "--json")
    model: dict[str, Any] = json.loads(out)["model"]
    assert model["uncovered"] == {"scale": 3, "net.decoder": 12, "tied.bias": 2}
    assert model["frozen_elsewhere"] == {"statue": 30}
    _, out, _ = check("net.encoder: {type: plain}", "--model", "deepmodel:build")
    assert out.count("Make it part of a component, or freeze it with requires_grad_(False)") == 3
    (statue,) = [line.split() for line in out.splitlines() if line.startswith("statue")]
    assert statue == ["statue", "none", "0", "30"]


@pytest.mark.usefixtures("model")
def test_problems_with_the_model_join_the_others(check: Check) -> None:
    text = "encodr: {type: plain}\ndecoder: {type: plain, params: {l: 1}}\n"
    status, out, _ = check(text, "--model", "mymodel:build")
    assert status == 1
    assert out.splitlines()[:2] == [
        "config.yaml:1: error: encodr: no such component. Did you mean 'encoder'?",
        "config.yaml:2: error: decoder.params.l: no such argument. Did you mean 'lr'?",
    ]


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("reference", ["mymodel:parts", "mymodel:module"])
def test_components_by_name_will_do_as_a_model(check: Check, reference: str) -> None:
    status, out, _ = check("encoder: {type: plain}", "--model", reference)
    assert status == 0
    assert "encoder    plain  SGD" in out


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("reference", "status", "says"),
    [
        ("mymodel", 2, "must be module:callable, as in train:build_model"),
        ("mymodl:build", 2, "there is no module 'mymodl', here or among what is installed"),
        ("mymodel.py:build", 2, "'mymodel.py' is a file's name, not a module's, as in train:build_model"),
        ("./mymodel.py:build", 2, "'./mymodel.py' is a file's name"),
        ("mymodel:biuld", 2, "there is no 'biuld' in it. Did you mean 'build'?"),
        ("mymodel:number", 2, "is neither callable nor a module (int)"),
        ("mymodel:raising", 1, "calling it, without arguments, raises RuntimeError: no weights on this machine"),
        ("mymodel:of", 1, "calling it, without arguments, raises TypeError: of() missing 1 required"),
        ("mymodel:print", 2, "there is no 'print' in it"),
        ("json:dumps.__class__", 1, "raises TypeError"),
        ("broken:build", 1, "importing 'broken' raises ModuleNotFoundError: No module named 'not_installed'"),
        ("leaving:build", 1, "importing 'leaving' raises SystemExit: 3"),
        ("time:time", 1, "models must be a torch.nn.Module or a mapping"),
    ],
)
def test_a_model_that_can_t_be_had_is_one_clear_line(
    check: Check, folder: Path, reference: str, status: int, says: str
) -> None:
    (folder / "broken.py").write_text("import not_installed")
    (folder / "leaving.py").write_text("import sys\nsys.exit(3)")
    seen, out, err = check(GOOD, "--model", reference)
    (line,) = [line for line in err.splitlines() if line != "building"]
    assert (seen, out) == (status, "")
    assert line.startswith(f"optim: error: --model '{reference}': ")
    assert says in line


def test_the_real_command_checks_with_a_model_of_the_current_folder(
    distribution: Install, folder: Path, optim: Run
) -> None:
    distribution("optim-plugin", factories={"warm": "plugin:Warm", "plain": "plugin:Plain"}, modules={"plugin": PLUGIN})
    (folder / "mymodel.py").write_text(MODEL)
    (folder / "config.yaml").write_text(dedent(WITH_FROZEN))
    result = optim("check", "config.yaml", "--model", "mymodel:build")
    assert (result.returncode, result.stderr) == (0, "building\n")
    assert result.stdout.splitlines()[-1] == "config.yaml: fine, 2 notes"
