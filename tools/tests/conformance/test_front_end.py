"""The front end for pytest, as a plugin's author uses it: a small test file, run in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from optim_tools.conformance import CHECKS

pytestmark = pytest.mark.slow

Pytest = Callable[..., subprocess.CompletedProcess[str]]
Run = Callable[..., dict[str, str]]

FACTORIES = """
import torch
from optim_core import Claims


class Matrices:
    "Takes matrices and vectors."
    example_params = {"lr": 0.05}

    def __init__(self, lr: float):
        self.lr = lr

    def build(self, params):
        params = list(params)
        if any(isinstance(p, torch.Tensor) and p.numel() == 0 for p in params):
            raise ValueError("an empty parameter")
        return torch.optim.SGD(params, lr=self.lr)
"""
CLASS = """
from factories import Claims, Matrices
from optim_tools.conformance import OptimizerConformance

class TestMatrices(OptimizerConformance):
    factory = Matrices
"""
SCALARS, EMPTY = "scalar_parameters", "empty_parameters"
# Of these only, for the sake of time.
CHOSEN = "construction and (builds or scalar or empty or sparse) and not independent"


@pytest.fixture
def run_pytest(tmp_path: Path) -> Pytest:
    """Runs pytest on a test file with this source; what it needs is in `factories`."""

    def run(source: str, *options: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "factories.py").write_text(FACTORIES)
        (tmp_path / "test_plugin.py").write_text(dedent(source))
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rsxf", "--color=no", *options]
        # As wide as can be, since pytest cuts reasons; and without other plugins, which take time.
        environment = {**os.environ, "COLUMNS": "1000", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def outcomes(run_pytest: Pytest) -> Run:
    """Runs a test file, and gives what pytest says of each of its tests."""

    def run(source: str, *options: str) -> dict[str, str]:
        result = run_pytest(source, "-v", "-k", CHOSEN, *options)
        lines = re.findall(r"^test_plugin\.py::(\S+) (.*?) +\[ *\d+%\]$", result.stdout, re.MULTILINE)
        assert lines, result.stdout + result.stderr
        return dict(lines)

    return run


def test_each_check_is_a_test_of_its_own(run_pytest: Pytest) -> None:
    collected = run_pytest(CLASS, "--collect-only", "-q").stdout
    assert re.findall(r"^test_plugin\.py::TestMatrices::test_(\w+)$", collected, re.MULTILINE) == [
        check.identifier.replace("-", "_") for check in CHECKS
    ]


def test_a_class_in_two_lines(outcomes: Run) -> None:
    assert outcomes(CLASS) == {
        "TestMatrices::test_construction_builds": "PASSED",
        "TestMatrices::test_construction_scalar_parameters": "PASSED",
        "TestMatrices::test_construction_empty_parameters": "FAILED",
        "TestMatrices::test_construction_sparse_gradients": "SKIPPED (not claimed: sparse is not claimed)",
    }


def test_a_decorator(outcomes: Run) -> None:
    source = """
        from factories import Matrices
        from optim_tools.conformance import conformance_checks

        @conformance_checks(Matrices, {"lr": 0.1})
        def test_matrices(check):
            check()
    """
    assert outcomes(source) == {
        "test_matrices[construction-builds]": "PASSED",
        "test_matrices[construction-scalar-parameters]": "PASSED",
        "test_matrices[construction-empty-parameters]": "FAILED",
        "test_matrices[construction-sparse-gradients]": "SKIPPED (not claimed: sparse is not claimed)",
    }


def test_a_failure_tells_its_story_and_no_traceback(
    run_pytest: Pytest,
) -> None:
    text = run_pytest(CLASS, "-k", EMPTY).stdout
    (why,) = (check.why for check in CHECKS if check.identifier == "construction-empty-parameters")
    assert f"construction-empty-parameters: {why}\nseen: ValueError: an empty parameter (in Matrices.build, " in text
    assert "\nexpected: no exception\nlikely cause: " in text
    assert "Traceback" not in text
    assert "pytest_front_end.py" not in text


def test_an_expected_failure_is_one_for_pytest_too(outcomes: Run) -> None:
    claims = 'claims = Claims(expected_failures={"construction-empty-parameters": "of no use here"})'
    found = outcomes(f"{CLASS}    {claims}\n")
    said = found["TestMatrices::test_construction_empty_parameters"]
    assert said.startswith("XFAIL (of no use here (seen: ValueError: an empty parameter (in ")
    assert "FAILED" not in found.values()


def test_an_expected_failure_that_passes_after_all_fails(
    run_pytest: Pytest,
) -> None:
    claims = 'claims = Claims(expected_failures={"construction-scalar-parameters": "they are no matrices"})'
    result = run_pytest(f"{CLASS}    {claims}\n", "-k", SCALARS)
    assert result.returncode == 1
    assert "\nseen: the check passes\nexpected: that it fails, as declared: they are no matrices\n" in result.stdout


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("construction-scalar-params", "is no check. Did you mean 'construction-scalar-parameters'?"),
        ("nonsense", "is no check. `optim verify --list` has them all"),
    ],
)
def test_claims_about_checks_that_don_t_exist_are_an_error(run_pytest: Pytest, name: str, says: str) -> None:
    result = run_pytest(f"{CLASS}    claims = Claims(expected_failures={{{name!r}: 'so'}})\n", "-k", SCALARS)
    assert result.returncode == 1
    assert f"InvalidArgumentsError: Matrices: CLAIMS.expected_failures[{name!r}]: {says}" in result.stdout


def test_a_test_of_the_author_s_own_takes_the_place_of_a_check_s(outcomes: Run) -> None:
    own = "    def test_construction_empty_parameters(self):\n        pass\n"
    assert outcomes(f"{CLASS}{own}")["TestMatrices::test_construction_empty_parameters"] == "PASSED"


def test_a_class_that_is_inherited_from_once_more_has_its_own_subject(outcomes: Run) -> None:
    source = f"""{CLASS}
class TestOthers(TestMatrices):
    claims = Claims(empty=False)
"""
    found = outcomes(source, "--deselect", "test_plugin.py::TestMatrices::test_construction_scalar_parameters")
    assert found["TestMatrices::test_construction_empty_parameters"] == "FAILED"
    said = found["TestOthers::test_construction_empty_parameters"]
    assert said == "SKIPPED (not claimed: empty is not claimed)"
