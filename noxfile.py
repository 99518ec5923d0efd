"""The project's checks. `nox` runs those for the Python that runs it; `nox -l` lists all of them.

What sessions install is pinned by constraints.txt, which `nox -s constraints` writes anew. torch is left out of it:
OPTIM_TORCH is the requirement that torch is installed by (default: "torch"), for a machine that should have a
certain build: OPTIM_TORCH="torch==2.13.0" nox. OPTIM_OLDEST_TORCH is the one of the session `oldest` (default: the
oldest version that the metadata allows).
"""

from __future__ import annotations

import os
import re
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
CONSTRAINTS = ROOT / "constraints.txt"
# torch, and the libraries of a device that come with it, are of whatever build a machine should have.
WITH_TORCH = re.compile(r"(torch|triton|nvidia|cuda|optim)\b")
PLUGINS = {
    "adamw-warmup-cosine": "adamw_warmup_cosine_decay",
    "adamw-onecycle": "adamw_cosine_schedule",
    "schedule-free-radam": "schedule_free_radam",
}
TOOLS = ["core", "tools"]
ALL = [*TOOLS, *(f"plugins/{plugin}" for plugin in PLUGINS)]
OUTSIDER = ROOT / "examples" / "optim-muon"
OUTSIDER_KEY = "muon_adamw_warmup_cosine"
IN_PARALLEL = ("--numprocesses=auto", "--dist=loadfile")

nox.options.sessions = [
    "lint",
    f"core-{RUNNING}",
    f"plugins-{RUNNING}",
    f"everything-{RUNNING}",
    f"outsider-{RUNNING}",
    "types",
]


def group(name: str) -> list[str]:
    """The requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups({"dependency-groups": GROUPS}, name))


def oldest_versions() -> list[str]:
    """What the distributions, their extras and the dependency group `everything` ask for, at its oldest version."""
    projects = [nox.project.load_toml(ROOT / folder / "pyproject.toml")["project"] for folder in [".", *ALL]]
    lists = [[p["dependencies"], *p.get("optional-dependencies", {}).values()] for p in projects]
    stated = {requirement for parts in lists for part in parts for requirement in part} | set(group("everything"))
    oldest = {requirement.replace(">=", "==") for requirement in stated if not requirement.startswith("optim-")}
    torch = os.environ.get("OPTIM_OLDEST_TORCH")
    return sorted(torch if torch and requirement.startswith("torch==") else requirement for requirement in oldest)


def share_torch(session: nox.Session) -> None:
    """Give a session torch through a path file; whatever else it uses is installed into its own environment.

    torch is large, so the sessions of a Python share one copy of it.
    """
    shared = ROOT / ".nox" / f"torch-{session.python or RUNNING}"
    requirement = shared / "requirement.txt"
    if not requirement.is_file() or requirement.read_text() != TORCH:
        into = ["--no-compile", "--upgrade", "--target", str(shared), "--constraint", str(CONSTRAINTS)]
        session.install(*into, TORCH, silent=False)
        requirement.write_text(TORCH)
    where = session.run_install("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True)
    if where is not None:  # as it is where nothing is to be installed
        Path(str(where).strip(), "shared-torch.pth").write_text(str(shared))


def install(session: nox.Session, folders: list[str], *requirements: str, pinned: bool = True) -> None:
    """Install distributions from the checkout, beside other requirements."""
    names = [nox.project.load_toml(ROOT / folder / "pyproject.toml")["project"]["name"] for folder in ALL]
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", *names)
    constraints = ["--constraint", str(CONSTRAINTS)] if pinned else []
    # One environment to build in, for all of them.
    session.install("--no-compile", *constraints, "hatchling>=1.26")
    local = [f"./{folder}" for folder in folders]
    session.install("--no-compile", "--no-build-isolation", *constraints, *local, *requirements)
    plugins = [key for plugin, key in PLUGINS.items() if f"plugins/{plugin}" in folders]
    check_keys(session, plugins)


def check_keys(session: nox.Session, keys: list[str]) -> None:
    """Check that just these keys are found."""
    check = f"from optim_core import OPTIMIZER_BUILDER_REGISTRY as r; assert list(r) == {sorted(keys)}, list(r)"
    session.run("python", "-c", check)


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run the tests in some folders, or in all."""
    session.run("python", "-m", "pytest", *arguments, *session.posargs)


@nox.session(python=RUNNING)
def lint(session: nox.Session) -> None:
    """Style, by ruff, and the order of the folders, by import-linter."""
    session.install("--constraint", str(CONSTRAINTS), *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", env={"PYTHONPATH": os.pathsep.join(["core/src", "tools/src"])})


@nox.session(python=PYTHONS, tags=["matrix"])
def core(session: nox.Session) -> None:
    """The core with neither tools nor plugins: what differs without them, which is what finds and imports them."""
    share_torch(session)
    install(session, ["core"], *group("test"))
    pytest(session, "core/tests/test_imports.py", "core/tests/discovery", "core/README.md", *IN_PARALLEL)


@nox.session(python=PYTHONS, tags=["matrix"])
def plugins(session: nox.Session) -> None:
    """The core and its tools with each plugin alone: it is found, and passes the checks that ask how it is installed.

    The others are carried out by `slow`, for all plugins.
    """
    share_torch(session)
    install(session, TOOLS, *group("numpy"))
    for plugin, key in PLUGINS.items():
        session.install("--no-compile", "--no-build-isolation", "--constraint", str(CONSTRAINTS), f"./plugins/{plugin}")
        check_keys(session, [key])
        session.run("optim", "verify", key, "--check", "packaging")
        session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", f"optim-{plugin}")


@nox.session(python=PYTHONS, tags=["matrix"])
def everything(session: nox.Session) -> None:
    """The core and its tools with all plugins: all tests, and the documentation's code."""
    share_torch(session)
    install(session, ALL, *group("everything"))
    pytest(session, "-m", "not slow", *IN_PARALLEL)


@nox.session(python=PYTHONS, default=False, tags=["slow"])
def slow(session: nox.Session) -> None:
    """What is slow by nature: kills at every instant, several processes, catalogues of checks, new distributions."""
    share_torch(session)
    install(session, ALL, *group("everything"))
    pytest(session, "-m", "slow", *IN_PARALLEL)


@nox.session(python=PYTHONS, reuse_venv=False, tags=["matrix"])
def outsider(session: nox.Session) -> None:
    """An outsider's plugin, examples/optim-muon: its wheel and ours, away from the checkout."""
    share_torch(session)
    with TemporaryDirectory() as folder:
        wheels = ["python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
        session.install("--constraint", str(CONSTRAINTS), "hatchling>=1.27")
        session.run(*wheels, "./core", "./tools", str(OUTSIDER), silent=True)
        session.install(
            "--no-compile", "--constraint", str(CONSTRAINTS), *map(str, Path(folder).glob("*.whl")), "pytest"
        )
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
    install(session, ALL, *oldest_versions(), pinned=False)
    pytest(session, *IN_PARALLEL)


@nox.session(python=PYTHONS[-1], default=False)
def newest(session: nox.Session) -> None:
    """All tests at the newest versions that there are, torch's too; on request, as it takes gigabytes."""
    install(session, ALL, *group("everything"), "--upgrade", "--upgrade-strategy=eager", pinned=False)
    pytest(session, *IN_PARALLEL)


@nox.session(python=PYTHONS, default=False)
def trainers(session: nox.Session) -> None:
    """Lightning, Transformers and Accelerate, on request."""
    share_torch(session)
    install(session, ALL, *group("trainers"))
    pytest(session, "tests/trainers", "docs/trainers.md")


@nox.session(python=PYTHONS[0], default=False)
def timm(session: nox.Session) -> None:
    """The policies for parameter groups on timm's models, on request, as a torch of its own takes gigabytes."""
    # timm needs torchvision, each release of which is made for certain ones of torch: pip has to choose both at once.
    install(session, ALL, TORCH, *group("timm"), pinned=False)
    pytest(session, "tests/timm_models")


@nox.session(python=PYTHONS[0], default=False)
def bench(session: nox.Session) -> None:
    """Speed and memory against doing it by hand, on request: it takes minutes and wants the machine to itself.

    `nox -s bench -- --list` lists what it measures, and `-- --help` its options.
    """
    share_torch(session)
    install(session, ALL, *group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python=RUNNING)
def types(session: nox.Session) -> None:
    """Types, by mypy --strict."""
    share_torch(session)
    install(session, ALL, *group("types"))
    sources = [f"{folder}/src" for folder in ALL]
    session.run("mypy", *sources, "benchmarks", "noxfile.py")
    session.run("mypy", "examples/digits/train.py")
    with session.chdir(OUTSIDER):
        session.run("mypy", "src", "tests", "train.py")


@nox.session(python=PYTHONS[0], default=False, reuse_venv=False)
def constraints(session: nox.Session) -> None:
    """Write constraints.txt: the newest version of everything that the sessions install, torch left out."""
    wanted = {
        requirement for name in ("everything", "trainers", "bench", "types", "lint") for requirement in group(name)
    }
    session.install(TORCH, *(f"./{folder}" for folder in ALL), *sorted(wanted))
    listed = str(session.run("python", "-m", "pip", "freeze", silent=True)).splitlines()
    pins = [line for line in listed if "==" in line and not WITH_TORCH.match(line)]
    CONSTRAINTS.write_text("# Written by `nox -s constraints`.\n" + "\n".join(sorted(pins, key=str.lower)) + "\n")


@nox.session(python=PYTHONS[0], default=False, reuse_venv=False)
def release(session: nox.Session) -> None:
    """Build the wheel and the sdist of every distribution in dist/, check them, and try the wheels."""
    share_torch(session)
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.install("build>=1.2", "hatchling>=1.26", "twine>=6")
    for folder in ALL:
        session.run("python", "-m", "build", "--no-isolation", "--outdir", "dist", folder)
    built = sorted(map(str, (ROOT / "dist").iterdir()))
    session.run("twine", "check", "--strict", *built)
    wheels = [path for path in built if path.endswith(".whl")]
    versions = {Path(path).name.removesuffix(".tar.gz").split("-")[1] for path in built}
    if len(versions) != 1 or len(built) != 2 * len(ALL):
        session.error(f"not one version, or not a wheel and an sdist for each of {len(ALL)}: {', '.join(built)}")
    session.install("--constraint", str(CONSTRAINTS), *wheels)
    session.run("python", "-m", "pip", "check")
    check_keys(session, list(PLUGINS.values()))
    for key in PLUGINS.values():
        session.run("optim", "verify", key)
