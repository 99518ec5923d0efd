"""Which distribution a wrapped class comes from."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from optim_core.scaffolding.constructor import NotWrappableError
from optim_core.scaffolding.provider import source_of

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
