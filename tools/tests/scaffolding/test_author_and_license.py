"""Who a distribution is by, and under which licence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click
import pytest

from optim_tools.command.application import optim
from optim_tools.scaffolding.author import PLACEHOLDER, Author, author_from_git
from optim_tools.scaffolding.licenses import LICENSES


@pytest.fixture
def git_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "gitconfig"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)
    return path


def test_git_knows_the_author(git_configuration: Path) -> None:
    git_configuration.write_text("[user]\nname = Ada Lovelace\nemail = ada@example.org\n")

    assert author_from_git() == Author("Ada Lovelace", "ada@example.org")


def test_an_author_without_an_address_is_one(git_configuration: Path) -> None:
    git_configuration.write_text("[user]\nname = Ada Lovelace\n")

    assert author_from_git() == Author("Ada Lovelace", None)


@pytest.mark.parametrize("text", ["", "[user]\nemail = ada@example.org\n", "not a configuration"])
def test_git_may_know_nobody(git_configuration: Path, text: str) -> None:
    git_configuration.write_text(text)

    assert author_from_git() is None


def test_without_git_nobody_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert author_from_git() is None


def test_a_git_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("git", 5)

    monkeypatch.setattr(subprocess, "run", hang)

    assert author_from_git() is None


@pytest.mark.parametrize(
    ("name", "email"), [("", None), (" ", None), ("A\nB", None), ("A", "nowhere"), ("A", "a@b c.d")]
)
def test_what_is_no_author_is_refused(name: str, email: str | None) -> None:
    with pytest.raises(ValueError, match="is no"):
        Author(name, email)


def test_placeholder_is_a_valid_author() -> None:
    assert PLACEHOLDER.email == "you@example.org"


@pytest.mark.parametrize("name", LICENSES)
def test_licences_name_year_and_author_once_and_leave_no_place_open(name: str) -> None:
    text = LICENSES[name].text(year=2031, author="Ada Lovelace")

    assert "2031 Ada Lovelace" in text
    assert "%{" not in text


def test_apache_licence_is_complete() -> None:
    text = LICENSES["Apache-2.0"].text(year=2031, author="Ada")

    assert "fifty percent (50%) or more" in text
    assert [f"   {number}. " in text for number in range(1, 10)] == [True] * 9


def test_the_command_offers_just_these_licences() -> None:
    (option,) = (p for p in optim.commands["new"].params if p.name == "license_name")

    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(LICENSES)
