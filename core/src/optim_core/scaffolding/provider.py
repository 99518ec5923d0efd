"""Which distribution a class comes from, and what becomes of one that comes from none."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import importlib_metadata
from packaging.version import Version

from optim_core.scaffolding.constructor import NotWrappableError
from optim_core.scaffolding.wrapping import Source

__all__ = ["source_of"]


def source_of(module: ModuleType) -> Source:
    """Where a module comes from.

    One that no distribution has, a file in the current folder say, is to be copied; a package isn't, as
    nobody can tell what belongs to it.

    Raises:
        NotWrappableError: nobody could install what the new plugin would need.
    """
    top = module.__name__.partition(".")[0]
    provider = next(_providers(top, module), None)
    if provider is not None:
        return Source(_requirement(provider), _is_typed(top))
    file = Path(module.__file__) if module.__file__ else None
    if file is None or file.suffix != ".py" or module.__name__ != top or module.__spec__ is None:
        raise NotWrappableError(_of_no_distribution(top))
    if module.__spec__.submodule_search_locations is not None:
        raise NotWrappableError(_of_no_distribution(top))
    return Source(None, text=file.read_text(encoding="utf-8"))


def _of_no_distribution(top: str) -> str:
    return (
        f"is in the package {top}, which no installed distribution has, so that nobody could install the plugin; "
        f"install {top} with pip first, or name a class in a single module, which is copied"
    )


def _providers(top: str, module: ModuleType) -> Iterator[Any]:
    for name in sorted(importlib_metadata.packages_distributions().get(top, [])):
        yield importlib_metadata.distribution(name)
    # An editable installation doesn't list its modules, but has the folder that they are in.
    for distribution in importlib_metadata.distributions():
        if _is_editable(distribution) and any(_leads_to(file, top, module) for file in distribution.files or ()):
            yield distribution


def _is_editable(distribution: Any) -> bool:
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    return bool(origin.get("dir_info", {}).get("editable"))


def _leads_to(file: Any, top: str, module: ModuleType) -> bool:
    """Whether a file of an editable installation has Python find a module."""
    installed = Path(file.locate())
    if module.__file__ is None or not installed.is_file():
        return False
    depth = module.__name__.count(".") + (Path(module.__file__).stem == "__init__")
    if installed.suffix == ".pth":
        root = Path(module.__file__).resolve().parents[depth]
        return any(Path(line).resolve() == root for line in installed.read_text(encoding="utf-8").splitlines() if line)
    # What setuptools writes where a folder on the path won't do: a module with a table of packages.
    return installed.name.startswith("__editable__") and f"'{top}'" in installed.read_text(encoding="utf-8")


def _requirement(distribution: Any) -> str:
    # Without what names a build: no index has `2.13.0+cpu`.
    return f"{distribution.metadata['Name']}>={Version(distribution.version).public}"


def _is_typed(top: str) -> bool:
    spec = importlib.util.find_spec(top)
    folders = spec.submodule_search_locations if spec is not None else None
    stubs = importlib.util.find_spec(f"{top}-stubs") is not None
    return stubs or any(Path(folder, "py.typed").is_file() for folder in folders or ())
