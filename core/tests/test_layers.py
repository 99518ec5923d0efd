"""What import-linter's contract can't see: imports by way of the package itself, and those of stubs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import optim_core

SOURCES = Path(optim_core.__file__).parent


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py*i")), ids=lambda path: str(path.relative_to(SOURCES)))
def test_stubs_import_from_the_modules_of_the_package_alone(path: Path) -> None:
    imports = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
    ]

    assert imports
    assert all(node.level == 1 and node.module for node in imports)


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCES)))
def test_nothing_inside_imports_from_the_package_itself(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))

    by_name = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    from_package = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "optim_core"]
    relative = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
    assert [name for name in by_name if name.partition(".")[0] == "optim_core"] == []
    assert from_package == relative == []
