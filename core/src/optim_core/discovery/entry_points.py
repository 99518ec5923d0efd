"""Entry points among the installed distributions, and whose they are.

Listing keys needs no more of this package than the registry and this module, which is why neither
imports what takes long: dataclasses, logging, the parser of e-mail.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import importlib_metadata

if TYPE_CHECKING:
    from importlib_metadata import IDistribution  # which the oldest version supported doesn't have

__all__ = [
    "DISABLE_VARIABLE",
    "FACTORIES_GROUP",
    "HOOKS_GROUP",
    "disabled_distributions",
    "find_entry_points",
    "log_unreadable",
    "normalized_name",
    "provider_of",
]

FACTORIES_GROUP = "optim.factories"
HOOKS_GROUP = "optim.hooks"
DISABLE_VARIABLE = "OPTIM_DISABLE_PLUGINS"

_FIELD = re.compile(r"^(name|version|summary):(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)


def find_entry_points(group: str) -> Iterator[importlib_metadata.EntryPoint]:
    """The entry points of a group, of each distribution once, the one that comes first on the path.

    Whose they are isn't read for it. A distribution whose entry points can't be read is left out
    with a logged warning, and takes nothing else with it.
    """
    try:
        yield from list(importlib_metadata.entry_points(group=group))
        return
    except Exception:
        # Metadata of any distribution can be broken in any way (encoding, syntax, no name), and the
        # call above reads all of it: go through them one by one to find out whose it is.
        import logging  # as said above

        logging.getLogger(__name__).debug("reading entry points one distribution at a time", exc_info=True)
    seen: set[str] = set()
    for distribution in importlib_metadata.distributions():
        try:
            name = normalized_name(provider_of(distribution)[0])
            points = list(distribution.entry_points.select(group=group))
        except Exception as error:
            log_unreadable(distribution, error)
            continue
        if name not in seen:
            seen.add(name)
            yield from points


def provider_of(distribution: IDistribution | None) -> tuple[str, str, str]:
    """The name and version of a distribution, and its description of itself on one line, which may be empty.

    Raises:
        Exception: whatever reading its metadata raises.
    """
    if distribution is None:
        return "unknown", "unknown", ""
    # In place of the whole file's parser, which takes many times as long for three lines near the
    # top. A blank line ends the fields, even where it is the first.
    head = f"\n{distribution.read_text('METADATA') or ''}".partition("\n\n")[0]
    found = reversed(_FIELD.findall(head))  # of a field that is there twice, the first counts
    fields = {name.lower(): " ".join(value.split()) for name, value in found}
    if fields.get("name") and fields.get("version"):
        return fields["name"], fields["version"], fields.get("summary", "")
    # Of another format (an egg's), of another kind of distribution, or broken.
    metadata = distribution.metadata
    summary = metadata.get("Summary") or ""
    return metadata["Name"] or "unknown", metadata["Version"] or "unknown", " ".join(summary.split())


def log_unreadable(distribution: object, error: Exception) -> None:
    """Warn of a distribution that is left out, and say where it is."""
    import logging  # as said above

    # Not every kind of distribution has a place, and those that do have no public name for it.
    where = getattr(distribution, "_path", "an unknown place")
    logging.getLogger(__name__).warning(
        "the metadata of a distribution at %s can't be read and is ignored: %r", where, error
    )


def disabled_distributions() -> frozenset[str]:
    """The normalized names of the distributions that `OPTIM_DISABLE_PLUGINS` blocks."""
    names = re.split(r"[,\s]+", os.environ.get(DISABLE_VARIABLE, ""))
    return frozenset(normalized_name(name) for name in names if name)


def normalized_name(name: str) -> str:
    """A distribution's name as packaging compares it: case, runs of - _ . make no difference."""
    return re.sub(r"[-_.]+", "-", name).lower()
