"""`optim schema`: for one key, and for a configuration with everything that is installed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pydantic.fields  # noqa: F401 - before the folders of what is installed are taken away
import pytest
from jsonschema import Draft202012Validator

from optim_tools.command.failures import CommandError
from optim_tools.command.print_schema import print_schema

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., Path]

ANIMALS = '''
from typing import Annotated
from pydantic import Field

class Lion:
    """The sign of a momentum."""
    def __init__(self, lr: Annotated[float, Field(gt=0)]): ...
    def build(self, params): ...

class Tiger:
    def __init__(self, lr: float = 0.1): ...
    def build(self, params): ...
'''


@pytest.fixture
def animals(distribution: Install, only_fake_distributions: None) -> None:
    distribution(
        "optim-animals",
        "1.5",
        factories={"lion": "animals:Lion", "tiger": "animals:Tiger"},
        modules={"animals": ANIMALS},
    )


@pytest.mark.usefixtures("animals")
def test_schema_of_a_key_is_that_of_its_params() -> None:
    schema = print_schema("lion", timeout=60).document()

    assert schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "params of lion",
        "description": "The sign of a momentum.",
        "type": "object",
        "properties": {"lr": {"type": "number", "exclusiveMinimum": 0}},
        "required": ["lr"],
        "additionalProperties": False,
    }


@pytest.mark.usefixtures("animals")
def test_schema_of_a_configuration_has_every_key() -> None:
    report = print_schema(None, timeout=60)

    schema = dict(report.document())
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    kinds = schema["$defs"]["Component"]["properties"]["type"]
    assert report.status == 0
    assert (schema["$schema"], schema["title"]) == (
        "https://json-schema.org/draft/2020-12/schema",
        "optim configuration",
    )
    assert kinds["enum"] == ["lion", "tiger"]
    assert kinds["enumDescriptions"] == ["The sign of a momentum. (optim-animals 1.5)", "(optim-animals 1.5)"]
    assert check.is_valid({"model": {"component_optims": {"a": {"type": "lion", "params": {"lr": 1}}}}})
    assert check.is_valid({"a": {"type": "tiger"}})
    assert not check.is_valid({"a": {"type": "lion"}})
    assert not check.is_valid({"a": {"type": "tiger", "params": {"rate": 1}}})


@pytest.mark.usefixtures("animals")
def test_command_prints_json_and_nothing_else(optim: Run) -> None:
    result = optim("schema", "tiger")

    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["title"] == "params of tiger"


@pytest.mark.slow
@pytest.mark.usefixtures("animals")
def test_what_cannot_be_loaded_is_left_out_with_a_warning(distribution: Install, optim: Run) -> None:
    distribution(
        "optim-broken", "0.1", factories={"broken": "broken:Factory"}, modules={"broken": "raise OSError('no')"}
    )

    result = optim("schema")

    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "optim: warning: 'broken' from optim-broken 0.1 (broken:Factory) is left out: OSError: no"
    ]
    keys = json.loads(result.stdout)["$defs"]["Component"]["properties"]["type"]["enum"]
    assert {"lion", "tiger"} <= set(keys)
    assert "broken" not in keys


@pytest.mark.usefixtures("animals")
def test_a_contested_key_is_left_out_with_a_warning(distribution: Install, capsys: pytest.CaptureFixture[str]) -> None:
    distribution("optim-other", "2.0", factories={"lion": "animals:Lion"})

    report = print_schema(None, timeout=60)

    assert capsys.readouterr().err == (
        "optim: warning: 'lion' is left out: it is claimed by "
        "optim-animals 1.5 (animals:Lion) and optim-other 2.0 (animals:Lion)\n"
    )
    assert report.status == 1
    assert report.document()["$defs"]["Component"]["properties"]["type"]["enum"] == ["tiger"]


@pytest.mark.usefixtures("animals")
def test_a_disabled_distribution_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "optim-animals")

    schema = dict(print_schema(None, timeout=60).document())

    Draft202012Validator.check_schema(schema)
    assert not Draft202012Validator(schema).is_valid({"a": {"type": "tiger"}})
    assert "no optimizer is installed" in capsys.readouterr().err


@pytest.mark.usefixtures("animals")
def test_a_key_that_nobody_provides_is_wrong_usage() -> None:
    with pytest.raises(CommandError, match="no optimizer is known as 'loin'; did you mean 'lion'") as caught:
        print_schema("loin", timeout=60)

    assert caught.value.status == 2
