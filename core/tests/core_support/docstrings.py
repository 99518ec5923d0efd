"""Running the examples in the docstrings of a package."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path
from types import ModuleType

__all__ = ["modules_with_examples", "run_examples"]


def modules_with_examples(package: ModuleType) -> list[str]:
    """The names of a package's modules in whose docstrings there is an example."""
    root = Path(str(package.__file__)).parent
    found = [path for path in sorted(root.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    parts = [path.relative_to(root.parent).with_suffix("").parts for path in found]
    return [".".join(p).removesuffix(".__init__") for p in parts]


def run_examples(module: str) -> None:
    """Run the examples of one module, of which there has to be one at least."""
    results = doctest.testmod(import_module(module))
    assert results.attempted > 0
    assert results.failed == 0
