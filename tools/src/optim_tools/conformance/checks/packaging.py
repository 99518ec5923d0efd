"""What the distribution that provides a factory has to state, so that others can install and use it."""

from __future__ import annotations

import importlib.resources
import importlib.util
import re
from collections.abc import Iterator

import importlib_metadata
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from optim_core import FactoryEntry, __version__
from optim_core.for_tools import FACTORIES_GROUP, contested_keys, find_entries, is_well_formed
from optim_tools.conformance.check import Deviation, check
from optim_tools.conformance.not_applicable import NotApplicable
from optim_tools.conformance.subject import Subject
from optim_tools.inspection.core_requirement import core_requirement
from optim_tools.inspection.fresh_import import import_freshly
from optim_tools.inspection.requirements import requirement_faults
from optim_tools.inspection.yaml_text import yaml_text

__all__: list[str] = []

_CORE = "optim-core"
_BROKEN = "the distribution's metadata is damaged: build and install it again"
_NAME = re.compile(r"[A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9]", re.IGNORECASE)
_LOWER, _UPPER = {">", ">=", "~=", "==", "==="}, {"<", "<=", "~=", "==", "==="}
# Any one of each row says it.
_STATED = {
    "Summary": ("Summary",),
    "a licence (License-Expression)": ("License-Expression", "License"),
    "Requires-Python": ("Requires-Python",),
    "an author or maintainer": ("Author", "Author-email", "Maintainer", "Maintainer-email"),
    "a description (the README)": ("Description",),
}


@check(
    "packaging-entry-point",
    why="Whoever names the key in a configuration has imported nothing else, and is in another folder than its author.",
    cause=_BROKEN,
)
def entry_point(subject: Subject) -> None:
    imported = import_freshly(_entry(subject))
    if imported.problem is not None:
        raise Deviation(
            f"in a fresh interpreter: {imported.problem}",
            "that it imports the factory",
            "a module that the distribution neither contains nor requires, or that only the tests have imported before",
        )
    if imported.printed:
        raise Deviation(
            f"its import prints {imported.printed!r} on standard output",
            "nothing there, which belongs to the program that uses it",
            "a print() outside of any function; logging says things to whoever wants to know",
        )


@check(
    "packaging-key",
    why="A key is written in configurations and commands, and can be used only while no other distribution claims it.",
    cause=_BROKEN,
)
def key(subject: Subject) -> None:
    provider = _entry(subject).distribution
    entries = find_entries(FACTORIES_GROUP)
    contested = contested_keys(entries)
    # All that the distribution offers: a malformed or contested key can't be asked for by itself.
    for name in (entry.key for entry in entries if entry.distribution == provider):
        if not is_well_formed(name):
            raise Deviation(
                f"it offers the key {name!r}", "lower-case letters, digits and _ . - only", "the entry point's name"
            )
        if yaml_text(name) != name:
            raise Deviation(
                f"the key {name!r}, which YAML reads as something else than a text",
                "a key that needs no quotes in a configuration",
                "a number, a date, or a word such as on, no or null; say what the optimizer does",
            )
        if name.startswith("-") or name.endswith((".yaml", ".yml")):
            raise Deviation(
                f"the key {name!r}, which the command `optim` takes for an option or a file",
                "a key that neither begins with - nor ends like a file of YAML",
                "the entry point's name",
            )
        others = [entry.provider for entry in contested.get(name, ()) if entry.distribution != provider]
        if others:
            raise Deviation(
                f"the key {name!r} is claimed by {' and by '.join(others)} too",
                "a key of this distribution alone",
                "a key without anything of its own in it; begin it with the name of the distribution",
            )


@check(
    "packaging-metadata",
    why="Users and their tools decide by a distribution's metadata whether they can and may use it.",
    cause=_BROKEN,
)
def metadata(subject: Subject) -> None:
    missing = list(_missing(_entry(subject).distribution))
    if missing:
        raise Deviation(
            f"missing or malformed: {', '.join(missing)}",
            "a name, a version, a summary, a licence, Requires-Python, an author and a description",
            "the table [project] of its pyproject.toml lacks description, license, requires-python, authors or readme",
        )


@check(
    "packaging-core-range",
    why="A version of the core that is not compatible must be refused at installation, not found out in training.",
    cause=_BROKEN,
)
def core_range(subject: Subject) -> None:
    wanted = f"a requirement such as {core_requirement()}"
    stated = [r for r in _requirements(_entry(subject).distribution) if canonicalize_name(r.name) == _CORE]
    if not stated:
        raise Deviation(f"it doesn't require {_CORE}", wanted, "dependencies in its pyproject.toml lack the core")
    operators = {specifier.operator for requirement in stated for specifier in requirement.specifier}
    bounds = (("lower", operators & _LOWER), ("upper", operators & _UPPER))
    lacking = [name for name, found in bounds if not found]
    shown = ", ".join(map(str, stated))
    if lacking:
        raise Deviation(
            f"{shown} has no {' and no '.join(lacking)} bound", wanted, "the dependency on the core is open"
        )
    if not all(r.specifier.contains(__version__, prereleases=True) for r in stated):
        raise Deviation(
            f"{shown} doesn't admit the installed {_CORE} {__version__}",
            "a range with the core that it is used with",
            "the range was not raised when the core was, or installing ignored it",
        )


@check(
    "packaging-requirements",
    why="What a distribution requires and isn't there makes it fail in the middle of something.",
    cause=_BROKEN,
)
def requirements(subject: Subject) -> None:
    faults = [f for f in requirement_faults([_entry(subject).distribution]) if canonicalize_name(f.required) != _CORE]
    if faults:
        raise Deviation(
            "; ".join(fault.problem for fault in faults),
            "that all it requires is installed, in a version that it admits",
            "requirements that can't be met together, or an installation without them",
        )


@check(
    "packaging-typed",
    why="Without py.typed, type checkers take everything that is imported from the package for Any.",
    cause=_BROKEN,
)
def typed(subject: Subject) -> None:
    module = _entry(subject).value.partition(":")[0].strip()
    parts = module.split(".")
    packages = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    if not any(_has_marker(package) for package in packages):
        raise Deviation(
            f"no py.typed in the package of {module}",
            f"an empty file {parts[0]}/py.typed",
            "the file is missing, or the build leaves it out, or the module is a single file, which can't be marked",
        )


def _entry(subject: Subject) -> FactoryEntry:
    if subject.entry is None or not subject.entry.distribution:
        raise NotApplicable("no distribution provides it")
    return subject.entry


def _missing(distribution: str) -> Iterator[str]:
    stated = importlib_metadata.metadata(distribution)
    if not _NAME.fullmatch(stated.get("Name") or ""):
        yield "Name"
    try:
        Version(stated.get("Version") or "")
    except InvalidVersion:
        yield "Version"
    for name, fields in _STATED.items():
        # What old tools write where nothing was stated.
        given = any((stated.get(field) or "UNKNOWN").strip() not in ("", "UNKNOWN") for field in fields)
        classified = any(c.startswith("License ::") for c in stated.get_all("Classifier") or () if "License" in fields)
        if not given and not classified:
            yield name


def _requirements(distribution: str) -> Iterator[Requirement]:
    """What it requires here, without extras."""
    for text in importlib_metadata.requires(distribution) or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # which is for another check
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _has_marker(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    # For a single module some versions of Python look into the folder that it is in.
    if spec is None or spec.submodule_search_locations is None:
        return False
    return importlib.resources.files(package).joinpath("py.typed").is_file()
