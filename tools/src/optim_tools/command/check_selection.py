"""The checks that are named on the command line of `optim verify`, and `--list` of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optim_core.for_tools import nearest
from optim_tools.command.failures import CommandError
from optim_tools.command.report import print_rows
from optim_tools.conformance.check import Check
from optim_tools.conformance.checks import CHECKS

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["CheckList", "selected_checks"]


@dataclass(frozen=True)
class CheckList:
    """Checks of the kit, without carrying them out."""

    checks: Sequence[Check]
    status: int = 0

    def document(self) -> list[dict[str, Any]]:
        """One object for each check, in the order in which they are carried out."""
        return [{"identifier": c.identifier, "why": c.why, "claim": c.claim} for c in self.checks]

    def render(self, console: Console) -> None:
        """A row for each check."""
        rows = [(check.identifier, check.why, check.claim or "") for check in self.checks]
        print_rows(console, ("check", "why it matters", "only if claimed"), rows)


def selected_checks(names: Sequence[str]) -> tuple[Check, ...]:
    """The checks of these names, each an identifier or a family, in the order of the kit; all without any name.

    Raises:
        CommandError: there is no check of a name (status 2).
    """
    known = dict.fromkeys([*(check.identifier for check in CHECKS), *(check.family for check in CHECKS)])
    for name in names:
        if name not in known:
            near = nearest(name, list(known))
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "`optim verify --list` has them all"
            raise CommandError(f"there is no check {name!r}. {hint}", status=2)
    return tuple(c for c in CHECKS if not names or c.identifier in names or c.family in names)
