"""All rows, in the order of the table."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import (
    adamw_step,
    building,
    command,
    components,
    discovery,
    first_step,
    gpu,
    peak_memory,
    schedule_free_step,
    state,
)
from benchmarks.row import Row
from benchmarks.sizes import Sizes

__all__ = ["all_rows", "chosen"]

FAMILIES = (
    adamw_step,
    schedule_free_step,
    first_step,
    discovery,
    building,
    state,
    peak_memory,
    components,
    command,
    gpu,
)


def all_rows(sizes: Sizes) -> list[Row]:
    """Every row that there is, those for a GPU too."""
    return [row for family in FAMILIES for row in family.rows(sizes)]


def chosen(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows with these names: a whole name or the beginning of one, up to a slash, such as a family.

    Raises:
        LookupError: a name is of no row.
    """
    found = {name: [row for row in rows if f"{row.name}/".startswith(f"{name}/")] for name in names}
    if unknown := [name for name, own in found.items() if not own]:
        raise LookupError(f"no row is called {', '.join(unknown)}; --list says what there is")
    return [row for row in rows if any(row in own for own in found.values())]
