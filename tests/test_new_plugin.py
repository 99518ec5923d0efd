"""What `optim new` writes is installed, listed, tested and type-checked as it was written."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import wrapped_classes

from optim_tools.scaffolding.author import Author
from optim_tools.scaffolding.distribution import files_of
from optim_tools.scaffolding.licenses import LICENSES
from optim_tools.scaffolding.names import names_of
from optim_tools.scaffolding.plugin import Plugin
from optim_tools.scaffolding.wrapping import Findings, Option, Wrapping
from optim_tools.scaffolding.writing import write_files

pytestmark = pytest.mark.slow

LONG_KEY = "an_extraordinarily_long_key_of_sixty_characters_for_lion.v22"
SCRIPTS = sysconfig.get_path("scripts")
FORMS = {
    "default": [],
    "bare": ["--bare"],
    "wrap": ["--wrap", "torch.optim:NAdam"],
    # As long as a name may be: no line grows over the limit, and none is laid out otherwise.
    "long": ["--key", LONG_KEY, "--license", "proprietary"],
}
NAMES = {"default": "new-lion", "bare": "new-bare", "wrap": "new-nadam", "long": "extraordinarily-long-winded-xx"}


def run(*command: object, folder: Path, **environment: str) -> str:
    """The output of a command that has to succeed."""
    variables = {**os.environ, "PYTHONPATH": "", "COLUMNS": "200", **environment}
    result = subprocess.run(list(map(str, command)), cwd=folder, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of torch, for all of these tests."""
    return tmp_path_factory.mktemp("mypy")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """The form of a new plugin."""
    return str(request.param)


@pytest.fixture
def written(form: str, tmp_path: Path) -> Path:
    """A new plugin."""
    run(Path(SCRIPTS, "optim"), "new", NAMES[form], *FORMS[form], folder=tmp_path)
    return tmp_path / f"optim-{NAMES[form]}"


def test_a_new_plugin_is_installed_listed_tested_and_type_checked(
    form: str, written: Path, cache: Path, tmp_path: Path
) -> None:
    python, optim = sys.executable, Path(SCRIPTS, "optim")
    site = tmp_path / "site"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "--target", site, written, folder=tmp_path)
    environment = {"PYTHONPATH": str(site)}
    key = LONG_KEY if form == "long" else NAMES[form].replace("-", "_")

    assert f"\n{key} " in run(optim, "list", folder=tmp_path, **environment)
    (tmp_path / "config.yaml").write_text(run(optim, "show", key, "--yaml", folder=tmp_path, **environment))
    assert "config.yaml: fine" in run(optim, "check", "config.yaml", folder=tmp_path, **environment)
    run(Path(SCRIPTS, "ruff"), "check", "--no-cache", ".", folder=written)
    run(Path(SCRIPTS, "ruff"), "format", "--check", "--no-cache", ".", folder=written)
    run(python, "-m", "mypy", "--cache-dir", cache, folder=written)
    if form != "long":
        said = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=written, **environment)
        assert " passed" in said
        assert "xfailed" not in said


def test_the_tests_of_a_plugin_around_a_class_that_warns_pass(tmp_path: Path) -> None:
    classes = {"PYTHONPATH": str(Path(wrapped_classes.__file__).parent)}
    optim = Path(SCRIPTS, "optim")
    wrap = ("--wrap", "wrapped_classes:Deprecated")
    run(optim, "new", "new-old", *wrap, "--no-verify", folder=tmp_path, **classes)
    written = tmp_path / "optim-new-old"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "test_defaults"]

    said = run(*command, folder=written, PYTHONPATH=str(written / "src"))

    assert "1 passed" in said
    assert "DeprecationWarning: another is better" in said


def test_what_is_written_of_a_strange_class_is_well_formed_too(cache: Path, tmp_path: Path) -> None:
    fits = "a reason that fits into a line of its own just so, but not behind the name of what failed, as it has 101"
    failures = {"state-pickle": "no reason", "state-deepcopy": fits[:90], "state-rewind": f'"{fits}", {fits}'}
    meaning = r"a \(\lambda\) \u2013 with a dash, and with more to say about it. ".replace(r"\u2013", chr(0x2013)) * 4
    choices = ", ".join(f'"choice number {number}"' for number in range(9))
    options = (
        Option("lr", "float", None, meaning, positional=True),
        Option("table", "Any", "None"),
        Option("names", "list[int]", "field(default_factory=lambda: [1])"),
        Option("choice", f"Literal[{choices}]", '"choice number 1"'),
        Option("most", "Annotated[float, Ge(0)]", "math.inf"),
    )
    wrapping = Wrapping(
        "torch.optim",
        "SGD",
        'A class that says """much""" of itself.',
        options,
        {"hook": "no YAML can give a function"},
        {"lr": 0.1},
        narrow=True,
        findings=Findings({"complex": True, "groups": False}, failures, ("state-rewind",)),
    )
    plugin = Plugin(names_of("new-stray"), Author("Åsa Öst"), LICENSES["BSD-3-Clause"], 2031, wrapping)
    write_files(tmp_path, files_of(plugin))

    run(Path(SCRIPTS, "ruff"), "check", "--no-cache", ".", folder=tmp_path)
    run(Path(SCRIPTS, "ruff"), "format", "--check", "--no-cache", ".", folder=tmp_path)
    run(sys.executable, "-m", "mypy", "--cache-dir", cache, folder=tmp_path)
