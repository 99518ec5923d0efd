"""Errors of every type survive pickling, with all that they carry."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from optim_core.errors import (
    CheckpointError,
    CheckpointMismatchError,
    ConfigurationError,
    DuplicateOptimizerError,
    FactoryLoadError,
    InvalidArgumentsError,
    InvalidFactoryError,
    OptimError,
    Problem,
    StateMismatchError,
    UnknownOptimizerError,
)

ERRORS: list[Exception] = [
    UnknownOptimizerError("alhpa", ["alpha", "beta"], ["alpha"]),
    UnknownOptimizerError("alpha", reason="disabled"),
    DuplicateOptimizerError("alpha", ["a 1.0", "b 2.0"], "Uninstall one"),
    FactoryLoadError("alpha", "alpha-plugin", "1.0", "a:F", ModuleNotFoundError("No module named 'a'", name="a")),
    InvalidFactoryError("alpha", "alpha-plugin", "it has no method 'build'"),
    InvalidArgumentsError("Factory", [Problem("lr", "= 0: must be more", "Raise it", 3), Problem("", "no")]),
    ConfigurationError("config.yaml", [Problem("a.b", "no such key", cause=OSError(2, "gone"))]),
    StateMismatchError("the state is of others"),
    CheckpointError(Path("somewhere"), "is damaged"),
    CheckpointMismatchError(Path("somewhere"), [Problem("a", "differs"), Problem("b", "differs")]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert isinstance(copy, OptimError)
    assert str(copy) == str(error)
    # Exceptions compare by identity: those among the attributes are compared by what they show.
    assert {k: repr(v) for k, v in vars(copy).items()} == {k: repr(v) for k, v in vars(error).items()}
