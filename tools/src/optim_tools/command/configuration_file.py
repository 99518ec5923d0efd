"""Reading the configuration file that was named on the command line, and saying where in it something is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optim_core import Problem
from optim_core.for_tools import Configuration, nearest, read_configuration
from optim_tools.command.failures import CommandError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "SUFFIXES",
    "UnreadableConfiguration",
    "located",
    "no_such_file",
    "problem_document",
    "read_file",
    "refusal",
]

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class UnreadableConfiguration:
    """The report on a file from which nothing could be read."""

    source: str
    problems: Sequence[Problem]
    status: int = 1

    def document(self) -> dict[str, Any]:
        """As of a configuration with problems, but without any component."""
        problems = [problem_document(problem) for problem in self.problems]
        found: dict[str, Any] = {"notes": [], "components": [], "model": None}
        return {"configuration": self.source, "ok": False, "problems": problems, **found}

    def render(self, console: Console) -> None:
        """One line, on standard error."""
        raise refusal(self.source, self.problems)


def read_file(path: Path) -> Configuration:
    """Read a configuration file.

    Raises:
        CommandError: there is no such file (status 2).
        ConfigurationError: there is, but nothing can be read from it.
    """
    # Not Path's own, which raises for a name that is too long. A link that leads nowhere can't be read.
    if not os.path.lexists(path):
        raise no_such_file(path)
    return read_configuration(path)


def no_such_file(path: Path) -> CommandError:
    """The error for a file that isn't there; names one beside it that may be meant."""
    try:
        there = [file.name for file in sorted(path.parent.iterdir()) if file.suffix.lower() in SUFFIXES]
    except OSError:
        there = []
    by_stem = {Path(name).stem: name for name in there}
    near = nearest(path.stem, list(by_stem))
    hint = f". Did you mean {str(path.with_name(by_stem[near[0]]))!r}?" if near else ""
    return CommandError(f"{path}: there is no such file{hint}", status=2)


def refusal(source: str, problems: Sequence[Problem], advice: str | None = None) -> CommandError:
    """The error of a command that can't go on with these problems; several have a line each."""
    lines = [located(source, problem) for problem in problems]
    more = [advice] if advice else []
    if len(lines) == 1:
        return CommandError(lines[0], details=more)
    return CommandError(f"{source}: {len(lines)} problems", details=[*(f"  {line}" for line in lines), *more])


def located(source: str, problem: Problem, kind: str = "") -> str:
    """A problem or note on one line, its place first, as compilers write it."""
    place = source if problem.line is None else f"{source}:{problem.line}"
    return " ".join(f"{place}: {kind}{': ' if kind else ''}{replace(problem, line=None)}".split())


def problem_document(problem: Problem) -> dict[str, Any]:
    """A problem or note as what JSON can hold."""
    return {"line": problem.line, "path": problem.path, "message": problem.message, "hint": problem.hint}
