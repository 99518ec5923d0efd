"""`optim plot` says on one line why it can't plot, and leaves no file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optim_tools.command import plot_schedules as module
from tools_support.plotted_schedules import failure, plot, rendered, spec


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (["peak_lr"], "'peak_lr' is no parameter: write it as name=value"),
        (["=1"], "'=1' is no parameter"),
        (["peak_lr=1", "peak_lr=2"], "peak_lr is given twice"),
        (["peak_lr=[1"], "peak_lr: .* is no valid YAML"),
        (["peak_lr={a: 1, a: 2}"], "peak_lr: .*'a' stands twice"),
    ],
)
def test_a_malformed_parameter_is_wrong_usage(params: list[str], said: str) -> None:
    error = failure("warm", *params)

    assert error.status == 2
    assert re.search(said, error.message)


def test_every_wrong_value_is_named_on_a_line_of_its_own() -> None:
    error = failure("warm", "peak_lr=-1", "total_steps=many", "warm_steps=3")

    assert (error.status, error.message) == (1, "warm: 3 problems")
    assert [line.split()[1].rstrip(":") for line in error.details[:3]] == ["peak_lr", "total_steps", "warm_steps"]
    assert error.details[3] == "For example: optim plot warm peak_lr=0.1 total_steps=500"


def test_one_wrong_value_is_one_line() -> None:
    assert failure("warm").message == "warm: peak_lr: required, but not given"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("wram", "'wram' is neither a file nor a key. Did you mean 'warm'?"),
        ("zzzzzz", "'zzzzzz' is neither a file nor a key. Keys: .*cyclic, .*warm"),
        ("konfig.yml", "konfig.yml: there is no such file. Did you mean 'config.yaml'?"),
        ("elsewhere/config.yaml", "elsewhere/config.yaml: there is no such file$"),
        ("x" * 300, "neither a file nor a key"),
        (".", "is a folder"),
    ],
)
def test_what_is_neither_a_file_nor_a_key_is_wrong_usage(config: Callable[..., str], target: str, said: str) -> None:
    config(a=spec(peak_lr=0.1))

    error = failure(target)

    assert error.status == 2
    assert re.search(said.replace("?", r"\?"), error.message)


def test_parameters_go_with_a_key_only(config: Callable[..., str]) -> None:
    assert failure(config(a=spec(peak_lr=0.1)), "peak_lr=1").status == 2


def test_every_problem_of_a_configuration_is_named(config: Callable[..., str]) -> None:
    error = failure(config(a=spec(peak_lr=-1, foo=2), b={"type": "nothing"}, c={"typ": "warm"}))

    assert error.status == 1
    assert re.fullmatch(r"config\.yaml: \d problems", error.message)
    assert all(any(name in line for line in error.details) for name in ("peak_lr", "foo", "nothing", "typ"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- 1\n- 2\n",
        b"a: 1\na: 2\n",
        b"a:\n\tb: 1\n",
        b"{",
        b"\xff\xfe\x00",
        b"\x00\x01\x02",
        b"just text",
        b"a: 1",
    ],
)
def test_a_file_that_is_no_configuration_is_one_line_and_status_1(folder: Path, content: bytes) -> None:
    (folder / "config.yaml").write_bytes(content)

    error = failure("config.yaml")

    assert error.status == 1
    assert error.message.startswith("config.yaml:")


@pytest.mark.parametrize(
    ("output", "said", "status"),
    [
        ("a.pdf", "a.pdf: a picture is a .png or an .svg file", 2),
        ("a", "a: a picture is a .png or an .svg file", 2),
        ("nowhere/a.png", "nowhere/a.png: the folder nowhere doesn't exist", 2),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, output: str, said: str, status: int
) -> None:
    monkeypatch.setattr(module, "curves_of", None)

    error = failure("cyclic", output=output)

    assert (error.message, error.status) == (said, status)


def test_a_write_that_fails_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)

    error = failure("warm", "peak_lr=1", output="a.png")

    assert (error.message, error.status) == ("a.png: can't be written: No space left on device", 1)
    assert not os.listdir(folder)


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "optim_tools.command.picture", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    error = failure("cyclic", output="a.png")

    assert 'pip install "optim-tools[plot]"' in error.message
    assert rendered(plot("cyclic"))


def test_an_optimizer_that_cannot_be_stepped_is_one_line(config: Callable[..., str], folder: Path) -> None:
    error = failure(config(a={"type": "failing"}), output="a.png")

    assert error.status == 1
    assert error.message == "component 'a' (failing): a step fails on a dummy parameter: RuntimeError: no"
    assert os.listdir(folder) == ["config.yaml"]
