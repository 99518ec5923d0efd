"""The checks, a module for each family, in the order in which they are carried out."""

from __future__ import annotations

from optim_tools.conformance.check import Check, registered_checks
from optim_tools.conformance.checks import construction, modes, packaging, schedule, state, tools, training

__all__ = ["CHECKS"]

_FAMILIES = (construction, training, schedule, state, tools, modes, packaging)

CHECKS: tuple[Check, ...] = tuple(
    check for family in _FAMILIES for check in registered_checks() if check.function.__module__ == family.__name__
)
"""Every check of the kit."""
