"""The code in the documentation runs."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("module", ["assignment", "optimizer"])
def test_examples_of_docstrings_show_what_they_do(module: str) -> None:
    results = doctest.testmod(import_module(f"optim_muon.{module}"))

    assert (results.attempted > 0, results.failed) == (True, 0)


def test_code_of_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)

    assert blocks
    for block in blocks:
        exec(compile(block, str(README), "exec"), {"__name__": "readme"})
