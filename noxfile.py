"""The project's checks. `nox` runs all of them; `nox -l` lists them.

OPTIM_TORCH is the requirement that torch is installed by (default: "torch"), for a machine that
should have a certain build: OPTIM_TORCH="torch==2.13.0" nox.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).parent
PYTHONS = ["3.11", "3.12", "3.13"]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
if RUNNING not in PYTHONS and sys.version_info >= (3, 11):
    # So that a machine with another Python only doesn't pass by running nothing.
    PYTHONS.append(RUNNING)
TORCH = os.environ.get("OPTIM_TORCH", "torch")
GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")["dependency-groups"]
PLUGINS = {
    "adamw-warmup-cosine": "adamw_warmup_cosine_decay",
    "adamw-onecycle": "adamw_cosine_schedule",
    "schedule-free-radam": "schedule_free_radam",
}


def group(name: str) -> list[str]:
    """The requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups({"dependency-groups": GROUPS}, name))


def install(session: nox.Session, plugins: list[str], *groups: str) -> None:
    """Install the core and some plugins from the checkout, and check that just their keys are found.

    torch is large, so all sessions of a Python share one copy of it, through a path file; whatever
    else a session uses is installed into its own environment.
    """
    shared = ROOT / ".nox" / f"torch-{session.python}"
    requirement = shared / "requirement.txt"
    if not requirement.is_file() or requirement.read_text() != TORCH:
        session.install("--upgrade", "--target", str(shared), TORCH, silent=False)
        requirement.write_text(TORCH)
    where = session.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True)
    Path(str(where).strip(), "shared-torch.pth").write_text(str(shared))
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", *[f"optim-{p}" for p in ["core", *PLUGINS]])
    distributions = ["./core", *(f"./plugins/{plugin}" for plugin in plugins)]
    session.install(*distributions, *(requirement for name in groups for requirement in group(name)))
    keys = sorted(PLUGINS[plugin] for plugin in plugins)
    check = f"from optim_core import OPTIMIZER_BUILDER_REGISTRY as r; assert list(r) == {keys}, list(r)"
    session.run("python", "-c", check)


def pytest(session: nox.Session, *paths: str) -> None:
    """Run the tests in some folders."""
    session.run("python", "-m", "pytest", *paths, *session.posargs)


@nox.session(python=PYTHONS)
def core(session: nox.Session) -> None:
    """The core alone, with no factory installed."""
    install(session, [], "test")
    pytest(session, "core")


@nox.session(python=PYTHONS)
@nox.parametrize("plugin", list(PLUGINS))
def plugin(session: nox.Session, plugin: str) -> None:
    """The core with one plugin."""
    install(session, [plugin], "test")
    pytest(session, f"plugins/{plugin}")


@nox.session(python=PYTHONS)
def everything(session: nox.Session) -> None:
    """The core, all plugins, the documentation's code and the example."""
    install(session, list(PLUGINS), "everything")
    pytest(session)


@nox.session(python=PYTHONS, default=False)
def trainers(session: nox.Session) -> None:
    """Lightning, Transformers and Accelerate; not among the sessions that a plain `nox` runs."""
    install(session, list(PLUGINS), "trainers")
    pytest(session, "tests/trainers", "docs/trainers.md")


@nox.session(python=PYTHONS[0])
def lint(session: nox.Session) -> None:
    """Style, by ruff."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=PYTHONS[0])
def types(session: nox.Session) -> None:
    """Types, by mypy --strict."""
    install(session, list(PLUGINS), "types")
    session.run("mypy", "core/src", *(f"plugins/{plugin}/src" for plugin in PLUGINS), "benchmarks", "noxfile.py")
    session.run("mypy", "examples/digits/train.py")
