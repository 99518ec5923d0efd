"""Which distribution a class comes from, and what becomes of one that comes from none."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import importlib_metadata
from packaging.utils import canonicalize_name
from packaging.version import Version

from optim_tools.scaffolding.constructor import NotWrappableError
from optim_tools.scaffolding.wrapping import Source

__all__ = ["source_of"]

_REQUIRED_ANYWAY = {"optim-core", "torch"}


def source_of(module: ModuleType) -> Source:
    """Where a module comes from.

    One that no distribution has, a file in the current folder say, is to be copied; a package isn't, as
    nobody can tell what belongs to it.

    Raises:
        NotWrappableError: nobody could install what the new plugin would need.
    """
    top = module.__name__.partition(".")[0]
    provider = next(_providers(module.__name__, module.__file__), None)
    if provider is not None:
        return Source(_requirement(provider), _is_typed(top))
    file = Path(module.__file__) if module.__file__ else None
    if file is None or file.suffix != ".py" or module.__name__ != top or module.__spec__ is None:
        raise NotWrappableError(_of_no_distribution(top))
    if module.__spec__.submodule_search_locations is not None:
        raise NotWrappableError(_of_no_distribution(top))
    text = file.read_text(encoding="utf-8")
    return Source(None, text=text, imported=tuple(sorted(set(_requirements_of(text)))))


def _of_no_distribution(top: str) -> str:
    return (
        f"is in the package {top}, which no installed distribution has, so that nobody could install the plugin; "
        f"install {top} with pip first, or name a class in a single module, which is copied"
    )


def _requirements_of(text: str) -> Iterator[str]:
    """What the imports of a module need that is neither of Python nor required by every plugin."""
    for top, optional in dict.fromkeys(_imports(ast.parse(text), optional=False)):
        if top in sys.stdlib_module_names:
            continue
        # For a module that is imported and has no __spec__, find_spec() raises.
        spec = importlib.util.find_spec(top) if top not in sys.modules else sys.modules[top].__spec__
        provider = next(_providers(top, None if spec is None else spec.origin), None)
        if provider is None and not optional:
            raise NotWrappableError(
                f"is in a module that imports {top}, which is neither of Python itself nor of an installed "
                f"distribution, so that a copy would lack it; install {top} with pip first, or put what is needed of "
                "it into the module"
            )
        if provider is not None and not optional and canonicalize_name(provider.name) not in _REQUIRED_ANYWAY:
            yield _requirement(provider)


def _imports(node: ast.AST, *, optional: bool) -> Iterator[tuple[str, bool]]:
    """The top packages that are imported, each with whether it works without: where the import may fail."""
    if isinstance(node, ast.Import):
        yield from ((alias.name.partition(".")[0], optional) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
        yield node.module.partition(".")[0], optional
    may_fail = isinstance(node, ast.Try) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, optional=optional or may_fail)


def _providers(module: str, file: str | None) -> Iterator[Any]:
    """The distributions that a module is from.

    Args:
        module: its full name.
        file: where it is; None where it is in none.
    """
    top = module.partition(".")[0]
    for name in sorted(importlib_metadata.packages_distributions().get(top, [])):
        yield importlib_metadata.distribution(name)
    # An editable installation doesn't list its modules, but has the folder that they are in.
    for distribution in importlib_metadata.distributions():
        if _is_editable(distribution) and any(
            _leads_to(installed, module, file) for installed in distribution.files or ()
        ):
            yield distribution


def _is_editable(distribution: Any) -> bool:
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    return bool(origin.get("dir_info", {}).get("editable"))


def _leads_to(entry: Any, module: str, file: str | None) -> bool:
    """Whether a file of an editable installation has Python find a module."""
    installed = Path(entry.locate())
    if file is None or not installed.is_file():
        return False
    depth = module.count(".") + (Path(file).stem == "__init__")
    if installed.suffix == ".pth":
        root = Path(file).resolve().parents[depth]
        return any(Path(line).resolve() == root for line in installed.read_text(encoding="utf-8").splitlines() if line)
    # What setuptools writes where a folder on the path won't do: a module with a table of packages.
    return installed.name.startswith("__editable__") and f"'{module.partition('.')[0]}'" in installed.read_text(
        encoding="utf-8"
    )


def _requirement(distribution: Any) -> str:
    # Without what names a build: no index has `2.13.0+cpu`.
    return f"{distribution.metadata['Name']}>={Version(distribution.version).public}"


def _is_typed(top: str) -> bool:
    spec = importlib.util.find_spec(top)
    folders = spec.submodule_search_locations if spec is not None else None
    stubs = importlib.util.find_spec(f"{top}-stubs") is not None
    return stubs or any(Path(folder, "py.typed").is_file() for folder in folders or ())
