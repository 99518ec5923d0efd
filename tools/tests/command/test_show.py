"""`optim show`: what a key is, its parameters, and YAML that works as pasted."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
import yaml
from rich.console import Console

from optim_core.arguments.number_types import Beta, PeakLearningRate, StepCount, Steps
from optim_core.arguments.validation import Rule
from optim_core.building.component_factories import component_factories
from optim_core.configuration.reading import read_configuration
from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY
from optim_tools.command.failures import CommandError
from optim_tools.command.show_key import show_key

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., Path]

LION = '''
from typing import Annotated
from pydantic import Field

class Lion:
    """The sign of a momentum.

    Chen et al.
    2023.

    Args:
        lr: the step size.
        betas: both momenta, which is more than fits into one line of a narrow terminal.
    """

    def __init__(self, *, betas: tuple[float, float] = (0.9, 0.99), lr: Annotated[float, Field(gt=0)]): ...

    def build(self, params):
        from torch.optim import SGD

        return SGD(params)
'''


@pytest.fixture
def lion(distribution: Install) -> None:
    distribution("optim-lion", "3.2", factories={"lion": "lion:Lion"}, modules={"lion": LION})


def build(self: object, params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params)


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """A warmup.

    Args:
        mode: the curve.
        steps: horizon.
    """

    RULES: ClassVar[tuple[Rule, ...]] = (Rule(("warmup", "steps"), lambda w, s: w < s, "must be less than steps"),)

    mode: Literal["cos", "linear"] = "cos"
    steps: StepCount
    peak_lr: PeakLearningRate
    warmup: Steps = 0
    betas: tuple[Beta, Beta] = (0.9, 0.999)

    build = build


def registered(target: type, key: str = "mine") -> str:
    OPTIMIZER_BUILDER_REGISTRY.register(key, target)
    return key


def text_of(key: str, *, width: int = 100, only_yaml: bool = False) -> str:
    stream = io.StringIO()
    show_key(key, only_yaml=only_yaml).render(Console(file=stream, width=width, highlight=False, markup=False))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def test_everything_about_a_key_is_shown_and_the_yaml_is_flush_left() -> None:
    registered(Warmup)

    assert (
        text_of("mine")
        == f"""\
mine
A warmup.
From {__name__}:Warmup (registered in this process)

Parameters
name     type            default       constraint      meaning
steps    int             required      >= 1            horizon.
peak_lr  float           required      > 0
mode     cos | linear    cos                           the curve.
warmup   int             0             >= 0
betas    [float, float]  [0.9, 0.999]  >= 0, < 1 each

Rules
  warmup must be less than steps

YAML to paste
model:
  component_optims:
    my_component: # the component's name
      type: mine
      params:
        steps: 1000
        peak_lr: 0.001

Next: optim check config.yaml, or optim plot mine steps=1000 peak_lr=0.001
"""
    )


def test_on_a_narrow_terminal_parameters_stand_below_each_other() -> None:
    registered(Warmup)

    text = text_of("mine", width=40)

    assert (
        """
Parameters
steps (required)
    int, >= 1
    horizon.
peak_lr (required)
    float, > 0
mode (default cos)
    cos | linear
    the curve.
"""
        in text
    )
    described = text.partition("Next:")[0]
    assert max(map(len, described.splitlines())) <= 40
    assert text.partition("paste\n")[2] == text_of("mine").partition("paste\n")[2]


@pytest.mark.usefixtures("lion")
def test_command_shows_provider_details_and_table_on_whole_lines_when_piped(optim: Run) -> None:
    result = optim("show", "lion", module=True)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(
        "lion\nThe sign of a momentum.\nFrom optim-lion 3.2 (lion:Lion)\n\nChen et al. 2023.\n\nParameters\n"
    )
    rows = [line.split("  ")[0] for line in result.stdout.splitlines() if "required" in line or "[0.9, 0.99]" in line]
    assert rows == ["lr", "betas"]
    assert "both momenta, which is more than fits into one line of a narrow terminal.\n" in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stdout == "".join(f"{line.rstrip()}\n" for line in result.stdout.splitlines())


@pytest.mark.usefixtures("lion")
def test_command_respects_a_narrow_terminal(optim: Run) -> None:
    lines = optim("show", "lion", COLUMNS="40").stdout.partition("\nNext:")[0].splitlines()

    assert "lr (required)" in lines
    assert max(map(len, lines)) <= 40


@pytest.mark.usefixtures("lion")
def test_json_has_everything(optim: Run) -> None:
    result = optim("show", "lion", "--json")

    document = json.loads(result.stdout)
    snippet = document.pop("yaml")
    assert (result.returncode, result.stderr) == (0, "")
    assert document == {
        "key": "lion",
        "distribution": "optim-lion",
        "version": "3.2",
        "value": "lion:Lion",
        "summary": "The sign of a momentum.",
        "details": "Chen et al.\n2023.",
        "parameters": [
            {
                "name": "betas",
                "type": "[float, float]",
                "default": [0.9, 0.99],
                "required": False,
                "constraint": "",
                "meaning": "both momenta, which is more than fits into one line of a narrow terminal.",
            },
            {
                "name": "lr",
                "type": "float",
                "default": None,
                "required": True,
                "constraint": "> 0",
                "meaning": "the step size.",
            },
        ],
        "rules": [],
        "example_params": {"lr": 0.001},
    }
    assert yaml.safe_load(snippet)["model"]["component_optims"]["my_component"]["params"] == {"lr": 0.001}


@pytest.mark.usefixtures("lion")
def test_yaml_alone_is_a_whole_configuration(optim: Run, folder: Path) -> None:
    result = optim("show", "lion", "--yaml")
    (folder / "config.yaml").write_text(result.stdout)

    assert (result.returncode, result.stderr) == (0, "")
    assert optim("check", "config.yaml").returncode == 0


class Plain:
    def __init__(self, lr, momentum=0.9): ...  # type: ignore[no-untyped-def]

    build = build


class Nothing:
    """Takes nothing."""

    build = build


@pytest.mark.parametrize("target", [Warmup, Plain, Nothing])
@pytest.mark.parametrize("key", ["mine", "1e5", "1.5", "no"])
def test_yaml_works_as_pasted(target: type, key: str, tmp_path: Path) -> None:
    registered(target, key)
    file = tmp_path / "config.yaml"
    file.write_text(text_of(key, only_yaml=True), encoding="utf-8")
    configuration = read_configuration(file)

    assert component_factories(configuration, OPTIMIZER_BUILDER_REGISTRY).problems == {}
    assert configuration.problems == ()
    assert list(configuration.specs) == ["my_component"]
    assert yaml.safe_load(file.read_text())["model"]["component_optims"]["my_component"]["type"] == key


def test_a_factory_without_docstring_and_annotations_is_shown() -> None:
    registered(Plain)

    assert text_of("mine").startswith(
        f"mine\n(Its factory has no docstring.)\nFrom {__name__}:Plain (registered in this process)\n\nParameters\n"
        "name      type  default\nlr        any   required\nmomentum  any   0.9\n\nYAML"
    )


def test_a_factory_without_parameters_is_shown() -> None:
    registered(Nothing)

    assert "\nIt takes no parameters.\n" in text_of("mine")


def test_where_no_example_is_known_the_yaml_says_what_to_fill_in() -> None:
    class Unknown:
        def __init__(self, lr: PeakLearningRate, backend: str, **rest: Any) -> None: ...

        build = build

    registered(Unknown)
    document = show_key("mine", only_yaml=False).document()

    assert document["example_params"] is None
    assert document["yaml"].endswith("""\
      params:
        # Give these a value; no values are known that work:
        # lr: # float, > 0
        # backend: # str
""")
    assert yaml.safe_load(document["yaml"])["model"]["component_optims"]["my_component"]["params"] is None
    assert "It takes any other parameter too, unchecked." in text_of("mine")
    assert text_of("mine").endswith("Next: optim check config.yaml\n")


def test_where_the_constructor_fails_the_yaml_says_so() -> None:
    class Failing:
        def __init__(self, lr: float = 0.1) -> None:
            raise RuntimeError("needs\na GPU")

        build = build

    class Unbuildable:
        def build(self, params: Any) -> None: ...

    registered(Failing)
    registered(Unbuildable, "unbuildable")

    assert show_key("mine", only_yaml=True).yaml.endswith(
        "        # No params are known that work. Without any, it says:\n        # RuntimeError: needs a GPU\n"
    )
    assert "# TypeError: build() returned a NoneType" in show_key("unbuildable", only_yaml=True).yaml


def test_values_that_json_cannot_hold_are_text() -> None:
    class Clipping:
        example_params: ClassVar = {"clip": float("inf")}

        def __init__(self, clip: float = float("inf")) -> None: ...

        build = build

    registered(Clipping)
    document = show_key("mine", only_yaml=False).document()

    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["example_params"] == {"clip": ".inf"}
    assert document["parameters"][0]["default"] == ".inf"
    assert (document["distribution"], document["version"]) == (None, None)


def test_what_replaces_an_installed_key_is_shown_in_its_place(distribution: Install) -> None:
    distribution("optim-lion", factories={"lion": "lion:Lion"}, modules={"lion": LION})
    OPTIMIZER_BUILDER_REGISTRY.register("lion", Nothing, replace=True)

    assert show_key("lion", only_yaml=False).document()["value"] == f"{__name__}:Nothing"


def failure(key: str) -> tuple[str, int]:
    with pytest.raises(CommandError) as caught:
        show_key(key, only_yaml=False)
    assert "\n" not in caught.value.message
    return caught.value.message, caught.value.status


@pytest.mark.usefixtures("only_fake_distributions", "lion")
def test_a_key_that_nobody_provides_is_wrong_usage(optim: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure("lino") == ("no optimizer is known as 'lino'; did you mean 'lion'?", 2)
    assert failure("zebra") == ("no optimizer is known as 'zebra'; `optim list` has those that are", 2)
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "optim-lion")
    OPTIMIZER_BUILDER_REGISTRY.refresh()
    message, status = failure("lion")
    assert (message.partition(":")[0], status) == ("no optimizer is known as 'lion'", 2)
    assert "disabled" in message


@pytest.mark.usefixtures("lion")
def test_a_wrong_key_is_one_line_and_what_is_known(optim: Run) -> None:
    result = optim("show", "lino")

    first, second = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (2, "")
    assert first == "optim: error: no optimizer is known as 'lino'; did you mean 'lion'?"
    assert second.startswith("Known: ")


BROKEN = """
class NoBuild: ...
class Positional:
    def __init__(self, lr, /): ...
    def build(self, params): ...
class Unreadable:
    __signature__ = "nonsense"
    def build(self, params): ...
raise_here = None
"""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("broken:NoBuild", "no method 'build'"),
        ("broken:raise_here", "is not a class"),
        ("broken:missing", "can't be imported: AttributeError"),
        ("absent_module:Factory", "can't be imported: ModuleNotFoundError"),
        ("broken:Positional", "takes lr by position only"),
        ("broken:Unreadable", "can't be described"),
    ],
)
def test_a_factory_that_cannot_be_used_is_one_line(value: str, said: str, distribution: Install) -> None:
    distribution("optim-broken", factories={"broken": value}, modules={"broken": BROKEN})

    message, status = failure("broken")

    assert said in message
    assert status == 1


def test_a_contested_key_names_both_claimants(distribution: Install) -> None:
    for name in ("optim-one", "optim-two"):
        distribution(name, factories={"lion": f"{name.replace('-', '_')}:Lion"})

    message, status = failure("lion")

    assert "optim-one" in message
    assert "optim-two" in message
    assert status == 1
