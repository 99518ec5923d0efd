"""`optim doctor`: versions, requirements and every plugin, and the command that mends what is broken."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optim_core import FactoryEntry
from optim_core.for_tools import (
    DISABLE_VARIABLE,
    FACTORIES_GROUP,
    HOOKS_GROUP,
    contested_keys,
    find_entries,
    is_well_formed,
)
from optim_tools.command.report import print_rows, printable
from optim_tools.inspection.isolation import Examination, examine_all, examine_torch
from optim_tools.inspection.requirements import installed_from, installed_version, requirement_faults

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["EnvironmentReport", "examine_environment"]

_OWN = ("optim-core", "optim-tools")


@dataclass(frozen=True)
class Fault:
    """Something that is broken.

    Attributes:
        subject: what: a distribution, or a key and its distribution.
        problem: what is wrong with it, on one line.
        remedies: commands, the first of which mends it; further ones do without it.
    """

    subject: str
    problem: str
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class EntryState:
    """An entry point, and whether it can be used: "ok", "disabled", "contested" or "broken"."""

    entry: FactoryEntry
    state: str
    seconds: float | None


@dataclass(frozen=True)
class EnvironmentReport:
    """What there is in the environment, and what is broken in it."""

    versions: Mapping[str, str]
    torch: Mapping[str, Any]
    entries: Sequence[EntryState]
    faults: Sequence[Fault]

    @property
    def status(self) -> int:
        """1 where anything is broken."""
        return int(bool(self.faults))

    def document(self) -> dict[str, Any]:
        """Versions, entry points with their state, and faults with their remedies."""
        return {
            "ok": not self.faults,
            "versions": dict(self.versions),
            "torch": {name: value for name, value in self.torch.items() if name != "seconds"},
            "entry_points": [
                {
                    "group": e.entry.group,
                    "key": e.entry.key,
                    "distribution": e.entry.distribution,
                    "version": e.entry.version,
                    "value": e.entry.value,
                    "state": e.state,
                    "seconds": e.seconds,
                }
                for e in self.entries
            ],
            "problems": [
                {"subject": f.subject, "problem": f.problem, "remedies": list(f.remedies)} for f in self.faults
            ],
        }

    def render(self, console: Console) -> None:
        """Versions, a row for each entry point, and what is broken with what mends it."""
        accelerators = ", ".join(self.torch.get("devices") or ()) or "none"
        versions = [*self.versions.items(), ("CUDA of torch", self.torch.get("cuda") or "none")]
        print_rows(console, ("", "version"), [*versions, ("CUDA devices", accelerators)])
        console.print()
        headings = ("key", "kind", "distribution", "version", "state", "checked in")
        rows = [
            (
                e.entry.key,
                "hooks" if e.entry.group == HOOKS_GROUP else "optimizer",
                e.entry.distribution,
                e.entry.version,
                e.state,
                "" if e.seconds is None else f"{e.seconds:.1f} s",
            )
            for e in self.entries
        ]
        if rows:
            print_rows(console, headings, rows, numeric=("checked in",))
        else:
            console.print("No plugin is installed.")
        for fault in self.faults:
            console.print(f"\nbroken: {printable(f'{fault.subject}: {fault.problem}')}", style="red")
            for number, remedy in enumerate(fault.remedies):
                # Never folded: it is to be pasted.
                console.print(f"  {'mend it:' if number == 0 else 'or:     '} {remedy}", soft_wrap=True)
        count = len(self.faults)
        summary = "everything is fine" if not count else f"{count} problem{'' if count == 1 else 's'}"
        console.print(f"\n{summary}", style="bold red" if count else "bold green")


def examine_environment(*, timeout: float) -> EnvironmentReport:
    """Look at everything; each plugin, and PyTorch itself, is imported in a process of its own.

    Args:
        timeout: seconds that one may take.
    """
    entries = [*find_entries(FACTORIES_GROUP), *find_entries(HOOKS_GROUP)]
    usable = [entry for entry in entries if not entry.disabled]
    # A malformed key is of no use whatever it stands for.
    examinable = [e for e in usable if e.group == HOOKS_GROUP or is_well_formed(e.key)]
    torch = examine_torch(timeout=timeout)
    examined = {examination.entry: examination for examination in examine_all(examinable, timeout=timeout)}
    providers = sorted({entry.distribution for entry in usable})
    faults = [
        Fault(f"{fault.distribution} {fault.version}", fault.problem, (_pip("install", *fault.install),))
        for fault in requirement_faults([*_OWN, *(name for name in providers if name not in _OWN)])
    ]
    if torch["problem"]:
        faults.append(Fault("torch", str(torch["problem"]), (_pip("install", "--force-reinstall", "torch"),)))
    contested = contested_keys(entry for entry in usable if entry.group == FACTORIES_GROUP)
    # Who is broken anyway is the first that can go.
    by_health = {k: sorted(c, key=lambda entry: examined[entry].problem is None) for k, c in contested.items()}
    faults += [_contest_fault(key, claimants) for key, claimants in by_health.items()]
    by_entry = {entry: _entry_faults(entry, examined.get(entry)) for entry in usable}
    faults += [fault for found in by_entry.values() for fault in found]
    states = []
    for entry in entries:
        claimed = entry.group == FACTORIES_GROUP and entry.key in contested
        state = "disabled" if entry.disabled else "broken" if by_entry[entry] else "contested" if claimed else "ok"
        states.append(EntryState(entry, state, examined[entry].seconds if entry in examined else None))
    versions = {"Python": platform.python_version(), "torch": torch.get("version") or _version("torch")}
    versions |= {name: _version(name) for name in [*_OWN, *sorted({e.distribution for e in entries} - {*_OWN})]}
    return EnvironmentReport(versions, torch, states, faults)


def _entry_faults(entry: FactoryEntry, examination: Examination | None) -> list[Fault]:
    if examination is None:
        problem = "its key can't be used: a key has lower-case letters, digits and _ . - only"
        return [Fault(_subject(entry), problem, _without(entry))]
    if not examination.problem:
        return []
    remedies = (_pip("install", "--force-reinstall", *installed_from(entry.distribution)), *_without(entry))
    return [Fault(_subject(entry), examination.problem, remedies)]


def _contest_fault(key: str, claimants: Sequence[FactoryEntry]) -> Fault:
    problem = (
        f"claimed by {' and by '.join(entry.provider for entry in claimants)}; until one is gone, nobody can use it"
    )
    return Fault(key, problem, tuple(_pip("uninstall", entry.distribution) for entry in claimants))


def _subject(entry: FactoryEntry) -> str:
    return f"{entry.key or '(no key)'} of {entry.distribution} {entry.version} ({entry.value})"


def _without(entry: FactoryEntry) -> tuple[str, str]:
    # What is disabled already stays so.
    names = ",".join(filter(None, (os.environ.get(DISABLE_VARIABLE), entry.distribution)))
    return _pip("uninstall", entry.distribution), f"export {DISABLE_VARIABLE}={shlex.quote(names)}"


def _version(distribution: str) -> str:
    return installed_version(distribution) or "unknown"


def _pip(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", *arguments])
