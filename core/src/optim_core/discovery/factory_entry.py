"""Finding entry points among the installed distributions, without importing what they point to."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from operator import attrgetter

import importlib_metadata

from optim_core.discovery.entry_points import (
    DISABLE_VARIABLE,
    FACTORIES_GROUP,
    HOOKS_GROUP,
    disabled_distributions,
    find_entry_points,
    log_unreadable,
    normalized_name,
    provider_of,
)

__all__ = ["DISABLE_VARIABLE", "FACTORIES_GROUP", "HOOKS_GROUP", "FactoryEntry", "find_entries", "read_entries"]


@dataclass(frozen=True, order=True)
class FactoryEntry:
    """Something found in an entry-point group, not yet imported.

    Attributes:
        key: the entry point's name; for a factory the registry key.
        distribution: the name of the distribution that provides it.
        version: that distribution's version.
        value: the object reference, `package.module:Class`.
        group: the entry-point group, or "in-process" for what was registered by a call.
        disabled: whether `OPTIM_DISABLE_PLUGINS` names the distribution.
        summary: that distribution's description of itself, on one line; may be empty.
    """

    key: str
    distribution: str
    version: str
    value: str
    group: str = FACTORIES_GROUP
    disabled: bool = False
    summary: str = field(default="", compare=False)
    _entry_point: importlib_metadata.EntryPoint | None = field(default=None, compare=False, repr=False)

    @property
    def provider(self) -> str:
        """Who provides it, for a person to read."""
        if self._entry_point is None:
            return f"{self.value} (registered in this process)"
        return f"{self.distribution} {self.version} ({self.value})"

    def load(self) -> object:
        """Import what the entry points to.

        Raises:
            LookupError: it was registered in this process, and has no entry point.
            Exception: whatever the import raises.
        """
        if self._entry_point is None:
            raise LookupError(f"{self.key!r} has no entry point")
        return self._entry_point.load()


def find_entries(group: str) -> tuple[FactoryEntry, ...]:
    """Every entry of a group, sorted by key, distribution and value; disabled ones are marked.

    A distribution that is seen twice counts once. One whose metadata can't be read is left out with
    a logged warning, and takes nothing else with it.
    """
    return read_entries(find_entry_points(group), disabled_distributions())


def read_entries(
    points: Iterable[importlib_metadata.EntryPoint], disabled: Collection[str]
) -> tuple[FactoryEntry, ...]:
    """The entries that entry points are, as `find_entries` has them, with what is read of their distributions.

    Args:
        points: the entry points; of two that are the same, the first counts.
        disabled: the normalized names of distributions whose entries are to be marked as disabled.
    """
    entries: dict[tuple[str, str, str], FactoryEntry] = {}
    # By name now, at next to no cost, so that the entries, which compare slowly, are all but sorted.
    for point in sorted(points, key=attrgetter("name")):
        try:
            name, version, summary = provider_of(point.dist)
        except Exception as error:
            # Entry points can be read without METADATA; whose they are can't.
            log_unreadable(point.dist, error)
            continue
        normalized = normalized_name(name)
        entry = FactoryEntry(
            point.name, name, version, point.value, point.group, normalized in disabled, summary, point
        )
        entries.setdefault((entry.key, normalized, entry.value), entry)
    return tuple(sorted(entries.values()))
