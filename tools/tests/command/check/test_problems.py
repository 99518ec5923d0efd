"""`optim check` reports every problem at once, each with its place."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tools_support.checked_configurations import GOOD, PLUGIN, Check

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., Path]


def test_a_right_configuration_is_fine(check: Check) -> None:
    status, out, err = check(GOOD)
    assert (status, err) == (0, "")
    heading, encoder, decoder, last = out.splitlines()
    assert heading.split("  ")[0] == "component"
    assert encoder.split() == ["encoder", "warm", "ScheduledSGD", "0", "0.001", "1,000"]
    assert decoder.split() == ["decoder", "plain", "SGD", "0.1"]
    assert last == "config.yaml: fine"


def test_every_problem_is_reported_at_once_with_file_line_path_and_nearest_spelling(check: Check) -> None:
    text = """\
        model:
          component_optims:
            encoder:
              type: warm
              params:
                peak_lrr: 1e-3
                total_steps: many
                warmup_steps: 10
            decoder:
              tpe: plain
            head:
              type: plian
              params: {lr: 3}
            tail:
              type: warm
              params: {peak_lr: 0, total_steps: 10, warmup_steps: 20}
        """
    status, out, err = check(text)
    assert (status, err) == (1, "")
    *lines, last = out.splitlines()
    path = "model.component_optims"
    assert [line.partition(". Known")[0] for line in lines] == [
        f"config.yaml:5: error: {path}.encoder.params.peak_lr: required, but not given",
        f"config.yaml:6: error: {path}.encoder.params.peak_lrr: no such argument. Did you mean 'peak_lr'?",
        f"config.yaml:7: error: {path}.encoder.params.total_steps = 'many': must be a valid integer, unable to parse "
        "string as an integer",
        f"config.yaml:9: error: {path}.decoder.type: required, but not given. It names the optimizer",
        f"config.yaml:10: error: {path}.decoder.tpe: no such key. Did you mean 'type'?",
        f"config.yaml:12: error: {path}.head.type: no optimizer is known as 'plian'; did you mean 'plain'? "
        f"{lines[5].partition('? ')[2].partition('. Known')[0]}",
        f"config.yaml:16: error: {path}.tail.params.peak_lr = 0: must be greater than 0",
        f"config.yaml:16: error: {path}.tail.params.warmup_steps = 20: must be less than total_steps "
        "(total_steps = 10)",
    ]
    assert last == "config.yaml: 8 problems"


def test_problems_as_json_have_their_places(check: Check) -> None:
    status, out, _ = check(GOOD.replace("plain", "plian"), "--json")
    document = json.loads(out)
    assert (status, document["ok"], document["configuration"]) == (1, False, "config.yaml")
    (problem,) = document["problems"]
    assert (problem["line"], problem["path"]) == (7, "model.component_optims.decoder.type")
    assert [component["component"] for component in document["components"]] == ["encoder"]


def test_what_shows_only_when_the_optimizer_is_built_is_a_problem_too(check: Check) -> None:
    text = "encoder: {type: warm, params: {peak_lr: 1, total_steps: 9, warmup_steps: 1, nesterov: true}}"
    with pytest.raises(ValueError, match=r"(?i)nesterov") as theirs:
        torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1, nesterov=True)
    status, out, _ = check(text)
    assert status == 1
    expected = f"config.yaml:1: error: encoder.params: the optimizer can't be built: ValueError: {theirs.value}"
    assert out.splitlines()[0] == expected


def test_a_build_that_would_end_python_is_a_problem(check: Check, distribution: Install) -> None:
    leaving = """
        class Factory:
            def build(self, params):
                raise SystemExit(0)
    """
    distribution("optim-leaving", factories={"leaving": "leaving:Factory"}, modules={"leaving": leaving})
    status, out, _ = check("encoder: {type: leaving}")
    assert status == 1
    assert "the optimizer can't be built: RuntimeError: build() ends Python: SystemExit(0)" in out


FAILING = """
from dataclasses import dataclass
from optim_core import Note, ScheduledOptimizer
import torch

class Scheduled(ScheduledOptimizer, torch.optim.SGD):
    pass

@dataclass(frozen=True)
class Shape:
    peak_lr: float = 1.0
    total_steps: int = 10
    def options_at(self, step, peak_lr):
        return {"lr": 1.0 / (9 - step)}

class Curved:
    def build(self, params):
        return Scheduled(params, schedule=Shape())

class Noted:
    NOTES = (Note(("lr",), lambda: True, "has a note that takes nothing"),)
    def __init__(self, lr: float = 1.0): ...
    def build(self, params):
        return torch.optim.SGD(params)
"""


def test_a_schedule_or_a_note_that_fails_is_one_problem_of_many(check: Check, distribution: Install) -> None:
    keys = {"curved": "failing:Curved", "noted": "failing:Noted"}
    distribution("optim-failing", factories=keys, modules={"failing": FAILING})
    status, out, _ = check("a: {type: curved}\nb: {type: noted, params: {lr: 1.0}}\nc: {type: plian}\n")
    assert status == 1
    lines = out.splitlines()
    assert "a.type: its schedule or its notes fail: ZeroDivisionError" in lines[0]
    assert "b.type: its schedule or its notes fail: TypeError" in lines[1]
    assert "c.type: no optimizer is known as 'plian'" in lines[2]


def test_only_the_plugins_of_the_configuration_are_imported(distribution: Install, folder: Path, optim: Run) -> None:
    modules = {"plugin": PLUGIN, "hanging": "import time\ntime.sleep(600)"}
    distribution("optim-plugin", factories={"plain": "plugin:Plain", "hang": "hanging:F"}, modules=modules)
    (folder / "config.yaml").write_text("encoder: {type: plain}")
    assert optim("check", "config.yaml").returncode == 0
