"""`optim verify`: the table, JSON and the status, and plugins that crash, hang or end Python in a check."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., Path]

GOOD = """
import torch

class Factory:
    "Stochastic gradient descent."
    example_params = {"lr": 0.05}

    def __init__(self, lr: float, momentum: float = 0.9):
        self.lr, self.momentum = lr, momentum

    def build(self, params):
        return torch.optim.SGD(params, lr=self.lr, momentum=self.momentum)
"""
# Each parameter of a special kind is the end of a check.
FATAL = """
import os, signal, sys, time
import torch

def deadlock():
    while True:
        time.sleep(0.1)

class SGD(torch.optim.SGD):
    def add_param_group(self, group):
        super().add_param_group(group)
        for parameter in self.param_groups[-1]["params"]:
            if parameter.ndim == 0:
                os.kill(os.getpid(), signal.SIGSEGV)
            if parameter.numel() == 0:
                deadlock()
            if parameter.dtype == torch.bfloat16:
                print("no half precision here")
                os._exit(3)

class Factory:
    "Ends."
    {claims}
    def build(self, params):
        return SGD(params, lr=0.1)
"""
BUILDS, SCALARS = "construction-builds", "construction-scalar-parameters"
EMPTY, BFLOAT16 = "construction-empty-parameters", "construction-bfloat16-parameters"


@pytest.fixture
def verify(distribution: Install, optim: Run) -> Run:
    """`optim verify some.key` of a plugin with this source, with certain checks."""

    def run(source: str, *arguments: str, checks: tuple[str, ...] = (BUILDS,)) -> subprocess.CompletedProcess[str]:
        distribution("optim-plugin", factories={"some.key": "plugin:Factory"}, modules={"plugin": source})
        return optim("verify", "some.key", *arguments, *(f"--check={check}" for check in checks))

    return run


def rows(result: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The table's cells."""
    lines = result.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("check "))
    table = lines[start + 1 : lines.index("", start)]
    return [re.split(r"  +", line) for line in table]


def checks_of(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """The checks of a JSON document."""
    return {check["identifier"]: check for check in json.loads(result.stdout)["checks"]}


def test_a_plugin_that_passes(verify: Run) -> None:
    result = verify(GOOD)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["some.key from optim-plugin 1.0 (plugin:Factory)", "with lr=0.05"]
    assert [row[:2] for row in rows(result)] == [[BUILDS, "passed"]]
    assert lines[-1] == "1 passed"


CLAIMING = """
import torch
from optim_core import Claims

class Factory:
    "Matrices only."
    CLAIMS = Claims(scalars=False, expected_failures={"construction-empty-parameters": "of no use here"})

    def build(self, params):
        params = list(params)
        if any(isinstance(p, torch.Tensor) and p.numel() == 0 for p in params):
            raise ValueError("an empty parameter")
        return torch.optim.SGD(params, lr=0.1)
"""


def test_what_isn_t_claimed_or_is_expected_to_fail_is_shown_as_such(verify: Run) -> None:
    result = verify(CLAIMING, checks=(BUILDS, SCALARS, EMPTY, "packaging-key", "schedule-held-past-end"))
    assert result.returncode == 0
    found = {row[0]: (row[1], row[3:]) for row in rows(result)}
    assert found == {
        BUILDS: ("passed", []),
        SCALARS: ("not claimed", ["scalars is not claimed"]),
        EMPTY: ("expected failure", ["of no use here"]),
        "packaging-key": ("passed", []),
        "schedule-held-past-end": ("not applicable", ["it has no learning-rate schedule"]),
    }
    assert result.stdout.splitlines()[-1] == "2 passed, 1 not claimed, 1 expected failure, 1 not applicable"


def test_a_failure_tells_its_story(verify: Run) -> None:
    source = CLAIMING.replace("construction-empty-parameters", "construction-builds")
    result = verify(source, checks=(BUILDS, SCALARS, EMPTY))
    assert result.returncode == 1
    text = result.stdout
    assert "\nfailed: construction-empty-parameters\n  why it matters: A layer of size zero" in text
    assert "\n  seen:           ValueError: an empty parameter (in Factory.build, " in text
    assert "\n  expected:       no exception\n  likely cause:   " in text
    assert "\nunexpected pass: construction-builds\n" in text
    assert "  expected:       that it fails, as declared: of no use here" in text
    assert text.splitlines()[-1] == "1 not claimed; 1 unexpected pass, 1 failed"


def test_json_has_all_of_it(verify: Run) -> None:
    result = verify(CLAIMING, "--json", checks=(BUILDS, SCALARS, EMPTY))
    document = json.loads(result.stdout)
    checks = document.pop("checks")
    assert document == {
        "ok": True,
        "key": "some.key",
        "distribution": "optim-plugin",
        "version": "1.0",
        "value": "plugin:Factory",
        "params": {},
        "counts": {"passed": 1, "not claimed": 1, "expected failure": 1},
    }
    nothing = {"reason": None, "seen": None, "expected": None, "cause": None}
    assert [check["identifier"] for check in checks] == [BUILDS, SCALARS, EMPTY]
    assert checks[0] == {
        "identifier": BUILDS,
        "outcome": "passed",
        "seconds": checks[0]["seconds"],
        "why": checks[0]["why"],
        **nothing,
    }
    assert checks[2]["outcome"] == "expected failure"
    assert checks[2]["reason"] == "of no use here"
    assert checks[2]["seen"].startswith("ValueError: an empty parameter")


def test_a_check_that_the_process_doesn_t_survive_costs_that_check_only(verify: Run) -> None:
    checks = (BUILDS, SCALARS, EMPTY, BFLOAT16, "packaging-key")
    result = verify(FATAL.format(claims=""), "--json", "--timeout", "8", checks=checks)
    assert result.returncode == 1
    found = checks_of(result)
    assert {name: check["outcome"] for name, check in found.items()} == {
        BUILDS: "passed",
        SCALARS: "failed",
        EMPTY: "failed",
        BFLOAT16: "failed",
        "packaging-key": "passed",
    }
    crash, hang, end = (found[name] for name in (SCALARS, EMPTY, BFLOAT16))
    assert re.fullmatch(r"it crashes Python \(SIGSEGV\) at .*plugin\.py, line 14", crash["seen"])
    assert re.fullmatch(r"it hangs at .*plugin\.py, line 7, for more than 8 s", hang["seen"])
    assert end["seen"] == "it ends Python with exit status 3; the last it said: no half precision here"
    assert {check["expected"] for check in (crash, hang, end)} == {"that the check comes to its end"}
    assert "os._exit" in end["cause"]
    # What was said is shown, with what shows where it crashed.
    assert "no half precision here\n" in result.stderr
    assert "Fatal Python error: Segmentation fault" in result.stderr


def test_such_an_end_may_be_expected(verify: Run) -> None:
    claims = f"from optim_core import Claims; CLAIMS = Claims(expected_failures={{{SCALARS!r}: 'known to crash'}})"
    result = verify(FATAL.format(claims=claims), "--json", checks=(SCALARS,))
    assert result.returncode == 0
    (check,) = checks_of(result).values()
    assert (check["outcome"], check["reason"]) == ("expected failure", "known to crash")
    assert check["seen"].startswith("it crashes Python (SIGSEGV)")


def test_what_a_plugin_prints_is_no_part_of_the_output(verify: Run) -> None:
    source = f"import os\nprint('imported')\nos.system('echo from elsewhere')\n{GOOD}"
    result = verify(source, "--json")
    assert checks_of(result)[BUILDS]["outcome"] == "passed"
    assert sorted(result.stderr.split("\n")) == ["", "from elsewhere", "imported"]


def test_params_are_those_given(verify: Run) -> None:
    document = json.loads(verify(GOOD, "lr=1e-3", "momentum=0.5", "--json").stdout)
    assert document["params"] == {"lr": 0.001, "momentum": 0.5}
    assert document["ok"]


def test_params_that_don_t_do_are_named_with_some_that_do(verify: Run) -> None:
    result = verify(GOOD, "lrr=1e-3")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "optim: error: some.key: 2 problems",
        "  some.key: lrr: no such argument. Did you mean 'lr'?",
        "  some.key: lr: required, but not given",
        "For example: optim verify some.key lr=0.05",
    ]


UNUSABLE = {
    "raises": (
        "raise RuntimeError('no')",
        "the factory of 'some.key' (plugin:Factory, from optim-plugin 1.0) can't be",
    ),
    "crashes": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGABRT)",
        "the plugin of 'some.key' can't be verified: it crashes Python (SIGABRT) at ",
    ),
    "ends": (
        "import os\nos._exit(4)",
        "the plugin of 'some.key' can't be verified: it ends Python with exit status 4",
    ),
    "claims": (
        f"{GOOD}\n    CLAIMS = ['sparse']",
        "some.key: CLAIMS: is ['sparse'], not an optim_core.Claims. Mend the factory class",
    ),
    "misspelt": (
        f"from optim_core import Claims\n{GOOD}\n    CLAIMS = Claims(expected_failures={{'construction-build': 'so'}})",
        "some.key: CLAIMS.expected_failures['construction-build']: is no check. Did you mean 'construction-builds'?",
    ),
    "params": (
        "class Factory:\n    def __init__(self, name: str): ...\n    def build(self, params): ...",
        "some.key: name: no values are known with which it builds. ",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_plugin_of_which_nothing_can_be_checked_is_one_clear_line(verify: Run, name: str) -> None:
    source, line = UNUSABLE[name]
    result = verify(source)
    assert (result.returncode, result.stdout) == (1, "")
    said = [text for text in result.stderr.splitlines() if text.startswith("optim: error: ")]
    assert len(said) == 1
    assert said[0].startswith(f"optim: error: {line}")


def test_the_traceback_of_the_other_process_comes_when_asked_for(verify: Run) -> None:
    result = verify("import json\njson.loads('{')", "--traceback")
    assert result.returncode == 1
    assert "plugin.py" in result.stderr
    assert "json.loads('{')" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["some.kei"], "no optimizer is known as 'some.kei'; did you mean 'some.key'?"),
        (["some.key", "lr"], "'lr' is no parameter: write it as name=value"),
        (["some.key", "--check", "state-pickel"], "there is no check 'state-pickel'. Did you mean 'state-pickle'"),
        (["--list", "--check", "konstruction"], "there is no check 'konstruction'. Did you mean 'construction'"),
        ([], "Missing argument 'KEY'. `optim list` has those there are"),
        (["some.key", "--list"], "--list is about all keys: leave KEY out, or --list"),
    ],
)
def test_a_command_line_that_can_t_be_followed(
    distribution: Install, optim: Run, arguments: list[str], line: str
) -> None:
    distribution("optim-plugin", factories={"some.key": "plugin:Factory"}, modules={"plugin": GOOD})
    result = optim("verify", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[0].startswith(f"optim: error: {line}")


def test_the_checks_are_listed_with_why_they_matter(optim: Run) -> None:
    result = optim("verify", "--list")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^construction-builds  +Whoever names the optimizer", result.stdout, re.MULTILINE)
    assert re.search(r"^construction-sparse-gradients .* sparse$", result.stdout, re.MULTILINE)

    some = json.loads(optim("verify", "--list", "--json", "--check", "packaging", "--check", BUILDS).stdout)
    assert [check["identifier"] for check in some][:2] == [BUILDS, "packaging-entry-point"]
    assert {check["identifier"].partition("-")[0] for check in some} == {"construction", "packaging"}
    assert some[0] == {"identifier": BUILDS, "why": some[0]["why"], "claim": None}


def test_an_interruption_leaves_no_process_behind(
    distribution: Install, script: Path, all_ended: Callable[..., bool], tmp_path: Path
) -> None:
    note = tmp_path / "pids"
    source = f"""
        import os, subprocess, time
        class Factory:
            def build(self, params):
                if os.path.exists({str(note)!r}):
                    other = subprocess.Popen(["sleep", "300"])
                    open({str(note)!r}, "w").write(f"{{os.getpid()}} {{other.pid}} ")
                    time.sleep(300)
                import torch
                return torch.optim.SGD(params, lr=0.1)
    """
    distribution("optim-plugin", factories={"slow": "plugin:Factory"}, modules={"plugin": source})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [str(script), "verify", "slow", "--check", BUILDS]
    note.touch()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not note.read_text().endswith(" ") and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said.strip()) == (130, "optim: error: interrupted")
    pids = [int(pid) for pid in note.read_text().split()]
    assert len(pids) == 2
    assert all_ended(*pids)


def test_a_terminal_shows_the_check_that_is_carried_out(distribution: Install, in_terminal: Callable[..., str]) -> None:
    distribution("optim-plugin", factories={"some.key": "plugin:Factory"}, modules={"plugin": GOOD})
    seen = in_terminal("stderr", "verify", "some.key", "--check", "construction-builds")
    assert "importing the plugin" in seen
    assert "construction-builds" in seen
