"""From one name to all others, and what is said of a name that no plugin can have."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from optim_tools.scaffolding.author import PLACEHOLDER
from optim_tools.scaffolding.distribution import files_of
from optim_tools.scaffolding.licenses import LICENSES
from optim_tools.scaffolding.names import _IMPORTED, InvalidNameError, PluginNames, names_of
from optim_tools.scaffolding.plugin import Plugin

Install = Callable[..., Path]


@pytest.mark.parametrize("name", ["my-lion", "my_lion", "optim-my-lion"])
def test_every_name_comes_from_one(name: str) -> None:
    names = names_of(name)

    assert names == PluginNames("optim-my-lion", "optim_my_lion", "my_lion", "MyLion")
    assert (names.scheduled, names.factory) == ("ScheduledMyLion", "MyLionFactory")


def test_key_can_be_another() -> None:
    assert names_of("my-lion", "lion.v2").key == "lion.v2"


def test_a_wrapped_class_of_the_same_name_has_its_capitals_kept() -> None:
    assert names_of("nadam").around("NAdam").factory == "NAdamFactory"
    assert names_of("nadam").around("RAdam").factory == "NadamFactory"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        ("optim-", "it is empty"),
        ("MyLion", "capital letters; 'mylion' would do"),
        ("my lion!", "it has ' ', '!'; a name has letters from a to z, digits and hyphens"),
        ("my.lion", "it has '.'"),
        ("löwe", "it has 'ö'"),
        ("4bit", "begins with '4'; a name begins with a letter"),
        ("-lion", "begins with '-'"),
        ("lion-", "a hyphen stands between two words"),
        ("my--lion", "a hyphen stands between two words"),
        ("a" * 31, "it has 31 characters; at most 30 are allowed"),
        ("lambda", "a keyword of Python; 'my-lambda' would do"),
        ("core", "it would be the distribution optim-core"),
        ("tools", "optim-tools is this project's own"),
        ("workspace", "optim-workspace is this project's own"),
        ("optimizer", "its class would be Optimizer, which is the name of another"),
        ("exception", "its class would be Exception"),
        ("none", "its class would be None"),
        ("warmup-cosine", "its class would be WarmupCosine"),
        ("scheduled-optimizer", "its class would be ScheduledOptimizer"),
        ("non-negative", "its class would be NonNegative"),
        ("test", "its class would be Test, which pytest takes for tests"),
        ("test-lion", "its class would be TestLion, which pytest takes for tests"),
        ("testing", "its class would be Testing, which pytest takes for tests"),
        ("muon", "optim-muon is this project's own"),
        ("adamw_onecycle", "optim-adamw-onecycle is this project's own"),
    ],
)
def test_a_bad_name_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        names_of(name)

    assert reason in str(caught.value)
    assert str(caught.value).startswith(repr(name))


def test_everything_that_is_wrong_with_a_name_is_told_at_once() -> None:
    with pytest.raises(InvalidNameError) as caught:
        names_of("My Very Long And Winding Lion Optimizer")

    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("key", ["Lion", "my lion", ""])
def test_a_bad_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidNameError, match="is no key: it has letters from a to z"):
        names_of("lion-two", key)


def test_no_class_can_have_a_name_that_the_written_modules_import() -> None:
    plugin = Plugin(names_of("lion-two"), PLACEHOLDER, LICENSES["MIT"], 2031)
    own = {"LionTwo", "ScheduledLionTwo", "LionTwoFactory"}
    modules = {path: text for path, text in files_of(plugin).items() if path.endswith(".py")}
    imported = {
        alias.asname or alias.name
        for path, text in modules.items()
        if path != "noxfile.py"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    # Other names are no class's: capitals only, or none at the beginning.
    like_classes = {name for name in imported - own if name[0].isupper() and not name.isupper()}
    assert like_classes == _IMPORTED


@pytest.mark.parametrize("key", ["null", "on", "true", "123", "-", "---", "2031-01-02", "2031-13-45", "1_000", "1e5"])
def test_a_key_that_is_no_text_in_yaml_is_refused(key: str) -> None:
    with pytest.raises(InvalidNameError, match=r"is no text where YAML reads it without quotes; 'optim.*' would do"):
        names_of("lion-two", key)


def test_a_name_whose_key_is_no_text_in_yaml_can_have_another_key() -> None:
    with pytest.raises(InvalidNameError, match="'optim_on' would do, with --key"):
        names_of("on")
    assert names_of("on", "optim_on").key == "optim_on"


@pytest.mark.parametrize(("key", "reason"), [("-lion", "begins with a hyphen"), ("lion.yaml", "like a file of YAML")])
def test_a_key_that_the_command_takes_for_something_else_is_refused(key: str, reason: str) -> None:
    with pytest.raises(InvalidNameError, match=reason):
        names_of("lion-two", key)


def test_a_long_key_is_refused() -> None:
    with pytest.raises(InvalidNameError, match="has 61 characters; a key has at most 60"):
        names_of("lion-two", "k" * 61)


def test_a_key_that_somebody_has_is_refused(distribution: Install) -> None:
    distribution("someones-lions", "3.1", factories={"lion_two": "lions:Lion"})

    with pytest.raises(InvalidNameError, match=r"someones-lions 3.1 has this key already; .* with --key"):
        names_of("lion-two")
    assert names_of("lion-two", "lion_three").key == "lion_three"


def test_a_distribution_that_is_installed_is_refused(distribution: Install) -> None:
    distribution("optim-lion-two", "0.3")

    with pytest.raises(InvalidNameError, match=r"a distribution optim-lion-two \(0.3\) is installed already"):
        names_of("lion-two")


def test_a_package_that_can_be_imported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "optim_lion_two").mkdir()
    (tmp_path / "optim_lion_two" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(InvalidNameError, match="there is a package optim_lion_two already"):
        names_of("lion-two")


def test_asking_for_names_imports_no_torch() -> None:
    code = "import sys, optim_tools.scaffolding.names as n; n.names_of('lion-two'); assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
