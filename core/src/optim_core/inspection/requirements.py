"""Whether what is installed meets the requirements that distributions state in their metadata."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import importlib_metadata
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

__all__ = ["Unmet", "installed_from", "installed_version", "unmet_requirements"]


@dataclass(frozen=True)
class Unmet:
    """A requirement that isn't met.

    Attributes:
        distribution: who states it.
        version: of that distribution.
        requirement: as pip takes it; "python>=3.12" for the interpreter.
        installed: the version that is there instead; None where there is none.
        is_python: whether it is about the interpreter.
    """

    distribution: str
    version: str
    requirement: str
    installed: str | None
    is_python: bool = False


def unmet_requirements(distributions: Iterable[str]) -> list[Unmet]:
    """What the named distributions require, directly and without extras, that isn't there."""
    return [unmet for name in distributions for unmet in _unmet_of(name)]


def installed_version(distribution: str) -> str:
    """The version of an installed distribution, or "not installed"."""
    try:
        return importlib_metadata.version(distribution)
    except importlib_metadata.PackageNotFoundError:
        return "not installed"


def installed_from(distribution: str) -> list[str]:
    """What pip has to be given to install a distribution again: its name, or the place it came from."""
    try:
        origin = importlib_metadata.distribution(distribution).origin
    except importlib_metadata.PackageNotFoundError:
        return [distribution]
    url = getattr(origin, "url", None)
    if not isinstance(url, str):
        return [distribution]
    editable = getattr(getattr(origin, "dir_info", None), "editable", False)
    return ["--editable", url.removeprefix("file://")] if editable else [url]


def _unmet_of(name: str) -> Iterator[Unmet]:
    try:
        distribution = importlib_metadata.distribution(name)
    except importlib_metadata.PackageNotFoundError:
        # Run from a path that has the modules, but no metadata.
        return
    version = distribution.version
    python = distribution.metadata.get("Requires-Python")
    if python and not _admits(python, platform.python_version()):
        yield Unmet(name, version, f"python{python}", platform.python_version(), True)
    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            yield Unmet(name, version, text, "no valid requirement")
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        there = installed_version(requirement.name)
        if there == "not installed":
            yield Unmet(name, version, f"{requirement.name}{requirement.specifier}", None)
        elif not requirement.specifier.contains(there, prereleases=True):
            yield Unmet(name, version, f"{requirement.name}{requirement.specifier}", there)


def _admits(specifier: str, version: str) -> bool:
    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidSpecifier:
        return True
