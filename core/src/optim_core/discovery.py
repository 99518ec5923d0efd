"""Finding entry points among the installed distributions, without importing what they point to."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import importlib_metadata

__all__ = ["DISABLE_VARIABLE", "FACTORIES_GROUP", "HOOKS_GROUP", "FactoryEntry", "find_entries"]

FACTORIES_GROUP = "optim.factories"
HOOKS_GROUP = "optim.hooks"
DISABLE_VARIABLE = "OPTIM_DISABLE_PLUGINS"

_log = logging.getLogger(__name__)


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
    disabled = _disabled_distributions()
    entries: dict[tuple[str, str, str], FactoryEntry] = {}
    for point in _entry_points(group):
        try:
            name, version, summary = _provider(point)
        except Exception as error:
            # Entry points can be read without METADATA; whose they are can't.
            _log_unreadable(point.dist, error)
            continue
        is_disabled = _normalized(name) in disabled
        entry = FactoryEntry(point.name, name, version, point.value, group, is_disabled, summary, point)
        entries.setdefault((entry.key, _normalized(name), entry.value), entry)
    return tuple(sorted(entries.values()))


def _entry_points(group: str) -> Iterator[importlib_metadata.EntryPoint]:
    try:
        yield from list(importlib_metadata.entry_points(group=group))
        return
    except Exception:
        # Metadata of any distribution can be broken in any way (encoding, syntax, no name), and the
        # call above reads all of it: go through them one by one to find out whose it is.
        _log.debug("reading entry points one distribution at a time", exc_info=True)
    seen: set[str] = set()
    for distribution in importlib_metadata.distributions():
        try:
            name = _normalized(distribution.metadata["Name"])
            points = list(distribution.entry_points.select(group=group))
        except Exception as error:
            _log_unreadable(distribution, error)
            continue
        if name not in seen:
            seen.add(name)
            yield from points


def _provider(point: importlib_metadata.EntryPoint) -> tuple[str, str, str]:
    if point.dist is None:
        return "unknown", "unknown", ""
    metadata = point.dist.metadata
    summary = metadata.get("Summary") or ""
    return metadata["Name"] or "unknown", metadata["Version"] or "unknown", " ".join(summary.split())


def _log_unreadable(distribution: object, error: Exception) -> None:
    # Not every kind of distribution has a place, and those that do have no public name for it.
    where = getattr(distribution, "_path", "an unknown place")
    _log.warning("the metadata of a distribution at %s can't be read and is ignored: %r", where, error)


def _disabled_distributions() -> frozenset[str]:
    names = re.split(r"[,\s]+", os.environ.get(DISABLE_VARIABLE, ""))
    return frozenset(_normalized(name) for name in names if name)


def _normalized(name: str) -> str:
    """A distribution's name as packaging compares it: case, runs of - _ . make no difference."""
    return re.sub(r"[-_.]+", "-", name).lower()
