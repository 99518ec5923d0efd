"""The documentation knows everything that a user can ask for."""

from pathlib import Path

import click
import pytest

from optim_core.command.application import optim

PAGE = (Path(__file__).parents[1] / "docs" / "command.md").read_text(encoding="utf-8")
COMMON = {"--help", "--version"}


@pytest.mark.parametrize("name", optim.commands)
def test_every_command_and_option_is_documented(name):
    assert f"| `optim {name}" in PAGE
    options = {
        max(parameter.opts, key=len) for parameter in optim.commands[name].params if isinstance(parameter, click.Option)
    }
    assert {option for option in options if f"`{option}" not in PAGE and f" {option}" not in PAGE} <= COMMON
