"""Keys that several distributions offer: listed, and refused only where one is used."""

from __future__ import annotations

import sys

import pytest

from core_support.distributions import FACTORY, Install
from core_support.factories_in_process import Mine
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import DuplicateOptimizerError

pytestmark = pytest.mark.usefixtures("only_fake_distributions")


@pytest.fixture
def contested(distribution: Install) -> None:
    modules = {"first_plugin": FACTORY, "second_plugin": FACTORY}
    distribution("first-plugin", "1.0", factories={"same": "first_plugin:Factory", "only": "first_plugin:Factory"})
    distribution("second-plugin", "2.0", factories={"same": "second_plugin:Factory"}, modules=modules)


@pytest.mark.usefixtures("contested")
def test_contested_key_is_listed_and_imports_nothing(registry: OptimizerRegistry) -> None:
    assert list(registry) == ["only", "same"]
    assert [e.distribution for e in registry.entries() if e.key == "same"] == ["first-plugin", "second-plugin"]
    assert {"first_plugin", "second_plugin"}.isdisjoint(sys.modules)


@pytest.mark.usefixtures("contested")
def test_contested_key_raises_with_both_names_when_used(registry: OptimizerRegistry) -> None:
    with pytest.raises(DuplicateOptimizerError) as caught:
        registry.get("same")

    assert caught.value.key == "same"
    assert caught.value.providers == (
        "first-plugin 1.0 (first_plugin:Factory)",
        "second-plugin 2.0 (second_plugin:Factory)",
    )
    assert "first-plugin" in str(caught.value)
    assert "second-plugin" in str(caught.value)
    assert "OPTIM_DISABLE_PLUGINS" in str(caught.value)


@pytest.mark.usefixtures("contested")
def test_contested_key_leaves_the_others_alone(registry: OptimizerRegistry) -> None:
    with pytest.raises(DuplicateOptimizerError):
        registry.get("same")

    assert registry.get("only") is sys.modules["first_plugin"].Factory


@pytest.mark.usefixtures("contested")
def test_disabling_one_claimant_settles_a_contested_key(
    registry: OptimizerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "first-plugin")

    assert registry.get("same") is sys.modules["second_plugin"].Factory


def test_one_distribution_with_two_values_for_a_key_is_contested(
    registry: OptimizerRegistry, distribution: Install
) -> None:
    distribution("fake-plugin", entry_points="[optim.factories]\nsame = m:A\nsame = m:B\n")

    with pytest.raises(DuplicateOptimizerError, match=r"\(m:A\) and by fake-plugin 1.0 \(m:B\)"):
        registry.get("same")


def test_same_distribution_seen_twice_is_not_contested(registry: OptimizerRegistry, distribution: Install) -> None:
    distribution("fake-plugin", "1.0", factories={"fake": "old_plugin:Factory"}, folder="site-packages")
    distribution(
        "Fake.Plugin",
        "2.0",
        factories={"fake": "new_plugin:Factory"},
        modules={"new_plugin": FACTORY},
        folder="editable",
    )

    assert registry.get("fake") is sys.modules["new_plugin"].Factory


@pytest.mark.usefixtures("two_plugins")
def test_registered_against_installed_is_contested_when_used(registry: OptimizerRegistry) -> None:
    registry.register("alpha", Mine)

    with pytest.raises(DuplicateOptimizerError, match=r"alpha-plugin 1\.1") as caught:
        registry.get("alpha")

    assert caught.value.providers[1] == f"{Mine.__module__}:Mine (registered in this process)"
    assert "replace=True" in str(caught.value)
    assert len(registry) == 2
    assert registry.get("beta") is sys.modules["beta_plugin"].Factory
