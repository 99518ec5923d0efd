"""Distributions whose metadata is malformed or unreadable: left out and logged, the others found."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from core_support.distributions import FACTORY, Install
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import UnknownOptimizerError

pytestmark = pytest.mark.usefixtures("only_fake_distributions")


@pytest.mark.parametrize("name", ["Fake", "fäke", "fa ke", "fake!", "fake/two"])
def test_malformed_entry_point_name_is_ignored_and_logged(
    registry: OptimizerRegistry, distribution: Install, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    distribution("fake-plugin", factories={name: "fake_plugin:Factory", "good": "fake_plugin:Factory"})

    with caplog.at_level(logging.WARNING, "optim_core"):
        assert list(registry) == ["good"]

    assert f"fake-plugin 1.0 (fake_plugin:Factory) offers the malformed key {name!r}" in caplog.text


@pytest.mark.parametrize(
    "entry_points",
    ["[optim.factories]\nno entry point\n", b"[x]\n\xff = \xfe\n", "[optim.factories]\nbad = not valid!\n"],
)
def test_broken_metadata_elsewhere_leaves_the_registry_working(
    registry: OptimizerRegistry, distribution: Install, entry_points: str | bytes
) -> None:
    distribution("sound-plugin", factories={"sound": "sound_plugin:Factory"}, modules={"sound_plugin": FACTORY})
    distribution("broken-plugin", entry_points=entry_points)

    assert registry.get("sound") is sys.modules["sound_plugin"].Factory


@pytest.fixture
def unreadable(distribution: Install) -> Path:
    distribution("sound-plugin", factories={"sound": "sound_plugin:Factory"}, modules={"sound_plugin": FACTORY})
    return distribution("unreadable-plugin", factories={"unreadable": "m:F"}, metadata=b"Name: \xff\xfe\n")


@pytest.mark.usefixtures("unreadable")
def test_listing_keys_and_getting_another_reads_no_metadata(
    registry: OptimizerRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    assert list(registry) == ["sound", "unreadable"]
    assert len(registry) == 2
    assert "unreadable" in registry
    assert registry.get("sound") is sys.modules["sound_plugin"].Factory
    assert caplog.records == []


def test_unreadable_distribution_is_left_out_of_the_entries_and_from_then_on(
    registry: OptimizerRegistry, unreadable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "unreadable" in registry

    assert [entry.key for entry in registry.entries()] == ["sound"]

    assert list(registry) == ["sound"]
    assert [entry.key for entry in registry.entries(include_disabled=True)] == ["sound"]
    assert [str(unreadable) in record.getMessage() for record in caplog.records] == [True]


def test_key_of_an_unreadable_distribution_is_unknown_and_says_why(
    registry: OptimizerRegistry, unreadable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with pytest.raises(UnknownOptimizerError, match=r"'unreadable': the metadata .* can't be read") as caught:
            registry.get("unreadable")
    assert caught.value.known == ("sound",)
    with pytest.raises(UnknownOptimizerError, match=r"'unreadable': the metadata .* can't be read"):
        registry.unregister("unreadable")
    assert [str(unreadable) in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.usefixtures("unreadable")
def test_key_of_an_unreadable_distribution_can_be_had_from_another(
    registry: OptimizerRegistry, distribution: Install
) -> None:
    distribution("other", factories={"unreadable": "other_plugin:Factory"}, modules={"other_plugin": FACTORY})

    assert registry.get("unreadable") is sys.modules["other_plugin"].Factory
    assert list(registry) == ["sound", "unreadable"]


def test_unreadable_distribution_that_is_mended_is_back_after_refresh(
    registry: OptimizerRegistry, unreadable: Path
) -> None:
    registry.entries()
    (unreadable / "METADATA").write_text("Name: unreadable-plugin\nVersion: 1.0\n", encoding="utf-8")
    assert "unreadable" not in registry

    registry.refresh()

    assert [entry.key for entry in registry.entries()] == ["sound", "unreadable"]
