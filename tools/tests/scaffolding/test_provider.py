"""Which distribution a wrapped class comes from."""

from __future__ import annotations

import importlib
import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from optim_tools.inspection.core_requirement import core_requirement
from optim_tools.scaffolding.author import PLACEHOLDER
from optim_tools.scaffolding.constructor import NotWrappableError
from optim_tools.scaffolding.licenses import LICENSES
from optim_tools.scaffolding.names import PluginNames
from optim_tools.scaffolding.plugin import Plugin
from optim_tools.scaffolding.project_file import project_file
from optim_tools.scaffolding.provider import source_of
from optim_tools.scaffolding.wrapping import Wrapping

Install = Callable[..., Path]


def test_requirement_has_the_version_that_was_seen(distribution: Install) -> None:
    info = distribution("some-lions", "3.1+cpu", modules={"lions_of_some": ""})
    (info / "RECORD").write_text("lions_of_some.py,,\n")

    source = source_of(importlib.import_module("lions_of_some"))

    assert source.requirement == "some-lions>=3.1"
    assert not source.typed
    assert source.text is None


def test_an_editable_installation_is_found_by_its_folder(
    distribution: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "project" / "src" / "edited_lions"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "py.typed").touch()
    monkeypatch.syspath_prepend(package.parent)
    info = distribution("edited-lions", "0.2")
    origin = {"url": (tmp_path / "project").as_uri(), "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    (info / "RECORD").write_text("edited_lions.pth,,\n")
    (info.parent / "edited_lions.pth").write_text(f"{package.parent}\n")

    source = source_of(importlib.import_module("edited_lions"))

    assert (source.requirement, source.typed) == ("edited-lions>=0.2", True)


def test_what_lies_beside_an_editable_installation_is_not_its_own(
    distribution: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_lions.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    info = distribution("edited-lions", "0.2")
    (info / "direct_url.json").write_text(json.dumps({"url": tmp_path.as_uri(), "dir_info": {"editable": True}}))
    (info / "RECORD").write_text("edited_lions.pth,,\n")
    (info.parent / "edited_lions.pth").write_text(f"{tmp_path / 'src'}\n")

    assert source_of(importlib.import_module("beside_lions")).requirement is None


def test_a_module_of_no_distribution_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stray_lion.py").write_text("LIONS = 1\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert source_of(importlib.import_module("stray_lion")).text == "LIONS = 1\n"


def test_a_package_of_no_distribution_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stray_lions").mkdir()
    (tmp_path / "stray_lions" / "__init__.py").touch()
    (tmp_path / "stray_lions" / "lion.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    for name in ("stray_lions", "stray_lions.lion"):
        with pytest.raises(NotWrappableError, match="install stray_lions with pip first"):
            source_of(importlib.import_module(name))


COPIED = """
from __future__ import annotations
import json, some_helper
from typing import TYPE_CHECKING
import torch
from optim_core import Beta
try:
    import nowhere_to_be_found
except ImportError:
    pass
if TYPE_CHECKING:
    from nowhere_either import Lion
"""


def test_what_a_copied_module_imports_is_required(
    distribution: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = distribution("some-helper", "2.0", modules={"some_helper": ""})
    (info / "RECORD").write_text("some_helper.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stray_puma.py").write_text(COPIED)

    source = source_of(importlib.import_module("stray_puma"))

    assert source.imported == ("some-helper>=2.0",)
    plugin = Plugin(PluginNames("optim-a", "optim_a", "a", "A"), PLACEHOLDER, LICENSES["MIT"], 2031)
    wrapping = Wrapping("stray_puma", "Puma", "Puma.", (), source=source)
    project = tomllib.loads(project_file(replace(plugin, wrapping=wrapping)))["project"]
    assert project["dependencies"] == [core_requirement(), "some-helper>=2.0", "torch>=2.10"]


def test_a_module_that_imports_another_of_no_distribution_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stray_helper.py").write_text("X = 1\n")
    (tmp_path / "stray_tiger.py").write_text("def tiger():\n    from stray_helper import X\n    return X\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(NotWrappableError, match="imports stray_helper, which is neither of Python itself nor of an"):
        source_of(importlib.import_module("stray_tiger"))
