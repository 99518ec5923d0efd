"""Who a new distribution is by."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

__all__ = ["PLACEHOLDER", "Author", "author_from_git"]

_EMAIL = re.compile(r"[^\s@<>\"]+@[^\s@<>\"]+\.[^\s@<>\".]+")
_PATIENCE = 5.0  # seconds


@dataclass(frozen=True)
class Author:
    """A name, and an address where there is one.

    Raises:
        ValueError: the name is empty, or has what no line of text may have; or the address is none.
    """

    name: str
    email: str | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable():
            raise ValueError(f"{self.name!r} is no name")
        if self.email is not None and not (_EMAIL.fullmatch(self.email) and self.email.isprintable()):
            raise ValueError(f"{self.email!r} is no e-mail address")


PLACEHOLDER = Author("Your Name", "you@example.org")
"""Stands for an author of whom nothing is known; every tool takes it."""


def author_from_git() -> Author | None:
    """Who commits from the current folder, as git has it; None where git doesn't say."""
    git = shutil.which("git")
    if git is None:
        return None
    name, email = _setting(git, "user.name"), _setting(git, "user.email")
    try:
        return Author(name, email or None)
    except ValueError:
        return None


def _setting(git: str, name: str) -> str:
    try:
        result = subprocess.run(
            [git, "config", "--get", name], capture_output=True, text=True, errors="replace", timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()
