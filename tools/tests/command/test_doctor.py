"""`optim doctor`: versions, every plugin examined apart, what is broken and the command that mends it."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from optim_core import __version__
from optim_core.discovery.factory_entry import FACTORIES_GROUP, HOOKS_GROUP, find_entries

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., Path]
GOOD = """
class Factory:
    "Needs a rate."
    def __init__(self, lr: float): ...
    def build(self, params): ...
"""
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
REALLY_INSTALLED = {group: find_entries(group) for group in (FACTORIES_GROUP, HOOKS_GROUP)}
PIP = "python -m pip"


@pytest.fixture
def doctor(optim: Run) -> Run:
    """`optim doctor`, which leaves out what is really installed: that would be imported each time."""
    installed = {entry.distribution for group in (FACTORIES_GROUP, HOOKS_GROUP) for entry in REALLY_INSTALLED[group]}

    def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        disabled = ",".join([*sorted(installed), environment.pop("OPTIM_DISABLE_PLUGINS", "")])
        result = optim("doctor", *options, OPTIM_DISABLE_PLUGINS=disabled, **environment)
        # A script and a test may call the same interpreter by different names.
        interpreters = re.findall(r"(\S*python\S*) -m pip", result.stdout.replace('"', " "))
        assert all(Path(interpreter).samefile(sys.executable) for interpreter in interpreters)
        result.stdout = re.sub(r'[^\s"]*python\S* -m pip', PIP, result.stdout)
        return result

    return run


def diagnosis(result: subprocess.CompletedProcess[str], distribution: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The state of each entry point of a distribution, and the problems that are about it, by subject."""
    document = json.loads(result.stdout)
    states = {e["key"]: e["state"] for e in document["entry_points"] if e["distribution"] == distribution}
    return states, {p["subject"]: p for p in document["problems"] if distribution in json.dumps(p)}


def test_versions_and_a_plugin_that_is_right(distribution: Install, doctor: Run) -> None:
    distribution("optim-good", factories={"good": "good:Factory"}, modules={"good": GOOD})
    result = doctor("--json")
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert document["versions"]["Python"] == platform.python_version()
    assert document["versions"]["torch"] == torch.__version__
    assert document["versions"]["optim-core"] == document["versions"]["optim-tools"] == __version__
    assert document["versions"]["optim-good"] == "1.0"
    assert document["torch"]["cuda"] == torch.version.cuda
    assert diagnosis(result, "optim-good") == ({"good": "ok"}, {})

    text = doctor()
    assert text.returncode == 0
    assert text.stdout.splitlines()[-1] == "everything is fine"
    assert [line.split()[:5] for line in text.stdout.splitlines() if line.startswith("good ")] == [
        ["good", "optimizer", "optim-good", "1.0", "ok"]
    ]


BROKEN = {
    "raises": ("raise RuntimeError('of\\ntwo lines')", "RuntimeError: of two lines"),
    "lacks": ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
    "leaves": ("import sys\nsys.exit(4)", "SystemExit: 4"),
    "ends": (
        "import os, sys\nsys.stderr.write('bye\\n')\nos._exit(4)",
        "it ends Python with exit status 4; the last it said: bye",
    ),
    "vanishes": ("import os\nos._exit(0)", "it ends Python with exit status 0"),
    "crashes": ("import os, signal\nos.kill(os.getpid(), signal.SIGABRT)", "it crashes Python (SIGABRT)"),
    "nothing": ("", "AttributeError: module 'nothing' has no attribute 'Factory'"),
    "instance": ("Factory = 3", "3 is not a class"),
    "no_build": ("class Factory: ...", "it has no method 'build'"),
    "positional": (
        "class Factory:\n    def __init__(self, lr, /): ...\n    def build(self, params): ...",
        "its constructor takes lr by position only; no configuration can give it",
    ),
    "example": (
        "class Factory:\n    example_params = {'l': 1}\n    def __init__(self, lr=1): ...\n    def build(self, _): ...",
        "no optimizer can be built with its own example_params: InvalidArgumentsError: Factory: l: no such argument. "
        "Did you mean 'lr'?",
    ),
    "builds_text": (
        "class Factory:\n    def build(self, params): return 'text'",
        "no optimizer can be built with its defaults: TypeError: build() returned a str, not a torch.optim.Optimizer",
    ),
    "builds_nothing": (
        "class Factory:\n    example_params = {}\n    def build(self, params): ...",
        "no optimizer can be built with its own example_params: TypeError: build() returned a NoneType, not a "
        "torch.optim.Optimizer",
    ),
}


def test_whatever_is_wrong_with_a_plugin_is_reported_with_its_remedy(distribution: Install, doctor: Run) -> None:
    modules = {name: source for name, (source, _) in BROKEN.items()} | {"good": GOOD}
    keys = {name.replace("_", "."): f"{name}:Factory" for name in BROKEN} | {"good": "good:Factory"}
    distribution("optim-mixed", factories=keys, modules=modules)
    result = doctor("--json")
    assert (result.returncode, result.stderr) == (1, "")
    states, problems = diagnosis(result, "optim-mixed")
    assert states == {key: "ok" if key == "good" else "broken" for key in keys}
    for name, (_, problem) in BROKEN.items():
        found = problems[f"{name.replace('_', '.')} of optim-mixed 1.0 ({name}:Factory)"]
        assert found["problem"] == problem
        assert found["remedies"] == [
            f"{PIP} install --force-reinstall optim-mixed",
            f"{PIP} uninstall optim-mixed",
            found["remedies"][2],
        ]
        assert found["remedies"][2].startswith("export OPTIM_DISABLE_PLUGINS=")
        assert found["remedies"][2].endswith("optim-mixed")


def test_a_plugin_that_hangs_is_reported_with_the_place(distribution: Install, doctor: Run) -> None:
    # What it starts ends with it, and doesn't hold the command up.
    source = "import subprocess, time\nsubprocess.Popen(['sleep', '300'])\ntime.sleep(300)"
    distribution("optim-slow", factories={"slow": "slow:Factory"}, modules={"slow": source})
    started = time.monotonic()
    result = doctor("--json", "--timeout", "10")
    _, problems = diagnosis(result, "optim-slow")
    (problem,) = problems.values()
    assert problem["problem"].startswith("it was not imported and checked within 10 s (it hangs at ")
    assert problem["problem"].endswith("slow.py, line 3)")
    assert time.monotonic() - started < 60


def test_what_a_plugin_leaves_running_is_ended(
    distribution: Install, doctor: Run, all_ended: Callable[..., bool], tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    source = f"""
        import subprocess
        process = subprocess.Popen(['sleep', '300'])
        open({str(note)!r}, 'w').write(str(process.pid))
        class Factory:
            def __init__(self, lr): ...
            def build(self, params): ...
    """
    distribution("optim-leaving", factories={"leaving": "leaving:Factory"}, modules={"leaving": source})
    assert diagnosis(doctor("--json"), "optim-leaving") == ({"leaving": "ok"}, {})
    assert all_ended(int(note.read_text()))


def test_an_interruption_leaves_no_process_behind(
    distribution: Install, script: Path, all_ended: Callable[..., bool], tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    source = f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(300)"
    distribution("optim-slow", factories={"slow": "slow:Factory"}, modules={"slow": source})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([str(script), "doctor"], env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said.strip()) == (130, "optim: error: interrupted")
    assert all_ended(int(note.read_text()))


def test_a_contested_key_is_one_problem_that_names_both(distribution: Install, doctor: Run) -> None:
    distribution("optim-one", factories={"lion": "good:Factory"}, modules={"good": GOOD})
    distribution("optim-two", factories={"lion": "good:Factory"})
    result = doctor("--json")
    states, problems = diagnosis(result, "optim-two")
    assert (result.returncode, states) == (1, {"lion": "contested"})
    assert problems == {
        "lion": {
            "subject": "lion",
            "problem": "claimed by optim-one 1.0 (good:Factory) and by optim-two 1.0 (good:Factory); until one "
            "is gone, nobody can use it",
            "remedies": [f"{PIP} uninstall optim-one", f"{PIP} uninstall optim-two"],
        }
    }


def test_of_two_claimants_the_broken_one_is_the_first_to_go(distribution: Install, doctor: Run) -> None:
    distribution("optim-one", factories={"lion": "good:Factory"}, modules={"good": GOOD})
    distribution("optim-two", factories={"lion": "bad:Factory"}, modules={"bad": "raise RuntimeError"})
    problems = {p["subject"]: p for p in json.loads(doctor("--json").stdout)["problems"]}
    assert problems["lion"]["remedies"] == [f"{PIP} uninstall optim-two", f"{PIP} uninstall optim-one"]


def test_what_is_disabled_is_not_examined(distribution: Install, doctor: Run) -> None:
    distribution("optim-bad", factories={"bad": "bad:Factory"}, modules={"bad": "raise RuntimeError"})
    result = doctor("--json", OPTIM_DISABLE_PLUGINS="optim-bad")
    assert result.returncode == 0
    assert diagnosis(result, "optim-bad") == ({"bad": "disabled"}, {})


def test_a_malformed_key_is_a_problem(distribution: Install, doctor: Run) -> None:
    distribution("optim-odd", factories={"Odd Key": "good:Factory"}, modules={"good": GOOD})
    _, problems = diagnosis(doctor("--json"), "optim-odd")
    (problem,) = problems.values()
    assert problem["problem"].startswith("its key can't be used: a key has lower-case letters")


def test_hooks_are_examined_too(distribution: Install, doctor: Run) -> None:
    good = "from optim_core import hookimpl\n@hookimpl\ndef optim_build(component): ...\n"
    unmarked = "def optim_build(component): ...\n"
    distribution(
        "optim-hooks", hooks={"good": "hooked", "unmarked": "bare"}, modules={"hooked": good, "bare": unmarked}
    )
    states, problems = diagnosis(doctor("--json"), "optim-hooks")
    assert states == {"good": "ok", "unmarked": "broken"}
    (problem,) = problems.values()
    assert problem["problem"] == "TypeError: nothing in it is marked with optim_core.hookimpl"


def test_requirements_that_are_not_met_are_named_with_what_installs_them(distribution: Install, doctor: Run) -> None:
    metadata = METADATA.format(name="optim-needy") + (
        "Requires-Python: >=3.99\n"
        "Requires-Dist: optim-core>=77\n"
        "Requires-Dist: not-there>=1.0\n"
        "Requires-Dist: torch>=1.0\n"
        "Requires-Dist: not-wanted; extra == 'more'\n"
        "Requires-Dist: not-for-us; python_version < '3'\n"
        "Requires-Dist: away[more] @ https://example.org/away.zip ; python_version > '3'\n"
        "Requires-Dist: no requirement ((\n"
    )
    distribution("optim-needy", factories={"needy": "good:Factory"}, modules={"good": GOOD}, metadata=metadata)
    result = doctor("--json")
    assert result.returncode == 1
    found = [p for p in json.loads(result.stdout)["problems"] if p["subject"] == "optim-needy 1.0"]
    # How a requirement is written out differs among versions of packaging.
    said = [(p["problem"].replace(" @", "@"), [r.replace(" @", "@") for r in p["remedies"]]) for p in found]
    assert said == [
        (
            f"it requires Python >=3.99, but this is {platform.python_version()}",
            [f"{PIP} install --upgrade optim-needy"],
        ),
        (f"it requires optim-core>=77, but {__version__} is installed", [f"{PIP} install 'optim-core>=77'"]),
        ("it requires not-there>=1.0, which is not installed", [f"{PIP} install 'not-there>=1.0'"]),
        (
            "it requires away[more]@ https://example.org/away.zip, which is not installed",
            [f"{PIP} install 'away[more]@ https://example.org/away.zip'"],
        ),
        ("it states 'no requirement ((', which is no requirement", [f"{PIP} install --upgrade optim-needy"]),
    ]


ORIGINS = {
    '{"url": "file:///some/where%20else", "dir_info": {"editable": true}}': "--editable '/some/where else'",
    '{"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "a1"}}': (
        "'optim-origin3 @ git+https://example.org/x.git@a1'"
    ),
    '{"url": "https://example.org/x.whl", "archive_info": {}}': "https://example.org/x.whl",
    "no JSON": "optim-origin5",
}


def test_what_came_from_elsewhere_is_installed_again_from_there(distribution: Install, doctor: Run) -> None:
    for number, origin in enumerate(ORIGINS, 2):
        keys, modules = {f"key.{number}": f"bad{number}:Factory"}, {f"bad{number}": "raise RuntimeError"}
        info = distribution(f"optim-origin{number}", factories=keys, modules=modules)
        (info / "direct_url.json").write_text(origin)
    problems = json.loads(doctor("--json").stdout)["problems"]
    assert [problem["remedies"][0] for problem in problems] == [
        f"{PIP} install --force-reinstall {place}" for place in ORIGINS.values()
    ]


def test_metadata_that_can_t_be_read_is_one_problem_of_many(distribution: Install, doctor: Run) -> None:
    distribution("no-version", metadata="Metadata-Version: 2.1\nName: no-version\n")
    distribution("odd-version", "1.0-custom-x")
    needs = METADATA.format(name="optim-needy") + "Requires-Dist: no-version>=1\nRequires-Dist: odd-version>=1\n"
    distribution("optim-needy", factories={"needy": "good:Factory"}, modules={"good": GOOD}, metadata=needs)
    broken = METADATA.format(name="optim-broken") + "Requires-Python: of some age\n"
    distribution("optim-broken", factories={"broken": "good:Factory"}, metadata=broken)
    problems = {p["problem"].partition(":")[0] for p in json.loads(doctor("--json").stdout)["problems"]}
    assert problems == {
        "it requires no-version>=1, which is not installed",
        "it requires odd-version>=1, but 1.0-custom-x is installed",
        "its metadata can't be read",
    }


def test_a_remedy_keeps_what_is_disabled_already(distribution: Install, optim: Run) -> None:
    distribution("optim-bad", factories={"bad": "bad:Factory"}, modules={"bad": "raise RuntimeError"})
    disabled = ",".join(sorted({e.distribution for e in REALLY_INSTALLED[FACTORIES_GROUP]} | {"optim-other"}))
    (problem,) = json.loads(optim("doctor", "--json", OPTIM_DISABLE_PLUGINS=disabled).stdout)["problems"]
    assert problem["remedies"][-1] == f"export OPTIM_DISABLE_PLUGINS={disabled},optim-bad"


def test_a_plugin_that_only_speaks_of_a_timeout_doesn_t_hang(distribution: Install, doctor: Run) -> None:
    source = (
        "import os, sys\nsys.stderr.write('Timeout (30 s) waiting for a licence\\n')\nsys.stderr.flush()\nos._exit(3)"
    )
    distribution("optim-slow", factories={"slow": "slow:Factory"}, modules={"slow": source})
    _, problems = diagnosis(doctor("--json"), "optim-slow")
    (problem,) = problems.values()
    assert problem["problem"].startswith("it ends Python with exit status 3; the last it said: Timeout (30 s)")


def test_the_environment_of_what_a_plugin_starts_is_the_user_s_own(distribution: Install, doctor: Run) -> None:
    source = """
        import os
        import optim_core
        assert "PYTHONPATH" not in os.environ or os.environ["PYTHONPATH"] == os.environ["EXPECTED"]
        class Factory:
            def __init__(self, lr): ...
            def build(self, params): ...
    """
    distribution("optim-asking", factories={"asking": "asking:Factory"}, modules={"asking": source})
    path = os.pathsep.join(sys.path)
    assert diagnosis(doctor("--json", PYTHONPATH=path, EXPECTED=path), "optim-asking") == ({"asking": "ok"}, {})


def test_a_torch_that_is_broken_is_reported(distribution: Install, doctor: Run) -> None:
    distribution("nothing", modules={"torch": "raise OSError('libtorch.so: cannot open')"})
    result = doctor("--json")
    assert result.returncode == 1
    (problem,) = [p for p in json.loads(result.stdout)["problems"] if p["subject"] == "torch"]
    assert problem["problem"] == "it can't be imported: OSError: libtorch.so: cannot open"
    assert problem["remedies"] == [f"{PIP} install --force-reinstall torch"]


def test_problems_are_readable_and_their_remedies_can_be_pasted(distribution: Install, doctor: Run) -> None:
    distribution("optim-bad", factories={"bad": "bad:Factory"}, modules={"bad": "raise RuntimeError('no')"})
    result = doctor(COLUMNS="60")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert "broken: bad of optim-bad 1.0 (bad:Factory): RuntimeError: no" in result.stdout.replace("\n", " ")
    assert f"  mend it: {PIP} install --force-reinstall optim-bad" in lines
    assert "problem" in lines[-1]
