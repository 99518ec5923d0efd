"""What the author runs before a release: `nox`. Installs from PyPI, or what OPTIM_CORE and OPTIM_TOOLS name."""

from __future__ import annotations

import os

import nox

nox.options.default_venv_backend = "venv"

CORE = os.environ.get("OPTIM_CORE", "optim-core>=0.2,<0.3")
TOOLS = os.environ.get("OPTIM_TOOLS", "optim-tools>=0.2,<0.3")
TORCH = os.environ.get("OPTIM_TORCH", "torch")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests, among them the conformance kit; and a training that has to learn."""
    session.install(TORCH, CORE, TOOLS, ".", "pytest>=8.2")
    session.run("python", "-m", "pytest", *session.posargs)
    session.run("python", "train.py")


@nox.session
def types(session: nox.Session) -> None:
    """Types, by mypy --strict."""
    session.install(TORCH, CORE, TOOLS, ".", "mypy>=1.14", "nox", "pytest>=8.2", "types-PyYAML")
    session.run("mypy", "src", "tests", "train.py", "noxfile.py")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, by ruff."""
    session.install("ruff>=0.9")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
