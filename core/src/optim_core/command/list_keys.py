"""`optim list`: every key and who provides it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optim_core.command.report import print_rows
from optim_core.discovery import DISABLE_VARIABLE, FactoryEntry
from optim_core.registry import OPTIMIZER_BUILDER_REGISTRY

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["KeyList", "list_keys"]


@dataclass(frozen=True)
class Claim:
    """One distribution's claim to a key; `problem` is why the key can't be had from it."""

    entry: FactoryEntry
    description: str
    problem: str = ""


@dataclass(frozen=True)
class KeyList:
    """Every key of the registry; `failed` where a plugin was asked to be imported and couldn't be."""

    claims: tuple[Claim, ...]
    failed: bool = False

    @property
    def status(self) -> int:
        """0, whatever is marked, unless an import was asked for and failed."""
        return int(self.failed)

    def document(self) -> list[dict[str, Any]]:
        """One object for each claim, sorted by key."""
        return [
            {
                "key": claim.entry.key,
                "distribution": claim.entry.distribution,
                "version": claim.entry.version,
                "value": claim.entry.value,
                "description": claim.description,
                "disabled": claim.entry.disabled,
                "problem": claim.problem or None,
            }
            for claim in self.claims
        ]

    def render(self, console: Console) -> None:
        """A row for each claim."""
        if not self.claims:
            console.print("No optimizer is installed. Install a distribution that provides one, with pip.")
            return
        headings = ("key", "distribution", "version", "description", "problem")
        rows = [(c.entry.key, c.entry.distribution, c.entry.version, c.description, c.problem) for c in self.claims]
        print_rows(console, headings, rows)
        if console.is_terminal:
            console.print("\noptim show KEY tells a key's parameters, and gives YAML to paste.", style="dim")
            if not all(claim.description or claim.problem for claim in self.claims):
                console.print("optim list --load asks the plugins for the missing descriptions.", style="dim")


def list_keys(*, load: bool, timeout: float) -> KeyList:
    """List every key with its claimants, disabled ones too.

    Args:
        load: import every plugin, each in a process of its own, for its factory's description.
        timeout: seconds that one plugin may take.
    """
    entries = OPTIMIZER_BUILDER_REGISTRY.entries(include_disabled=True)
    descriptions = {entry: _description_without_import(entry, entries) for entry in entries}
    problems = {entry: _obstacle(entry, entries) for entry in entries}
    failed = False
    if load:
        from optim_core.inspection.isolation import examine_all  # nothing else here starts a process

        for examination in examine_all([e for e in entries if not e.disabled], timeout=timeout):
            entry = examination.entry
            descriptions[entry] = examination.description or descriptions[entry]
            if examination.problem:
                failed = True
                problems[entry] = "; ".join(filter(None, (problems[entry], examination.problem)))
    return KeyList(tuple(Claim(e, descriptions[e], problems[e]) for e in entries), failed)


def _description_without_import(entry: FactoryEntry, entries: Iterable[FactoryEntry]) -> str:
    """What the distribution says of itself, where the key is the only thing that it provides."""
    return entry.summary if Counter(e.distribution for e in entries)[entry.distribution] == 1 else ""


def _contested_by(entry: FactoryEntry, entries: Iterable[FactoryEntry]) -> list[FactoryEntry]:
    """The others that claim an entry's key, disabled ones left out."""
    return [e for e in entries if e.key == entry.key and e != entry and not (e.disabled or entry.disabled)]


def _obstacle(entry: FactoryEntry, entries: Iterable[FactoryEntry]) -> str:
    if entry.disabled:
        return f"disabled by {DISABLE_VARIABLE}"
    others = _contested_by(entry, entries)
    if not others:
        return ""
    names = ", ".join(f"{other.distribution} {other.version}" for other in others)
    return f"can't be used: {names} claims this key too; uninstall one, or name it in {DISABLE_VARIABLE}"
