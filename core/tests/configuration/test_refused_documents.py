"""Documents that are refused as a whole: of the wrong form, unreadable, or no valid YAML."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core_support.configuration_files import SPECS, Write, refusal
from optim_core.configuration.reading import read_configuration
from optim_core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("# nothing but a comment\n", "is empty"),
        ("---\n", "is empty"),
        ("- backbone\n- head\n", "must be a mapping, not a list"),
        ("just text\n", "must be a mapping, not a string ('just text')"),
        ("3\n", "must be a mapping, not a number (3)"),
    ],
)
def test_a_document_that_is_no_mapping_is_refused(write: Write, content: str, message: str) -> None:
    problem = refusal(write(content))

    assert (problem.path, problem.message) == ("the document", message)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({}, "component_optims"),
        ({"model": {"component_optims": {}}}, "model.component_optims"),
        ({"model": {"component_optims": None}}, "model.component_optims"),
    ],
)
def test_an_empty_configuration_is_refused(source: Mapping[str, Any], path: str) -> None:
    problem = refusal(source)

    assert (problem.path, problem.message) == (path, "is empty")


def test_components_that_are_a_list_are_refused_with_their_line(write: Write) -> None:
    problem = refusal(write("model:\n  component_optims:\n    - adamw\n"))

    assert problem.path == "model.component_optims"
    assert problem.message == "must map components to optimizers, not be a list"
    assert problem.line == 2


@pytest.mark.parametrize(
    "misspelt", ["component_optim", "components_optims", "component_optimizers", "Component_Optims"]
)
def test_misspelt_component_optims_are_pointed_out(misspelt: str) -> None:
    problem = refusal({"model": {misspelt: SPECS}})

    assert (problem.path, problem.message) == ("model", "has no 'component_optims'")
    assert problem.hint is not None
    assert repr(misspelt) in problem.hint


@pytest.mark.parametrize("model", [None, {}, [], "net", {"name": "net"}])
def test_a_model_without_component_optims_is_refused(model: object) -> None:
    assert refusal({"model": model}).message == "has no 'component_optims'"


def test_a_mapping_of_something_else_is_refused() -> None:
    problem = refusal({"train": {"epochs": 3}, "data": {"path": "x"}})

    assert "has neither 'model.component_optims'" in problem.message
    assert problem.hint == "Write the components under model.component_optims"


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"

    with pytest.raises(ConfigurationError) as caught:
        read_configuration(path)

    assert caught.value.subject == str(path)
    assert "can't be read: No such file or directory" in str(caught.value)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "can't be read: Is a directory" in str(refusal(tmp_path))


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"net: {type: \xff}", "is not UTF-8 text (byte 12"),
        ("größe: {type: sgd}".encode("latin-1"), "is not UTF-8 text (byte 2"),
        ("net: {type: sgd}".encode("utf-16"), "is not UTF-8 text (byte 0"),
    ],
)
def test_a_file_that_is_not_utf_8_is_refused(write: Write, content: bytes, where: str) -> None:
    assert where in refusal(write(content)).message


@pytest.mark.parametrize("content", [b"\x00\x01\x02\x03", b"net: {type: \x07}", b"PK\x03\x04\x00"])
def test_a_binary_file_is_refused(write: Write, content: bytes) -> None:
    assert refusal(write(content)).path == "is no valid YAML"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("net: {type: sgd\nhead: {type: sgd}\n", 2),
        ("net:\n  type: sgd\n params: {}\n", 3),
        ("net: {type: sgd}\nhead: *unknown\n", 2),
        ("net: {type: sgd}\n---\nhead: {type: sgd}\n", 2),
        ("net: {type: sgd}\nhead: !!python/object:os.system {}\n", 2),
        ("net: {type: sgd}\n? {a: 1}\n: {type: sgd}\n", 2),
    ],
    ids=["unclosed", "indentation", "unknown anchor", "two documents", "unsafe tag", "mapping as key"],
)
def test_invalid_yaml_is_refused_with_its_line(write: Write, content: str, line: int) -> None:
    problem = refusal(write(content))

    assert (problem.path, problem.line) == ("is no valid YAML", line)


def test_a_date_that_does_not_exist_is_refused(write: Write) -> None:
    assert refusal(write("net: {type: sgd, params: {day: 2020-13-45}}")).path == "is no valid YAML"


def test_a_tab_as_indentation_is_pointed_out(write: Write) -> None:
    problem = refusal(write(b"net:\n\ttype: sgd\n"))

    assert problem.line == 2
    assert problem.hint == "YAML is indented with spaces, not tabs"


@pytest.mark.parametrize(
    ("content", "key", "first", "line"),
    [
        ("net: {type: sgd}\nhead: {type: sgd}\nnet: {type: adamw}\n", "net", 1, 3),
        ("net:\n  type: sgd\n  type: adamw\n", "type", 2, 3),
        ("net:\n  type: sgd\n  params:\n    lr: 1\n    'lr': 2\n", "lr", 4, 5),
        ("net:\n  type: sgd\n  params:\n    groups:\n      - lr: 1\n        lr: 2\n", "lr", 5, 6),
    ],
    ids=["component", "spec", "params", "within a list"],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(
    write: Write, content: str, key: str, first: int, line: int
) -> None:
    problem = refusal(write(content))

    assert problem.message == f"key {key!r} stands twice in one mapping (first on line {first})"
    assert problem.line == line


def test_an_expression_in_double_quotes_is_told_to_go_into_single_ones(write: Write) -> None:
    path = write('net:\n  type: sgd\n  param_groups:\n    - {match: "^a\\.", weight_decay: 0}\n')

    with pytest.raises(ConfigurationError, match=r"line 4: .*unknown escape character '\.'.* in single quotes"):
        read_configuration(path)


def test_endless_nesting_is_refused(write: Write) -> None:
    depth = sys.getrecursionlimit()

    assert refusal(write("net: " + "[" * depth + "]" * depth)).message == "is nested too deeply"
