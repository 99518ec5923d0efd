"""What was saved once is loaded by every later version, and training goes on from it as it did then."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader

from optim_core import CheckpointMismatchError, ResumeWarning, load_checkpoint

from .cases import CASES
from .models import parameters_of
from .run import Case, Run, go_on, load, save, start, start_later, uncompiled

FILES = Path(__file__).with_name("files")
OF_THEIR_OWN = [name for name, case in CASES.items() if case.saved_as is None]
STATE_DICTS = [name for name, case in CASES.items() if case.form == "state_dict" and case.warning is None]
CHANGED_CONFIGURATIONS = [name for name, case in CASES.items() if case.warning and case.warning[0] is ResumeWarning]

# Relative and absolute, by the precision of the weights. Fused, foreach and single operations, and processors, round
# differently: by a few units in the last place (2e-16, 1e-7, 8e-3) for each of three updates. A wrong position, rate,
# decay or moment moves these weights by 1e-4 and more, which bfloat16 alone can't always tell.
TOLERANCES = {
    torch.float64: (1e-11, 1e-13),
    torch.complex128: (1e-11, 1e-13),
    torch.float32: (1e-5, 1e-6),
    torch.bfloat16: (2e-2, 1e-3),
}
# Rates are calculated by Python, in double precision.
RATE_TOLERANCE = 1e-12


@pytest.fixture(autouse=True)
def without_compiler() -> Iterator[None]:
    with uncompiled():
        yield


def folder_of(name: str) -> Path:
    """The folder that the files of a case are in."""
    return FILES / (CASES[name].saved_as or name)


def expected_of(name: str) -> dict[str, Any]:
    """What was seen when the files of a case were written."""
    found: dict[str, Any] = json.loads((FILES / name / "expected.json").read_text(encoding="utf-8"))
    return found


def require_same(found: Any, expected: Any, tolerance: float, where: str) -> None:
    """The same names, numbers and modes; numbers but for a relative tolerance."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name, value in expected.items():
            require_same(found[name], value, tolerance, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            require_same(found[index], value, tolerance, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=tolerance), f"{where} is {found}, not {expected}"
    else:
        assert type(found) is type(expected), f"{where} is {found!r}, not {expected!r}"
        assert found == expected, where


def plain(extra: Mapping[str, Any]) -> dict[str, Any]:
    """An `extra` as it can be compared; a tensor as its type and values."""
    return {k: (v.dtype, v.tolist()) if isinstance(v, torch.Tensor) else v for k, v in extra.items()}


def tolerance_of_rates(run: Run) -> float:
    """That of the least precise rate; rates that are tensors are rounded to their own precision."""
    rates = [group["lr"] for optimizer in run.each.values() for group in optimizer.param_groups]
    return max(2 * torch.finfo(r.dtype).eps if isinstance(r, torch.Tensor) else RATE_TOLERANCE for r in rates)


def weights_differ(run: Run, found: dict[str, list[float]], expected: dict[str, list[float]]) -> list[str]:
    """The weights that differ by more than rounding can make them."""
    assert found.keys() == expected.keys()
    dtypes = {name: parameter.dtype for name, parameter in parameters_of(run.models).items()}
    return [
        f"{name} is {found[name]}, not {values}"
        for name, values in expected.items()
        for relative, absolute in [TOLERANCES[dtypes[name]]]
        if not all(
            math.isclose(a, b, rel_tol=relative, abs_tol=absolute) for a, b in zip(found[name], values, strict=True)
        )
    ]


def require_continuation(case: Case, run: Run, expected: dict[str, Any]) -> None:
    """A run that was loaded is where the one that was saved was, and goes on as expected."""
    tolerance = tolerance_of_rates(run)
    require_same(run.seen(), expected["loaded"], tolerance, "loaded")
    found = go_on(case, run)
    require_same(found["continued"], expected["continued"], tolerance, "continued")
    assert not weights_differ(run, found["weights"], expected["weights"])
    to_evaluate = expected.get("evaluation_weights", expected["weights"])
    assert not weights_differ(run, run.evaluation_weights(), to_evaluate)


def without_schedule(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict of an optimizer, or of several by component, as tools make it that know PyTorch's keys only."""
    if "param_groups" in state:
        return {key: value for key, value in state.items() if key != "scheduler"}
    return {component: without_schedule(of_one) for component, of_one in state.items()}


def digests(folder: Path) -> dict[str, str]:
    """The digest of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def layout_of(folder: Path) -> set[str]:
    """Every file and every key in it, the random part of a folder's name apart."""
    found = set()
    for path in folder.rglob("*"):
        name = re.sub("data-[0-9a-f]{12}", "data-ID", path.relative_to(folder).as_posix())
        if path.is_dir() or name == "expected.json":
            continue
        content: Any = None
        if path.suffix == ".json":
            text = re.sub("data-[0-9a-f]{12}", "data-ID", path.read_text(encoding="utf-8"))
            content = json.loads(text)
        elif path.suffix == ".pt":
            content = torch.load(path, weights_only=True)
        elif path.name == ".metadata":
            content = dict(FileSystemReader(path.parent).read_metadata().state_dict_metadata)
        found |= {f"{name}: {key}" for key in keys_in(content)}
    return found


def keys_in(content: Any, where: str = "") -> Iterator[str]:
    """The path of every value within dictionaries and lists."""
    yield where
    pairs = content.items() if isinstance(content, dict) else ()
    if isinstance(content, (list, tuple)):
        pairs = enumerate(content)
    for key, value in pairs:
        yield from keys_in(value, f"{where}/{key}")


def test_every_case_has_files_and_every_folder_is_a_case() -> None:
    assert {path.name for path in FILES.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_what_was_saved_is_loaded_and_continued(name: str) -> None:
    case, expected, before = CASES[name], expected_of(name), digests(folder_of(name))
    run = start_later(case, expected)
    with case.loading():
        extra = load(case, run, folder_of(name))

    assert plain(extra) == plain(case.extra or {})
    require_continuation(case, run, expected)
    assert digests(folder_of(name)) == before


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].form != "checkpoint"])
def test_a_continuation_without_the_state_is_noticed(name: str) -> None:
    """The tolerances are narrow enough: each file matters."""
    case, expected = CASES[name], expected_of(name)
    if expected["updates"] == 0:
        pytest.skip("before the first step there is no state")
    run = start_later(case, expected)
    # Which is past the end of no schedule: it has begun anew.
    found = go_on(dataclasses.replace(case, past_end=False), run)
    assert weights_differ(run, found["weights"], expected["weights"])


@pytest.mark.parametrize("name", STATE_DICTS)
def test_a_position_is_found_in_the_groups_where_a_tool_dropped_the_schedule(name: str) -> None:
    case, expected = CASES[name], expected_of(name)
    if not expected["loaded"]["schedule_step"]:
        pytest.skip("it has no schedule")
    run = start_later(case, expected)
    load(case, run, folder_of(name), without_schedule)
    require_continuation(case, run, expected)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.form == "checkpoint"])
def test_the_weights_of_a_checkpoint_alone_are_those_to_evaluate(name: str) -> None:
    case, expected = CASES[name], expected_of(name)
    whole, alone = start_later(case, expected), start_later(case, expected)
    with case.loading():
        load(case, whole, folder_of(name))

    load_checkpoint(folder_of(name) / "checkpoint", alone.models, None)
    assert not weights_differ(alone, alone.weights(), whole.evaluation_weights())


@pytest.mark.parametrize("name", CHANGED_CONFIGURATIONS)
def test_a_changed_configuration_is_refused_where_that_is_to_be_an_error(name: str) -> None:
    run = start_later(CASES[name], expected_of(name))
    before = run.seen(), run.weights()
    with pytest.raises(CheckpointMismatchError):
        load_checkpoint(folder_of(name) / "checkpoint", run.models, run.optimizers, on_mismatch="error")
    assert (run.seen(), run.weights()) == before


@pytest.mark.parametrize("name", OF_THEIR_OWN)
def test_what_is_saved_now_has_the_same_files_and_keys(name: str, tmp_path: Path) -> None:
    save(CASES[name], start(CASES[name]), tmp_path)

    # Options that one of the two versions of PyTorch has and the other hasn't are no format of this project's.
    of_torch = set(torch.optim.AdamW([torch.zeros(1)]).defaults) ^ set(
        expected_of(name)["written_by"]["options_of_AdamW"]
    )
    now, then = (
        {key for key in layout_of(folder) if not of_torch & set(re.split(r"[/.]", key))}
        for folder in (tmp_path, FILES / name)
    )
    assert now == then
