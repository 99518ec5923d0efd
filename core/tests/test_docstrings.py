"""The examples in docstrings run."""

from __future__ import annotations

import pytest

import optim_core
from core_support.docstrings import modules_with_examples, run_examples


@pytest.mark.parametrize("module", modules_with_examples(optim_core))
def test_examples_in_docstrings_run(module: str) -> None:
    run_examples(module)
