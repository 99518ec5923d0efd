"""The project's checks. `nox` runs all of them; `nox -l` lists them.

OPTIM_TORCH is the requirement that torch is installed by (default: "torch"), for a machine that
should have a certain build: OPTIM_TORCH="torch==2.13.0" nox. OPTIM_OLDEST_TORCH is the one of the
session `oldest` (default: the oldest version that the metadata allows).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

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
OUTSIDER = ROOT / "examples" / "optim-muon"
OUTSIDER_KEY = "muon_adamw_warmup_cosine"


def group(name: str) -> list[str]:
    """The requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups({"dependency-groups": GROUPS}, name))


def oldest_versions() -> list[str]:
    """What the distributions, their extras and the dependency group `everything` ask for, at its oldest version."""
    folders = [ROOT, ROOT / "core", *(ROOT / "plugins" / plugin for plugin in PLUGINS)]
    projects = [nox.project.load_toml(folder / "pyproject.toml")["project"] for folder in folders]
    lists = [[p["dependencies"], *p.get("optional-dependencies", {}).values()] for p in projects]
    stated = {requirement for parts in lists for part in parts for requirement in part} | set(group("everything"))
    oldest = {requirement.replace(">=", "==") for requirement in stated if not requirement.startswith("optim-")}
    torch = os.environ.get("OPTIM_OLDEST_TORCH")
    return sorted(torch if torch and requirement.startswith("torch==") else requirement for requirement in oldest)


def share_torch(session: nox.Session) -> None:
    """Give a session torch through a path file; whatever else it uses is installed into its own environment.

    torch is large, so the sessions of a Python share one copy of it.
    """
    shared = ROOT / ".nox" / f"torch-{session.python}"
    requirement = shared / "requirement.txt"
    if not requirement.is_file() or requirement.read_text() != TORCH:
        session.install("--upgrade", "--target", str(shared), TORCH, silent=False)
        requirement.write_text(TORCH)
    where = session.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True)
    Path(str(where).strip(), "shared-torch.pth").write_text(str(shared))


def install(session: nox.Session, plugins: list[str], *requirements: str) -> None:
    """Install the core and some plugins from the checkout, beside other requirements."""
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", *[f"optim-{p}" for p in ["core", *PLUGINS]])
    session.install("./core", *(f"./plugins/{plugin}" for plugin in plugins), *requirements)
    check_keys(session, [PLUGINS[plugin] for plugin in plugins])


def check_keys(session: nox.Session, keys: list[str]) -> None:
    """Check that just these keys are found."""
    check = f"from optim_core import OPTIMIZER_BUILDER_REGISTRY as r; assert list(r) == {sorted(keys)}, list(r)"
    session.run("python", "-c", check)


IN_PARALLEL = ("--numprocesses=auto", "--dist=loadfile")


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run the tests in some folders, or in all."""
    session.run("python", "-m", "pytest", *arguments, *session.posargs)


@nox.session(python=PYTHONS)
def core(session: nox.Session) -> None:
    """The core alone, with no factory installed."""
    share_torch(session)
    install(session, [], *group("test"))
    pytest(session, "core", *IN_PARALLEL)


@nox.session(python=PYTHONS)
@nox.parametrize("plugin", list(PLUGINS), ids=list(PLUGINS))
def plugin(session: nox.Session, plugin: str) -> None:
    """The core with one plugin."""
    share_torch(session)
    install(session, [plugin], *group("test"))
    pytest(session, f"plugins/{plugin}")
    session.run("optim", "verify", PLUGINS[plugin])


@nox.session(python=PYTHONS)
def everything(session: nox.Session) -> None:
    """The core with all plugins: all tests, the core's own again, and the documentation's code."""
    share_torch(session)
    install(session, list(PLUGINS), *group("everything"))
    pytest(session, *IN_PARALLEL)


@nox.session(python=PYTHONS, reuse_venv=False)
def outsider(session: nox.Session) -> None:
    """An outsider's plugin, examples/optim-muon: its wheel and the core's, away from the checkout."""
    share_torch(session)
    with TemporaryDirectory() as folder:
        wheels = ["python", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder]
        session.run(*wheels, "./core", str(OUTSIDER), silent=True)
        session.install(*map(str, Path(folder).glob("*.whl")), "pytest")
        # All but the sources, so that it is the wheel that is imported.
        shutil.copytree(OUTSIDER, folder, ignore=shutil.ignore_patterns("src"), dirs_exist_ok=True)
        with session.chdir(folder):
            check_keys(session, [OUTSIDER_KEY])
            session.run("optim", "list")
            session.run("optim", "verify", OUTSIDER_KEY)
            pytest(session, "tests")
            session.run("python", "train.py")


@nox.session(python=PYTHONS[0], default=False)
def oldest(session: nox.Session) -> None:
    """All tests at the oldest versions that the metadata allows; on request, as torch's takes gigabytes."""
    install(session, list(PLUGINS), *oldest_versions())
    pytest(session, *IN_PARALLEL)


@nox.session(python=PYTHONS[-1], default=False)
def newest(session: nox.Session) -> None:
    """All tests at the newest versions that there are, torch's too; on request, as it takes gigabytes."""
    install(session, list(PLUGINS), *group("everything"), "--upgrade", "--upgrade-strategy=eager")
    pytest(session, *IN_PARALLEL)


@nox.session(python=PYTHONS, default=False)
def trainers(session: nox.Session) -> None:
    """Lightning, Transformers and Accelerate, on request."""
    share_torch(session)
    install(session, list(PLUGINS), *group("trainers"))
    pytest(session, "tests/trainers", "docs/trainers.md")


@nox.session(python=PYTHONS[0], default=False)
def timm(session: nox.Session) -> None:
    """The policies for parameter groups on timm's models, on request, as a torch of its own takes gigabytes."""
    # timm needs torchvision, each release of which is made for certain ones of torch: pip has to choose both at once.
    install(session, list(PLUGINS), TORCH, *group("timm"))
    pytest(session, "tests/timm_models")


@nox.session(python=PYTHONS[0], default=False)
def bench(session: nox.Session) -> None:
    """Speed and memory against doing it by hand, on request: it takes minutes and wants the machine to itself.

    `nox -s bench -- --list` lists what it measures, and `-- --help` its options.
    """
    share_torch(session)
    install(session, list(PLUGINS), *group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python=PYTHONS[0])
def lint(session: nox.Session) -> None:
    """Style, by ruff."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=PYTHONS[0])
def types(session: nox.Session) -> None:
    """Types, by mypy --strict."""
    share_torch(session)
    install(session, list(PLUGINS), *group("types"))
    session.run("mypy", "core/src", *(f"plugins/{plugin}/src" for plugin in PLUGINS), "benchmarks", "noxfile.py")
    session.run("mypy", "examples/digits/train.py")
    with session.chdir(OUTSIDER):
        session.run("mypy", "src", "tests", "train.py")
