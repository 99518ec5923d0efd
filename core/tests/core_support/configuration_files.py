"""Configurations in files of a test: how they are written, why they are refused, and on which lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from optim_core.configuration.reading import read_configuration
from optim_core.errors import ConfigurationError, Problem

SPECS = {"backbone": {"type": "adamw", "params": {"lr": 0.1}}, "head": {"type": "sgd"}}
Write = Callable[[str | bytes], Path]


def refusal(source: Mapping[Any, Any] | str | Path) -> Problem:
    """The one problem for which the whole configuration is refused."""
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(source)
    (problem,) = caught.value.problems
    return problem


def located(path: Path, component: str, argument: str) -> int | None:
    """The line of a problem with one argument of a component."""
    configuration = read_configuration(path)
    return configuration.locate(Problem(argument, "is wrong"), configuration.specs[component], "params").line
