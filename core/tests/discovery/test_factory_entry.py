"""Finding entry points in real dist-info folders, broken ones among them."""

from __future__ import annotations

import logging
import sys

import importlib_metadata
import pytest

from core_support.distributions import FACTORY, Install
from optim_core.discovery.factory_entry import FACTORIES_GROUP, HOOKS_GROUP, FactoryEntry, find_entries

pytestmark = pytest.mark.usefixtures("only_fake_distributions")


def test_nothing_installed_finds_nothing() -> None:
    assert find_entries(FACTORIES_GROUP) == ()


def test_an_entry_says_who_provides_what_without_importing(distribution: Install) -> None:
    distribution("Fake-Plugin", "2.5", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": FACTORY})

    (entry,) = find_entries(FACTORIES_GROUP)

    assert entry == FactoryEntry("fake", "Fake-Plugin", "2.5", "fake_plugin:Factory")
    assert entry.group == "optim.factories"
    assert not entry.disabled
    assert entry.provider == "Fake-Plugin 2.5 (fake_plugin:Factory)"
    assert "fake_plugin" not in sys.modules


def test_an_entry_loads_what_it_points_to(distribution: Install) -> None:
    distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"}, modules={"fake_plugin": FACTORY})

    loaded = find_entries(FACTORIES_GROUP)[0].load()

    assert loaded is sys.modules["fake_plugin"].Factory


def test_an_entry_made_by_hand_has_nothing_to_load() -> None:
    with pytest.raises(LookupError, match="'mine' has no entry point"):
        FactoryEntry("mine", "", "", "here:Factory", "in-process").load()


SOUND: dict[str, str | bytes] = {
    "plain": "Metadata-Version: 2.4\nName: Fake-Plugin\nVersion: 1.0\nSummary: Made up\n",
    "without a summary": "Name: fake\nVersion: 1.0\n",
    "empty summary": "Name: fake\nVersion: 1.0\nSummary:\nAuthor: A\n",
    "summary of a Name": "Name: fake\nVersion: 1.0\nSummary: Name: other\n",
    "folded summary": "Summary: of\n        two\n\tor three lines\nName: fake\nVersion: 1.0\n",
    "in any case and order": "VERSION: 1.0\nLicense: MIT\nname:fake\nsummary:\t  Made up\n",
    "fields given twice": "Name: fake\nName: other\nVersion: 1.0\nVersion: 2.0\nSummary: A\nSummary: B\n",
    "Windows line ends": b"Name: fake\r\nVersion: 1.0\r\nSummary: Made up\r\n\r\nSummary: no\r\n",
    "fields in the description": "Name: fake\nVersion: 1.0\n\nSummary: no\nName: other\n\nVersion: 2.0\n",
    "fields in a folded field": "License: MIT\n        Name: other\nName: fake\nVersion: 1.0\n",
    "not ASCII": "Name: fake\nVersion: 1.0\nSummary: Größe \u2028 ☃\n",
}


@pytest.mark.parametrize("metadata", SOUND.values(), ids=SOUND)
def test_metadata_is_read_as_its_own_parser_reads_it(distribution: Install, metadata: str | bytes) -> None:
    info = distribution("fake", factories={"fake": "m:F"}, metadata=metadata)

    (entry,) = find_entries(FACTORIES_GROUP)

    parsed = importlib_metadata.Distribution.at(info).metadata
    assert (entry.distribution, entry.version) == (parsed["Name"], parsed["Version"])
    assert entry.summary == " ".join((parsed.get("Summary") or "").split())


def test_the_metadata_of_an_egg_is_read(distribution: Install) -> None:
    info = distribution("fake", "2.5", factories={"fake": "m:F"})
    egg = info.rename(info.with_name("fake.egg-info"))
    (egg / "METADATA").rename(egg / "PKG-INFO")

    assert [(e.distribution, e.version) for e in find_entries(FACTORIES_GROUP)] == [("fake", "2.5")]


def test_the_groups_are_kept_apart(distribution: Install) -> None:
    distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"}, hooks={"watch": "fake_plugin"})

    assert [entry.key for entry in find_entries(FACTORIES_GROUP)] == ["fake"]
    assert [(entry.key, entry.group) for entry in find_entries(HOOKS_GROUP)] == [("watch", "optim.hooks")]


def test_entries_are_sorted_whatever_the_order_on_the_path(distribution: Install) -> None:
    distribution("zeta", factories={"b": "z:F", "a": "z:F"}, folder="first")
    distribution("alpha", factories={"b": "a:F", "c": "a:F"}, folder="second")

    found = [(entry.key, entry.distribution) for entry in find_entries(FACTORIES_GROUP)]

    assert found == [("a", "zeta"), ("b", "alpha"), ("b", "zeta"), ("c", "alpha")]


def test_a_path_listed_twice_is_no_duplicate(distribution: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    info = distribution("fake-plugin", factories={"fake": "fake_plugin:Factory"})
    monkeypatch.setattr(sys, "path", [*sys.path, str(info.parent)])
    assert sys.path.count(str(info.parent)) == 2

    assert len(find_entries(FACTORIES_GROUP)) == 1


def test_a_second_dist_info_of_the_same_distribution_is_no_duplicate(distribution: Install) -> None:
    # As an editable install beside an older copy, whose name is also spelt differently.
    distribution("fake-plugin", "1.0", factories={"fake": "old_module:Factory"}, folder="site-packages")
    distribution("Fake_Plugin", "2.0", factories={"fake": "new_module:Factory"}, folder="editable")

    (entry,) = find_entries(FACTORIES_GROUP)

    assert (entry.version, entry.value) == ("2.0", "new_module:Factory")  # the one that comes first on the path


def test_a_second_dist_info_is_no_duplicate_where_metadata_is_read_one_by_one(distribution: Install) -> None:
    distribution("broken", entry_points=b"[optim.factories]\nx = \xff\xfe:F\n", folder="broken")
    distribution("fake-plugin", "1.0", factories={"fake": "old_module:Factory"}, folder="site-packages")
    distribution("Fake_Plugin", "2.0", factories={"fake": "new_module:Factory"}, folder="editable")

    assert [entry.version for entry in find_entries(FACTORIES_GROUP)] == ["2.0"]


BROKEN: dict[str, dict[str, str | bytes | None]] = {
    "no section": {"entry_points": "fake = nowhere\n"},
    "no equals sign": {"entry_points": "[optim.factories]\nthis is no entry point\n"},
    "not UTF-8": {"entry_points": b"[optim.factories]\nbad = m\xff\xfe:F\n"},
    "binary": {"entry_points": b"\x00\x01\x02[\x00"},
    "unclosed section": {"entry_points": "[optim.factories\nbad = m:F\n"},
    "metadata not UTF-8": {"entry_points": "[optim.factories]\nbad = m:F\n", "metadata": b"Name: br\xff\xfeken\n"},
    "metadata without a name": {"entry_points": "[optim.factories]\nbad = m:F\n", "metadata": "Version: 1.0\n"},
    "empty metadata": {"entry_points": "[optim.factories]\nbad = m:F\n", "metadata": ""},
    "no metadata": {"entry_points": "[optim.factories]\nbad = m:F\n", "metadata": None},
    "metadata after a blank line": {
        "entry_points": "[optim.factories]\nbad = m:F\n",
        "metadata": "\nName: broken\nVersion: 1.0\n",
    },
    "malformed value": {"entry_points": "[optim.factories]\nbad = not a reference!\n"},
    "empty value": {"entry_points": "[optim.factories]\nbad =\n"},
    "broken section of somebody else": {"entry_points": "[console_scripts]\nthis is no entry point\n"},
}


@pytest.mark.parametrize("order", [("broken", "sound"), ("sound", "broken")], ids=["broken first", "broken last"])
@pytest.mark.parametrize("files", BROKEN.values(), ids=BROKEN)
def test_a_broken_distribution_takes_no_other_with_it(
    distribution: Install, files: dict[str, str | bytes | None], order: tuple[str, str]
) -> None:
    for name in reversed(order):  # the folder installed last comes first on the path
        if name == "broken":
            distribution("broken", **files, folder="broken")
        else:
            distribution("sound", factories={"good": "sound:Factory"}, folder="sound", modules={"sound": FACTORY})

    (entry,) = [entry for entry in find_entries(FACTORIES_GROUP) if entry.key == "good"]

    assert entry.distribution == "sound"
    assert isinstance(entry.load(), type)


@pytest.mark.parametrize(
    "how",
    ["not UTF-8", "metadata not UTF-8", "metadata without a name", "metadata after a blank line", "no metadata"],
)
def test_a_distribution_that_cannot_be_read_is_logged_with_its_place(
    distribution: Install, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    info = distribution("broken", **BROKEN[how])

    with caplog.at_level(logging.WARNING, "optim_core"):
        assert find_entries(FACTORIES_GROUP) == ()

    assert str(info) in caplog.text
    assert "is ignored" in caplog.text


@pytest.mark.parametrize(
    "value",
    [
        "fake-plugin",
        "FAKE_PLUGIN",
        "fake.plugin",
        "fake--plugin",
        "other,fake-plugin",
        " other  fake-plugin ",
        "x,, fake-plugin,",
    ],
)
def test_a_distribution_is_disabled_by_any_spelling_of_its_name(
    distribution: Install, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", value)
    distribution("fake-plugin", factories={"fake": "m:F"}, hooks={"watch": "m"})
    distribution("fake-plugin-two", factories={"second": "m:F"}, hooks={"watch": "m"})

    disabled = {
        group: [(e.distribution, e.disabled) for e in find_entries(group)] for group in (FACTORIES_GROUP, HOOKS_GROUP)
    }

    expected = [("fake-plugin", True), ("fake-plugin-two", False)]
    assert disabled == {FACTORIES_GROUP: expected, HOOKS_GROUP: expected}


@pytest.mark.parametrize("value", ["", " ", ",", "fake", "fake-plug"])
def test_no_distribution_is_disabled_by_a_part_of_its_name(
    distribution: Install, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OPTIM_DISABLE_PLUGINS", value)
    distribution("fake-plugin", factories={"fake": "m:F"})

    assert [entry.disabled for entry in find_entries(FACTORIES_GROUP)] == [False]
