"""Runs the code blocks of the documentation as tests, and skips what needs a GPU where there is none."""

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import types
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

PAGE = "documentation_page"
"""The module that the Python blocks of a page are taken for."""
SITE = Path("site")
"""What a page installs, in the folder that its blocks are run in."""

SLOW_PAGES = ("authors.md", "command.md", "muon.md")
"""They run the command again and again, and install plugins."""

# What trainers themselves warn of in the scripts of docs/trainers.md.
TRAINERS_WARNINGS = (
    # Lightning looks into a data loader with a function that a new PyTorch has replaced.
    "ignore:.*LeafSpec:FutureWarning",
    # Advice on worker processes, which made data don't need.
    "ignore:The '\\w+_dataloader' does not have many workers",
    # A resumed run that writes to another folder than the one before, as is its logger's default.
    "ignore:The dirpath has changed from",
)


def write_configuration(example: Example) -> None:
    """A YAML block becomes the file config.yaml for the Python blocks after it."""
    Path("config.yaml").write_text(str(example.parsed), encoding="utf-8")


def run_python(example: Example) -> None:
    """A Python block is run; one that begins with a comment of its file's name becomes that file, too.

    One whose file is in a folder `src` shows a part of it, which has to be there.
    """
    if excerpt := re.match(r"# (src/.+)\n", str(example.parsed)):
        # Part of a file of optim-muon, which is tested where it is.
        assert str(example.parsed)[excerpt.end() :] in Path("examples/optim-muon", excerpt[1]).read_text()
        return
    name = re.match(r"# (\w+\.py)\n", str(example.parsed))
    if name:
        Path(name[1]).write_text(str(example.parsed), encoding="utf-8")
    PythonEvaluator()(example)
    # What a page defines can be pickled, as what a module does.
    vars(sys.modules[PAGE]).update(example.namespace)


def read_settings(example: Example) -> None:
    """A TOML block is well formed; what it says of distributions is what packaging tools understand."""
    settings = tomllib.loads(str(example.parsed))
    for group in settings.get("project", {}).get("entry-points", {}):
        assert group in ("optim.factories", "optim.hooks"), group
    for requirement in settings.get("dependencies", []):
        Requirement(requirement)


def run_commands(example: Example) -> None:
    """What stands behind each `$ ` of a console block is run, and prints what stands below it."""
    scripts = sysconfig.get_path("scripts")
    site = str(SITE.absolute())
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        # What a page installs is for that page; what it is built with, and needs, is installed here already.
        "PYTHONPATH": site,
        "PIP_TARGET": site,
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the value of the option's opposite
        "PIP_QUIET": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    environment.pop("COLUMNS", None)
    blocks = re.split(r"^\$ ", str(example.parsed), flags=re.MULTILINE)[1:]
    for command, _, expected in (block.partition("\n") for block in blocks):
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        result = subprocess.run(command, shell=True, env=environment, **pipe, text=True, timeout=120)
        if not OutputChecker().check_output(expected, result.stdout, ELLIPSIS | NORMALIZE_WHITESPACE):
            raise AssertionError(f"{command}\nprints:\n{result.stdout}\nnot:\n{expected}")
        # What ends with a problem shows it.
        assert (result.returncode != 0) is (": error: " in expected), f"{command} ends with status {result.returncode}"


def enter_folder(namespace: dict[str, Any]) -> None:
    sys.modules[PAGE] = types.ModuleType(PAGE)
    namespace["__name__"] = PAGE
    namespace["_home"], namespace["_folder"] = Path.cwd(), tempfile.TemporaryDirectory()
    os.chdir(namespace["_folder"].name)
    # A page that begins "from a checkout" finds it around itself; what it installs can be imported.
    Path("examples").symlink_to(Path(__file__).with_name("examples"), target_is_directory=True)
    sys.path.append(str(SITE.absolute()))
    # For the conditions under which a page's blocks are skipped.
    namespace["installed"] = lambda package: importlib.util.find_spec(package) is not None


def leave_folder(namespace: dict[str, Any]) -> None:
    site = str(SITE.absolute())
    sys.path.remove(site)
    imported = [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(site)]
    for name in [PAGE, *imported]:
        del sys.modules[name]
    os.chdir(namespace["_home"])
    namespace["_folder"].cleanup()
    from optim_core import OPTIMIZER_BUILDER_REGISTRY  # here: a session without the core has no use for it

    for entry in OPTIMIZER_BUILDER_REGISTRY.entries():
        if entry.group == "in-process":
            OPTIMIZER_BUILDER_REGISTRY.unregister(entry.key)
    OPTIMIZER_BUILDER_REGISTRY.refresh()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW_PAGES:
            item.add_marker(pytest.mark.slow)
        if item.path.name == "trainers.md":
            for warning in TRAINERS_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch  # here: collecting is quick without it

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU, and there is none")


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser("python", run_python),
        CodeBlockParser("yaml", write_configuration),
        CodeBlockParser("console", run_commands),
        CodeBlockParser("toml", read_settings),
        SkipParser(),
    ],
    patterns=["*.md"],
    setup=enter_folder,
    teardown=leave_folder,
).pytest()
