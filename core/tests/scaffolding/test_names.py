"""From one name to all others, and what is said of a name that no plugin can have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from optim_core.scaffolding.names import InvalidNameError, PluginNames, names_of

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
        ("workspace", "optim-workspace is this project's own"),
        ("optimizer", "its class would be Optimizer, which is the name of another"),
        ("exception", "its class would be Exception"),
        ("none", "its class would be None"),
        ("warmup-cosine", "its class would be WarmupCosine"),
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
    code = "import sys, optim_core.scaffolding.names as n; n.names_of('lion-two'); assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
