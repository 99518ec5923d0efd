"""`optim check` of rules for parameter groups: which parameter is in which group, and what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools_support.checked_configurations import Check

Install = Callable[..., Path]


RULED = """\
    model:
      component_optims:
        encoder:
          type: warm
          params: {peak_lr: 1e-3, total_steps: 1000, warmup_steps: 100}
          param_groups:
            - match: "[w]eight"
              lr_scale: 0.5
            - {match: bias, freeze: true}
        decoder:
          type: plain
          param_groups: no_weight_decay
    """
WHOLE = """
import torch

def build():
    return torch.nn.ModuleDict({"encoder": torch.nn.Linear(30, 40), "decoder": torch.nn.Linear(40, 2)})
"""


@pytest.fixture
def _whole_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "wholemodel.py").write_text(WHOLE)
    monkeypatch.delitem(sys.modules, "wholemodel", raising=False)


def cells(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


@pytest.mark.usefixtures("_whole_model")
def test_a_model_shows_which_parameters_are_in_which_group(check: Check) -> None:
    status, out, err = check(RULED, "--model", "wholemodel:build")
    assert (status, err) == (0, "")
    _, *table = out.partition("\n\n")[2].splitlines()
    assert cells(out.partition("\n\n")[2].splitlines()[:1]) == [
        ["component", "group", "rule", "tensors", "parameters", "peak lr", "weight decay"]
    ]
    assert cells(table[:-1]) == [
        ["encoder", "0", "match bias", "1", "40", "frozen", "0"],
        ["encoder", "1", "match [w]eight", "1", "1,200", "0.0005", "0"],
        ["decoder", "0", "(base)", "1", "80", "0.1", "0"],
        ["decoder", "0", "no_weight_decay", "1", "2", "0.1", "0"],
    ]


@pytest.mark.usefixtures("_whole_model")
def test_verbose_shows_every_parameter_by_name(check: Check) -> None:
    _, out, _ = check(RULED, "--model", "wholemodel:build", "--verbose")
    assert cells(out.partition("\n\n")[2].splitlines()[:-1]) == [
        ["component", "group", "rule", "parameter", "shape", "peak lr", "weight decay"],
        ["encoder", "0", "match bias", "bias", "40", "frozen", "0"],
        ["encoder", "1", "match [w]eight", "weight", "40x30", "0.0005", "0"],
        ["decoder", "0", "(base)", "weight", "2x40", "0.1", "0"],
        ["decoder", "0", "no_weight_decay", "bias", "2", "0.1", "0"],
    ]


@pytest.mark.usefixtures("_whole_model")
def test_groups_as_json(check: Check) -> None:
    _, out, _ = check(RULED, "--model", "wholemodel:build", "--json")
    frozen, scaled, *others = json.loads(out)["model"]["groups"]
    assert scaled == {
        "component": "encoder",
        "group": 1,
        "rule": "match [w]eight",
        "trainable": True,
        "tensors": 1,
        "parameters": 1200,
        "peak_lr": 0.0005,
        "weight_decay": 0.0,
        "names": ["weight"],
        "shapes": [[40, 30]],
    }
    assert (frozen["trainable"], frozen["names"]) == (False, ["bias"])
    assert [(other["component"], other["group"], other["rule"], other["names"]) for other in others] == [
        ("decoder", 0, "(base)", ["weight"]),
        ("decoder", 0, "no_weight_decay", ["bias"]),
    ]


FAULTY = """\
    encoder:
      type: warm
      params: {peak_lr: 1e-3, total_steps: 1000, warmup_steps: 100}
      param_groups:
        - match: "(weight"
        - match: weight
          momentun: 0.5
        - no_weigth_decay
        - match: bias
          lr: -1
    """


def test_rules_are_checked_without_a_model(check: Check) -> None:
    status, out, _ = check(FAULTY)
    assert status == 1
    assert [line.partition(": error: ")[::2] for line in out.splitlines()[:-1]] == [
        (
            "config.yaml:5",
            "encoder.param_groups[0].match = '(weight': is no regular expression: missing ), unterminated subpattern "
            "at position 0. In it, ( [ { * + ? . ^ $ | and \\ have a meaning; a backslash before one takes it away",
        ),
        (
            "config.yaml:7",
            "encoder.param_groups[1].momentun: the optimizer's groups have no such option. Did you mean 'momentum'?",
        ),
        (
            "config.yaml:8",
            "encoder.param_groups[2]: no policy is called 'no_weigth_decay'. Did you mean 'no_weight_decay'? The "
            "policies are layer_decay, no_weight_decay; a rule has 'match', 'ndim' or 'type'",
        ),
        ("config.yaml:10", "encoder.param_groups[3].lr = -1: must be a finite number, zero or more"),
    ]


@pytest.mark.usefixtures("_whole_model")
def test_a_rule_that_matches_nothing_needs_a_model_to_be_found_out(check: Check) -> None:
    text = "encoder:\n  type: plain\n  param_groups:\n    - match: wieght\ndecoder: {type: plain}\n"
    assert check(text)[0] == 0
    status, out, _ = check(text, "--model", "wholemodel:build")
    assert status == 1
    assert out.splitlines()[0] == (
        "config.yaml:4: error: encoder.param_groups[0].match = 'wieght': is found in no parameter's name. "
        "Did you mean 'weight'?"
    )


PARTING = """
import torch

class Factory:
    def build(self, params):
        params = list(params)
        made = []
        for group in params if isinstance(params[0], dict) else [{"params": params}]:
            for n in (1, 2):
                found = [p for p in group["params"] if p.ndim == n]
                made += [{f"of_{n}": 0, **group, "params": found}] if found else []
        return torch.optim.SGD(made, lr=0.1)
"""


@pytest.mark.parametrize("model", [(), ("--model", "wholemodel:build")])
@pytest.mark.usefixtures("_whole_model")
def test_an_option_of_one_dimension_only_is_no_fault(check: Check, distribution: Install, model: Any) -> None:
    distribution("optim-parting", factories={"parting": "parting:Factory"}, modules={"parting": PARTING})
    text = "encoder: {type: parting, param_groups: [{match: bias, of_1: 5}]}\ndecoder: {type: plain}\n"
    status, out, _ = check(text, *model)
    assert (status, out.splitlines()[-1]) == (0, "config.yaml: fine")


@pytest.mark.parametrize("model", [(), ("--model", "wholemodel:build")])
@pytest.mark.usefixtures("_whole_model")
def test_a_number_too_large_is_a_problem_with_its_line(check: Check, model: Any) -> None:
    text = f"encoder:\n  type: plain\n  param_groups:\n    - match: bias\n      lr_scale: 1{'0' * 400}\n"
    status, out, _ = check(text + "decoder: {type: plain}\n", *model)
    assert status == 1
    assert out.startswith("config.yaml:5: error: encoder.param_groups[0].lr_scale")


@pytest.mark.usefixtures("_whole_model")
def test_overlapping_components_are_a_problem_with_both_names(check: Check) -> None:
    text = "encoder: {type: plain}\n'': {type: plain}\n"
    status, out, _ = check(text, "--model", "wholemodel:build")
    assert status == 1, out
