"""Whether what is installed meets the requirements that distributions state in their metadata."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import importlib_metadata
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from optim_core.for_tools import in_one_line

__all__ = ["RequirementFault", "installed_from", "installed_version", "requirement_faults"]


@dataclass(frozen=True)
class RequirementFault:
    """What is wrong with a distribution's requirements, or with its metadata.

    Attributes:
        distribution: whose.
        version: of that distribution.
        problem: what is wrong, on one line.
        install: what pip has to be given after `install` to mend it.
        required: the distribution that is missing or of another version; empty where it is another fault.
    """

    distribution: str
    version: str
    problem: str
    install: tuple[str, ...]
    required: str = ""


def requirement_faults(distributions: Iterable[str]) -> list[RequirementFault]:
    """What the named distributions require, directly and without extras, and what of it isn't there."""
    return [fault for name in distributions for fault in _faults_of(name)]


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution; None where it isn't installed, or its metadata is broken."""
    try:
        return importlib_metadata.version(distribution)
    except Exception:
        # Metadata can be broken in any way; what requires this distribution says what is missing.
        return None


def installed_from(distribution: str) -> tuple[str, ...]:
    """What pip has to be given to install a distribution again: its name, or the place it came from."""
    try:
        origin: Any = importlib_metadata.distribution(distribution).origin
    except Exception:
        # As above; its name will do.
        return (distribution,)
    url = getattr(origin, "url", None)
    if not isinstance(url, str):
        return (distribution,)
    system = getattr(origin, "vcs_info", None)
    if system is not None:
        return (f"{distribution} @ {system.vcs}+{url}@{system.commit_id}",)
    if getattr(getattr(origin, "dir_info", None), "editable", False):
        return "--editable", url2pathname(urlsplit(url).path)
    return (url,)


def _faults_of(name: str) -> Iterator[RequirementFault]:
    version = "of no known version"
    try:
        distribution = importlib_metadata.distribution(name)
        version = distribution.version
        yield from _python_faults(distribution)
        for text in distribution.requires or ():
            yield from _faults_of_requirement(name, version, text)
    except importlib_metadata.PackageNotFoundError:
        # Run from a path that has the modules, but no metadata.
        return
    except Exception as error:
        # Metadata can be broken in any way; that costs the examination of this distribution only.
        problem = f"its metadata can't be read: {in_one_line(error)}"
        yield RequirementFault(name, version, problem, ("--force-reinstall", name))


def _python_faults(distribution: Any) -> Iterator[RequirementFault]:
    wanted, there = distribution.metadata.get("Requires-Python"), platform.python_version()
    if wanted and not SpecifierSet(wanted).contains(there, prereleases=True):
        problem = f"it requires Python {wanted}, but this is {there}"
        yield RequirementFault(distribution.name, distribution.version, problem, ("--upgrade", distribution.name))


def _faults_of_requirement(name: str, version: str, text: str) -> Iterator[RequirementFault]:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        yield RequirementFault(name, version, f"it states {text!r}, which is no requirement", ("--upgrade", name))
        return
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return
    requirement.marker = None
    there = installed_version(requirement.name)
    if there is None:
        yield RequirementFault(
            name, version, f"it requires {requirement}, which is not installed", (str(requirement),), requirement.name
        )
    elif not _admits(requirement.specifier, there):
        problem = f"it requires {requirement}, but {there} is installed"
        yield RequirementFault(name, version, problem, (str(requirement),), requirement.name)


def _admits(specifier: SpecifierSet, version: str) -> bool:
    try:
        return specifier.contains(version, prereleases=True)
    except ValueError:
        # A version of no known form can't be compared.
        return not specifier
