"""`optim list`: every key, who provides it, and what keeps a key from being used."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., Path]
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n"
LION = '''
class Lion:
    """The sign of a momentum.

    And more about it.
    """
    def __init__(self, lr): ...
    def build(self, params): ...

class Tiger:
    def __init__(self, lr): ...
    def build(self, params): ...
'''


def described(name: str, summary: str, version: str = "1.0") -> str:
    return METADATA.format(name=name, version=version, summary=summary)


def listed(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert result.stderr == ""
    return {f"{row['key']} of {row['distribution']}": row for row in json.loads(result.stdout)}


def test_a_key_is_listed_with_its_distribution_s_summary_and_not_imported(distribution: Install, optim: Run) -> None:
    modules = {"lion": "raise SystemExit('imported')"}
    metadata = described("optim-lion", "Lion as a plugin", "3.2")
    distribution("optim-lion", "3.2", factories={"lion": "lion:Lion"}, modules=modules, metadata=metadata)
    result = optim("list")
    assert (result.returncode, result.stderr) == (0, "")
    heading, *rows = result.stdout.splitlines()
    assert heading.split() == ["key", "distribution", "version", "description"]
    assert [" ".join(row.split()) for row in rows if row.startswith("lion ")] == [
        "lion optim-lion 3.2 Lion as a plugin"
    ]
    assert listed(optim("list", "--json"))["lion of optim-lion"] == {
        "key": "lion",
        "distribution": "optim-lion",
        "version": "3.2",
        "value": "lion:Lion",
        "description": "Lion as a plugin",
        "disabled": False,
        "problem": None,
    }


@pytest.mark.slow
def test_a_summary_of_several_keys_describes_none_of_them_until_they_are_loaded(
    distribution: Install, optim: Run
) -> None:
    keys = {"lion": "cats:Lion", "tiger": "cats:Tiger"}
    distribution("optim-cats", factories=keys, modules={"cats": LION}, metadata=described("optim-cats", "All cats"))
    rows = listed(optim("list", "--json"))
    assert [rows[f"{key} of optim-cats"]["description"] for key in keys] == ["", ""]
    rows = listed(optim("list", "--load", "--json"))
    assert [rows[f"{key} of optim-cats"]["description"] for key in keys] == ["The sign of a momentum.", ""]


def test_two_claims_to_a_key_are_both_marked(distribution: Install, optim: Run) -> None:
    distribution("optim-one", factories={"lion": "one:Lion"})
    distribution("optim-two", "2.0", factories={"lion": "two:Lion"})
    result = optim("list", "--json")
    assert result.returncode == 1
    rows = listed(result)
    assert "optim-two 2.0 claims this key too" in rows["lion of optim-one"]["problem"]
    assert "optim-one 1.0 claims this key too" in rows["lion of optim-two"]["problem"]
    assert optim("list").stdout.count("claims this key too; uninstall one, or name it in OPTIM_DISABLE_PLUGINS") == 2


def test_a_disabled_distribution_is_marked_and_no_longer_contests(distribution: Install, optim: Run) -> None:
    distribution("optim-one", factories={"lion": "one:Lion"})
    distribution("optim-two", factories={"lion": "two:Lion"})
    rows = listed(optim("list", "--json", OPTIM_DISABLE_PLUGINS="optim_two"))
    assert (rows["lion of optim-one"]["disabled"], rows["lion of optim-one"]["problem"]) == (False, None)
    assert rows["lion of optim-two"]["disabled"] is True
    assert rows["lion of optim-two"]["problem"] == "disabled by OPTIM_DISABLE_PLUGINS"


@pytest.mark.slow
def test_loading_marks_what_fails_hangs_or_crashes_and_goes_on(distribution: Install, optim: Run) -> None:
    modules = {
        "good": LION,
        "raising": "raise RuntimeError('of\\ntwo lines')",
        "hanging": "import time\ntime.sleep(600)",
        "crashing": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
    }
    keys = {"x.good": "good:Lion", "x.raise": "raising:F", "x.hang": "hanging:F", "x.crash": "crashing:F"}
    distribution("optim-plugins", factories=keys, modules=modules)
    # Enough for a plugin that is right: PyTorch isn't imported for it.
    result = optim("list", "--load", "--json", "--timeout", "10")
    assert result.returncode == 1
    rows = {key: row for key, row in listed(result).items() if key.startswith("x.")}
    assert rows["x.good of optim-plugins"]["problem"] is None
    assert rows["x.raise of optim-plugins"]["problem"] == "RuntimeError: of two lines"
    assert rows["x.crash of optim-plugins"]["problem"] == "it crashes Python (SIGSEGV)"
    hanging = rows["x.hang of optim-plugins"]["problem"]
    assert hanging.startswith("it was not imported and checked within 10 s (it hangs at ")
    assert hanging.endswith("hanging.py, line 2)")


def test_where_nothing_is_installed_it_says_so(optim: Run, distribution: Install) -> None:
    distribution(
        "nothing", modules={"sitecustomize": "import importlib_metadata as m\nm.entry_points = lambda **_: ()"}
    )
    assert "No optimizer is installed" in optim("list").stdout
    assert json.loads(optim("list", "--json").stdout) == []


def test_a_narrow_terminal_gets_one_value_a_line(distribution: Install, optim: Run) -> None:
    distribution("optim-lion", factories={"lion": "l:L"}, metadata=described("optim-lion", "A summary of many words"))
    lines = optim("list", COLUMNS="36").stdout.splitlines()
    assert max(map(len, lines)) <= 36
    at = lines.index("lion")
    assert lines[at + 1 : at + 3] == ["  distribution: optim-lion", "  version: 1.0"]


def test_what_may_be_copied_is_never_folded(distribution: Install, optim: Run) -> None:
    summary = "A summary of so many words that no terminal has room for them beside the rest"
    key = {"a_key_of_some_length": "l:L"}
    distribution(
        "optim-distribution-of-length", factories=key, metadata=described("optim-distribution-of-length", summary)
    )
    for width in ("40", "60", "80", "100"):
        result = optim("list", COLUMNS=width)
        assert max(map(len, result.stdout.splitlines())) <= int(width)
        assert "a_key_of_some_length" in result.stdout
        assert "optim-distribution-of-length" in result.stdout


def test_a_malformed_key_is_marked(distribution: Install, optim: Run) -> None:
    distribution("optim-odd", factories={"Odd Key": "l:L"})
    result = optim("list", "--json")
    assert result.returncode == 1
    assert "lower-case letters" in listed(result)["Odd Key of optim-odd"]["problem"]
    assert optim("check", "nothere.yaml").stderr.startswith("optim: error: ")


def test_a_pipe_gets_a_line_a_row_without_colour_or_padding(distribution: Install, optim: Run) -> None:
    long = "word " * 60
    distribution("optim-lion", factories={"lion": "l:L"}, metadata=described("optim-lion", long))
    (row,) = [line for line in optim("list").stdout.splitlines() if line.startswith("lion ")]
    assert row.endswith(long.strip())
    assert "\x1b" not in row


def test_a_terminal_gets_its_width_and_colour(distribution: Install, in_terminal: Callable[..., str]) -> None:
    distribution("optim-lion", factories={"lion": "l:L"}, metadata=described("optim-lion", "word " * 60))
    lines = in_terminal("stdout", "list").splitlines()
    assert "\x1b[1m" in lines[0]
    assert max(len(line) for line in lines if "\x1b" not in line) <= 80


def test_a_character_that_the_terminal_has_not_is_replaced(distribution: Install, optim: Run) -> None:
    distribution("optim-lion", factories={"lion": "l:L"}, metadata=described("optim-lion", "Löwe"))
    result = optim("list", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (result.returncode, result.stderr) == (0, "")
    assert "L?we" in result.stdout
