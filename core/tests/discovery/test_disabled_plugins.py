"""Distributions that OPTIM_DISABLE_PLUGINS names: not listed, not imported, and named by the error."""

from __future__ import annotations

import sys

import pytest

from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import UnknownOptimizerError

pytestmark = pytest.mark.usefixtures("only_fake_distributions")


@pytest.mark.usefixtures("two_plugins")
def test_what_is_disabled_is_settled_with_the_first_question(
    registry: OptimizerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "alpha" in registry
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "alpha-plugin")

    assert [entry.key for entry in registry.entries()] == list(registry) == ["alpha", "beta"]


@pytest.mark.usefixtures("two_plugins")
def test_disabled_distribution_is_neither_listed_nor_imported(
    registry: OptimizerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "Alpha_Plugin")

    assert list(registry) == ["beta"]
    assert "alpha" not in registry
    assert [entry.key for entry in registry.entries()] == ["beta"]
    with pytest.raises(UnknownOptimizerError) as caught:
        registry.get("alpha")
    assert caught.value.reason is not None
    assert "alpha-plugin 1.1" in str(caught.value)
    assert "disabled by OPTIM_DISABLE_PLUGINS" in str(caught.value)
    assert "alpha_plugin" not in sys.modules


@pytest.mark.usefixtures("two_plugins")
def test_disabled_entries_are_marked_when_asked_for(
    registry: OptimizerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", "alpha-plugin")

    entries = registry.entries(include_disabled=True)

    assert [(entry.key, entry.disabled) for entry in entries] == [("alpha", True), ("beta", False)]
