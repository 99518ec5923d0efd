"""`optim check` says in one clear line why a file can't be read, or where it has no components."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tools_support.checked_configurations import Check

Run = Callable[..., subprocess.CompletedProcess[str]]


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
