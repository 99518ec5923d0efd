"""Checks configurations in this process, beside a plugin and a model of the folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from optim_tools.command.application import optim as group
from tools_support.checked_configurations import MODEL, PLUGIN

Install = Callable[..., Path]


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


@pytest.fixture
def model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mymodel.py").write_text(MODEL)
    monkeypatch.delitem(sys.modules, "mymodel", raising=False)
