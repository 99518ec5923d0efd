"""`optim schema`: the JSON Schema of one key's params, or of a whole configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optim_core import OPTIMIZER_BUILDER_REGISTRY
from optim_core.for_tools import contested_keys
from optim_tools.command.key_factory import key_factory
from optim_tools.command.report import warn
from optim_tools.inspection.isolation import examine_all
from optim_tools.inspection.json_schema import DIALECT, configuration_schema, factory_schema

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Schema", "print_schema"]


@dataclass(frozen=True)
class Schema:
    """A JSON Schema; `status` is 1 where a factory that should be in it is not."""

    schema: Mapping[str, Any]
    status: int = 0

    def document(self) -> Mapping[str, Any]:
        """The schema itself."""
        return self.schema

    def render(self, console: Console) -> None:
        """The same for a person."""
        console.out(json.dumps(self.schema, indent=2))


def print_schema(key: str | None, *, timeout: float) -> Schema:
    """Make the JSON Schema of a configuration with everything installed, or of one key's params.

    Args:
        key: the registry key; None for the configuration.
        timeout: seconds that one plugin may take to be imported, for the configuration.

    Raises:
        CommandError: there is no such key, or its factory can't be used.
    """
    if key is not None:
        found = key_factory(key)
        return Schema({"$schema": DIALECT, "title": f"params of {key}", **factory_schema(found.target)})
    factories, complete = _installed(timeout)
    head = {"$schema": DIALECT, "title": "optim configuration"}
    return Schema(head | configuration_schema(factories), 0 if complete else 1)


def _installed(timeout: float) -> tuple[dict[str, Mapping[str, Any]], bool]:
    """The schema of each key that can be used, and whether that is all that should be."""
    entries = OPTIMIZER_BUILDER_REGISTRY.entries()
    if not entries:
        warn("no optimizer is installed, so the schema accepts none; install one with pip")
    contested = contested_keys(entries)
    for key, claimants in contested.items():
        warn(f"{key!r} is left out: it is claimed by {' and '.join(entry.provider for entry in claimants)}")
    factories: dict[str, Mapping[str, Any]] = {}
    complete = not contested
    for examination in examine_all([entry for entry in entries if entry.key not in contested], timeout=timeout):
        entry = examination.entry
        if examination.schema is None:
            complete = False
            warn(f"{entry.key!r} from {entry.provider} is left out: {examination.problem}")
        else:
            # Whose it is belongs to what an editor shows.
            text = f"{examination.description} ({entry.distribution} {entry.version})".strip()
            factories[entry.key] = {**examination.schema, "description": text}
    return factories, complete
