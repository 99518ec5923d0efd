"""`optim list`: every key and who provides it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optim_core import FactoryEntry
from optim_core.for_tools import DISABLE_VARIABLE, FACTORIES_GROUP, contested_keys, find_entries, is_well_formed
from optim_tools.command.report import print_rows

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
    """Every key that is installed, with its claimants."""

    claims: tuple[Claim, ...]

    @property
    def status(self) -> int:
        """1 where a key can't be used, other than by being disabled on purpose."""
        return int(any(claim.problem and not claim.entry.disabled for claim in self.claims))

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
        if console.file.isatty():
            console.print("\noptim show KEY tells a key's parameters, and gives YAML to paste.", style="dim")
            if not all(claim.description or claim.problem for claim in self.claims):
                console.print("optim list --load asks the plugins for the missing descriptions.", style="dim")


def list_keys(*, load: bool, timeout: float) -> KeyList:
    """List every key with its claimants; disabled and malformed ones too, with what is the matter.

    Args:
        load: import every plugin, each in a process of its own, for its factory's description.
        timeout: seconds that one plugin may take.
    """
    entries = find_entries(FACTORIES_GROUP)
    contested = contested_keys(entries)
    provided = Counter(entry.distribution for entry in entries)
    # What a distribution says of itself describes a key where that is all that it provides.
    descriptions = {entry: entry.summary if provided[entry.distribution] == 1 else "" for entry in entries}
    problems = {entry: _problem_of(entry, contested) for entry in entries}
    if load:
        from optim_tools.inspection.isolation import examine_all  # nothing else here starts a process

        for examination in examine_all([e for e in entries if not e.disabled], timeout=timeout):
            entry = examination.entry
            descriptions[entry] = examination.description or descriptions[entry]
            problems[entry] = "; ".join(filter(None, (problems[entry], examination.problem)))
    return KeyList(tuple(Claim(entry, descriptions[entry], problems[entry]) for entry in entries))


def _problem_of(entry: FactoryEntry, contested: Mapping[str, Sequence[FactoryEntry]]) -> str:
    if entry.disabled:
        return f"disabled by {DISABLE_VARIABLE}"
    if not is_well_formed(entry.key):
        return "can't be used: a key has lower-case letters, digits and _ . - only"
    others = [other for other in contested.get(entry.key, ()) if other != entry]
    if not others:
        return ""
    names = ", ".join(f"{other.distribution} {other.version}" for other in others)
    return f"can't be used: {names} claims this key too; uninstall one, or name it in {DISABLE_VARIABLE}"
