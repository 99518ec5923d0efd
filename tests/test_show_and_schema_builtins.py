"""`optim show` and `optim schema` with the built-in plugins installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from optim_core import OPTIMIZER_BUILDER_REGISTRY
from optim_core.building.component_factories import component_factories
from optim_core.configuration.reading import read_configuration
from optim_tools.command.show_key import show_key
from optim_tools.inspection.description import describe
from optim_tools.inspection.json_schema import configuration_schema, factory_schema

ROOT = Path(__file__).parents[1]
BUILT_INS = ["adamw_cosine_schedule", "adamw_warmup_cosine_decay", "schedule_free_radam"]


def optim(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "optim_tools", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator(
        configuration_schema({key: factory_schema(OPTIMIZER_BUILDER_REGISTRY[key]) for key in BUILT_INS})
    )


@pytest.mark.parametrize("key", BUILT_INS)
def test_yaml_of_a_built_in_works_as_pasted(key: str, tmp_path: Path, schema: Draft202012Validator) -> None:
    shown = show_key(key, only_yaml=True)
    file = tmp_path / "config.yaml"
    file.write_text(shown.yaml, encoding="utf-8")
    configuration = read_configuration(file)
    factories = component_factories(configuration, OPTIMIZER_BUILDER_REGISTRY)

    assert (configuration.problems, factories.problems) == ((), {})
    assert list(factories.factories) == ["my_component"]
    assert schema.is_valid(yaml.safe_load(shown.yaml))


@pytest.mark.parametrize("key", BUILT_INS)
def test_every_parameter_of_a_built_in_is_described(key: str) -> None:
    described = describe(OPTIMIZER_BUILDER_REGISTRY[key])

    assert described.summary
    assert [a.name for a in described.arguments if not a.meaning or not a.type] == []


def test_configurations_that_are_right_fit_the_schema(schema: Draft202012Validator) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    configurations = [yaml.safe_load(block) for block in blocks]
    # PyYAML reads 1e-4 as text; the editors that schemas are for read YAML 1.2.
    digits = (ROOT / "examples/digits/config.yaml").read_text(encoding="utf-8")
    configurations.append(yaml.safe_load(re.sub(r"\b(\d)e-", r"\1.0e-", digits)))

    assert len(configurations) >= 2
    for configuration in configurations:
        assert [error.message for error in schema.iter_errors(configuration)] == []


@pytest.mark.parametrize(
    ("key", "params", "valid"),
    [
        ("adamw_warmup_cosine_decay", {"peak_lr": 1e-3, "total_steps": 10, "betas": [0.9, 0.99]}, True),
        ("adamw_warmup_cosine_decay", {"peak_lr": 1e-3}, False),
        ("adamw_warmup_cosine_decay", {"peak_lr": 0, "total_steps": 10}, False),
        ("adamw_warmup_cosine_decay", {"peak_lr": 1e-3, "total_steps": 10, "betas": [0.9]}, False),
        ("adamw_warmup_cosine_decay", {"peak_lr": 1e-3, "total_steps": 10, "eps": float("inf")}, False),
        ("adamw_warmup_cosine_decay", {"peak_lr": 1e-3, "total_steps": 10, "warmup_step": 1}, False),
        ("adamw_cosine_schedule", {"max_lr": 1, "total_steps": 10, "anneal_strategy": "linear"}, True),
        ("adamw_cosine_schedule", {"max_lr": 1, "total_steps": 10, "anneal_strategy": "quadratic"}, False),
        ("adamw_cosine_schedule", {"max_lr": 1, "total_steps": 10, "foreach": None}, True),
        ("schedule_free_radam", {"lr": True}, False),
        ("schedule_free_radam", {"betas": [0.0, 0.5]}, False),
        ("schedule_free_radam", {"betas": [0.5, 0.0]}, True),
    ],
)
def test_schema_agrees_with_building(
    key: str, params: dict[str, Any], valid: bool, schema: Draft202012Validator
) -> None:
    source = {"net": {"type": key, "params": params}}
    problems = component_factories(read_configuration(source), OPTIMIZER_BUILDER_REGISTRY).problems

    assert schema.is_valid(source) is valid
    assert (not problems) is valid


def test_schema_command_covers_every_built_in() -> None:
    result = optim("schema")

    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    Draft202012Validator.check_schema(document)
    assert document["$defs"]["Component"]["properties"]["type"]["enum"] == BUILT_INS


def test_show_command_fits_a_narrow_terminal_and_names_every_parameter() -> None:
    result = optim("show", "adamw_cosine_schedule", COLUMNS="40")

    lines = result.stdout.partition("\nNext:")[0].splitlines()
    assert (result.returncode, result.stderr) == (0, "")
    assert max(map(len, lines)) <= 40
    for argument in describe(OPTIMIZER_BUILDER_REGISTRY["adamw_cosine_schedule"]).arguments:
        assert any(line.split(" ")[0] == argument.name for line in lines)
