"""`optim check`: every problem with its place, notes, who owns what, and files that can't be read."""

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
import torch

from optim_tools.command.application import optim as group

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., Path]

PLUGIN = '''
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar
import torch
from annotated_types import Gt
from optim_core import Note, ScheduledOptimizer, WarmupCosine

class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    pass

@dataclass
class Warm:
    """SGD with warmup."""
    NOTES: ClassVar = (
        *WarmupCosine.NOTES,
        Note(("momentum", "nesterov"), lambda m, n: n and m > 0.9, "is high for nesterov"),
    )
    RULES: ClassVar = WarmupCosine.RULES
    peak_lr: Annotated[float, Gt(0)]
    total_steps: int
    warmup_steps: int = 0
    start_lr: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False

    def build(self, params):
        shape = {k: v for k, v in asdict(self).items() if k not in ("momentum", "nesterov")}
        options = {"momentum": self.momentum, "nesterov": self.nesterov}
        return ScheduledSGD(params, schedule=WarmupCosine(**shape), **options)

@dataclass
class Plain:
    """SGD as it is."""
    lr: float = 0.1

    def build(self, params):
        return torch.optim.SGD(params, lr=self.lr)
'''
MODEL = """
import torch
print("building")

def build():
    model = torch.nn.Module()
    model.encoder = torch.nn.Linear(3, 4)
    model.decoder = torch.nn.Linear(4, 2, bias=False)
    model.frozen = torch.nn.Linear(5, 5).requires_grad_(False)
    model.extra = torch.nn.Linear(10, 10)
    model.encoder.bias.requires_grad_(False)
    return model

def parts():
    return {"encoder": torch.nn.Linear(3, 4)}

module = torch.nn.ModuleDict({"encoder": torch.nn.Linear(3, 4)})
number = 3

def raising():
    raise RuntimeError("no weights\\non this machine")

def of(size): ...
"""


@pytest.fixture
def check(
    distribution: Install, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Writes a configuration and checks it in this process; gives status, standard output and error."""
    distribution("optim-plugin", factories={"warm": "plugin:Warm", "plain": "plugin:Plain"}, modules={"plugin": PLUGIN})
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", ["", *sys.path])

    def run(text: str | bytes, *options: str) -> tuple[int, str, str]:
        content = dedent(text).encode() if isinstance(text, str) else text
        (folder / "config.yaml").write_bytes(content)
        with pytest.raises(SystemExit) as ended:
            group.main(["check", "config.yaml", *options], "optim")
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


Check = Callable[..., tuple[int, str, str]]
GOOD = """\
    model:
      component_optims:
        encoder:
          type: warm
          params: {peak_lr: 1e-3, total_steps: 1000, warmup_steps: 100}
        decoder:
          type: plain
    """


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


def notes(out: str) -> list[str]:
    return [line for line in out.splitlines() if ": note: " in line]


def test_notes_say_what_is_surprising_and_change_no_status(check: Check) -> None:
    text = """\
        encoder:
          type: warm
          params:
            peak_lr: 1e-3
            total_steps: 100
            start_lr: 1e-5
            warmup_steps: 0
            momentum: 0.95
            nesterov: true
        decoder:
          type: warm
          params: {peak_lr: 1e-3, total_steps: 5000, warmup_steps: 100}
        """
    status, out, _ = check(text)
    assert status == 0
    assert notes(out) == [
        "config.yaml:5: note: encoder.params.total_steps: its horizon of 100 updates ends before the warmup of "
        "'decoder' (100 updates) does",
        "config.yaml:6: note: encoder.params.start_lr = 1e-05: is not used without a warmup",
        "config.yaml:7: note: encoder.params.warmup_steps: no warmup: the first update already has the highest rate, "
        "0.001",
        "config.yaml:8: note: encoder.params.momentum = 0.95: is high for nesterov",
    ]
    assert out.splitlines()[-1] == "config.yaml: fine, 4 notes"


def test_a_warmup_that_is_left_out_is_noted_at_the_params(check: Check) -> None:
    status, out, _ = check("encoder:\n  type: warm\n  params:\n    peak_lr: 0.5\n    total_steps: 9\n")
    assert status == 0
    assert notes(out) == [
        "config.yaml:3: note: encoder.params: no warmup: the first update already has the highest rate, 0.5"
    ]


def test_a_horizon_as_long_as_the_others_warmup_needs_no_note(check: Check) -> None:
    text = """\
        encoder: {type: warm, params: {peak_lr: 1, total_steps: 101, warmup_steps: 10}}
        decoder: {type: warm, params: {peak_lr: 1, total_steps: 5000, warmup_steps: 100}}
        """
    assert notes(check(text)[1]) == []


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


def test_a_note_stands_at_the_argument_that_it_is_about(check: Check, distribution: Install) -> None:
    source = PLUGIN.replace("total_steps: int\n", "total_steps: int\n    epochs: int = 1\n    last_epoch: int = -1\n")
    source = source.replace(
        "return ScheduledSGD(params, ", "return ScheduledSGD(params, initial_step=self.last_epoch + 1, "
    ).replace('k not in ("momentum", "nesterov")', 'k not in ("momentum", "nesterov", "epochs", "last_epoch")')
    distribution("optim-late", factories={"late": "late:Warm"}, modules={"late": source})
    text = """\
        encoder:
          type: late
          params:
            peak_lr: 1.0
            total_steps: 9
            warmup_steps: 2
            epochs: 3
            last_epoch: 30
        """
    assert notes(check(text)[1]) == [
        "config.yaml:8: note: encoder.params.last_epoch: starts at update 31, past its horizon of 9: its rate never "
        "moves"
    ]


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


@pytest.fixture
def model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mymodel.py").write_text(MODEL)
    monkeypatch.delitem(sys.modules, "mymodel", raising=False)


WITH_FROZEN = GOOD.rstrip() + "\n        frozen:\n          type: plain\n"


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


MISPLACED = {
    "modle:\n  component_optims: {a: {type: plain}}": "config.yaml:2: modle.component_optims: ",
    "component_optims: {a: {type: plain}}": "config.yaml:1: component_optims: ",
    "Model:\n  Component_Optims: {a: {type: plain}}": "config.yaml:2: Model.Component_Optims: ",
    "cfg:\n  model:\n    component_optims: {a: {type: plain}}": "config.yaml:3: cfg.model.component_optims: ",
}


@pytest.mark.parametrize(("text", "place"), MISPLACED.items())
def test_components_in_the_wrong_place_are_found_and_named(check: Check, text: str, place: str) -> None:
    status, _, err = check(text)
    assert status == 1
    assert f"optim: error: {place}the components are looked for under 'model.component_optims', or at the top" in err


def test_a_peak_that_is_never_reached_is_noted(check: Check) -> None:
    _, out, _ = check("encoder: {type: warm, params: {peak_lr: 1.0, total_steps: 1}}")
    assert "its rate never comes near its peak of 1: the highest is 0" in out


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


UNREADABLE: dict[str, tuple[str | bytes, str]] = {
    "no YAML": ("model: [unclosed\nfoo: {", "config.yaml:2: is no valid YAML: expected ',' or ']'"),
    "a key twice": ("a: {type: x}\na: {type: y}", "config.yaml:2: is no valid YAML: key 'a' stands twice"),
    "tabs": ("model:\n\tcomponent_optims:\n", "config.yaml:2: is no valid YAML: found character '\\t'"),
    "a list": ("- a\n- b\n", "config.yaml: the document: must be a mapping, not a list"),
    "empty": ("", "config.yaml: the document: is empty. Write the components under model.component_optims"),
    "a comment only": ("# nothing\n", "config.yaml: the document: is empty"),
    "binary": (bytes(range(256)), "config.yaml: the file: is not UTF-8 text"),
    "Latin-1": ("model: café".encode("latin-1"), "config.yaml: the file: is not UTF-8 text (byte 10"),
    "a null byte": (b"a: \x00", "config.yaml:1: is no valid YAML: the character #x0000 is not allowed"),
    "two documents": ("a: 1\n---\nb: 2\n", "expected a single document in the stream, but found another document"),
    "no components": ("model:\n  component_optims:\n", "config.yaml:2: model.component_optims: is empty"),
    "misspelt": ("model:\n  component_optim: {}", "Did you mean 'component_optim' to be 'component_optims'?"),
    "an object": ("a: !!python/object:os.system {}", "could not determine a constructor for the tag"),
}


@pytest.mark.parametrize(("text", "says"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_can_t_be_read_is_one_clear_line(check: Check, text: str | bytes, says: str) -> None:
    status, out, err = check(text)
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("optim: error: config.yaml")
    assert says in line

    status, out, err = check(text, "--json")
    assert (status, err) == (1, "")
    (problem,) = json.loads(out)["problems"]
    assert problem["message"] in line


def test_a_file_that_is_not_there_is_wrong_usage_and_a_near_one_is_named(folder: Path, optim: Run) -> None:
    (folder / "configs.yaml").write_text("a: {type: b}")
    result = optim("check", "config.yaml")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "optim: error: config.yaml: there is no such file. Did you mean 'configs.yaml'?\n"
    assert optim("check", "there/is/none.yaml").returncode == 2
    assert "Is a directory" in optim("check", ".").stderr


def test_the_real_command_checks_with_a_model_of_the_current_folder(
    distribution: Install, folder: Path, optim: Run
) -> None:
    distribution("optim-plugin", factories={"warm": "plugin:Warm", "plain": "plugin:Plain"}, modules={"plugin": PLUGIN})
    (folder / "mymodel.py").write_text(MODEL)
    (folder / "config.yaml").write_text(dedent(WITH_FROZEN))
    result = optim("check", "config.yaml", "--model", "mymodel:build")
    assert (result.returncode, result.stderr) == (0, "building\n")
    assert result.stdout.splitlines()[-1] == "config.yaml: fine, 2 notes"


def test_only_the_plugins_of_the_configuration_are_imported(distribution: Install, folder: Path, optim: Run) -> None:
    modules = {"plugin": PLUGIN, "hanging": "import time\ntime.sleep(600)"}
    distribution("optim-plugin", factories={"plain": "plugin:Plain", "hang": "hanging:F"}, modules=modules)
    (folder / "config.yaml").write_text("encoder: {type: plain}")
    assert optim("check", "config.yaml").returncode == 0


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
