"""Fixtures for real distributions on a temporary path; a conftest.py imports them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import importlib_metadata
import pytest

from optim_core.discovery import hooks
from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY

__all__ = ["FACTORY", "Install", "clean_process_state", "distribution", "only_fake_distributions"]

Install = Callable[..., Path]
"""The type of the fixture `distribution`."""
FACTORY = "class Factory:\n    def build(self, params): ..."
"""The source of a module with a factory."""


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Installs a distribution as pip would: a dist-info folder and modules in a folder on sys.path.

    `factories` and `hooks` map entry-point names to values, `modules` maps module names to sources;
    `metadata` and `entry_points` replace the text (or bytes) of those files, None leaves METADATA out.
    Without `folder` all distributions of a test share one. Returns the dist-info folder.
    """
    roots: set[Path] = set()

    def install(
        name: str,
        version: str = "1.0",
        *,
        factories: Mapping[str, str] | None = None,
        hooks: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        metadata: str | bytes | None = "default",
        entry_points: str | bytes | None = None,
        folder: str = "site",
    ) -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        if root not in roots:
            roots.add(root)
            # Not syspath_prepend, which can't be combined with replacing sys.path.
            monkeypatch.setattr(sys, "path", [str(root), *sys.path])
        info = root / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        if metadata == "default":
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        if metadata is not None:
            (info / "METADATA").write_bytes(_bytes(metadata))
        if entry_points is None:
            entry_points = _section("optim.factories", factories) + _section("optim.hooks", hooks)
        (info / "entry_points.txt").write_bytes(_bytes(entry_points))
        for module, source in (modules or {}).items():
            (root / f"{module}.py").write_text(dedent(source), encoding="utf-8")
        _forget_listings()
        return info

    yield install
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).parent in roots:
            del sys.modules[name]
    _forget_listings()


@pytest.fixture
def only_fake_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes every folder of really installed distributions off sys.path; what is imported stays imported."""
    kept = [p for p in sys.path if Path(p).is_relative_to(tmp_path) or not any(Path(p).glob("*.dist-info"))]
    monkeypatch.setattr(sys, "path", kept)
    _forget_listings()


@pytest.fixture(autouse=True)
def clean_process_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has its own hook manager, and finds and leaves nothing in the process-wide registry."""
    monkeypatch.setattr(hooks, "_manager", None)
    OPTIMIZER_BUILDER_REGISTRY.refresh()
    yield
    # Not by entries(), which would read the metadata of all that is installed after each test.
    for key in list(OPTIMIZER_BUILDER_REGISTRY._registered):
        OPTIMIZER_BUILDER_REGISTRY.unregister(key)
    OPTIMIZER_BUILDER_REGISTRY.refresh()


def _section(group: str, points: Mapping[str, str] | None) -> str:
    if not points:
        return ""
    return f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _forget_listings() -> None:
    # Folder listings are cached by modification time, which is too coarse for a test.
    importlib.invalidate_caches()
    importlib_metadata.MetadataPathFinder.invalidate_caches()
