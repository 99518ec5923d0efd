"""The licences that a new distribution can have, with their texts."""

from __future__ import annotations

from dataclasses import dataclass

from optim_tools.scaffolding.templates import render

__all__ = ["LICENSES", "License"]


@dataclass(frozen=True)
class License:
    """A licence.

    Attributes:
        name: what it is chosen by.
        expression: its SPDX expression, for pyproject.toml.
    """

    name: str
    expression: str

    def text(self, *, year: int, author: str) -> str:
        """The text of the file LICENSE."""
        return render(f"licenses/{self.name}.txt", {"year": str(year), "author": author})


LICENSES = {
    one.name: one
    for one in (
        License("MIT", "MIT"),
        License("Apache-2.0", "Apache-2.0"),
        License("BSD-3-Clause", "BSD-3-Clause"),
        License("proprietary", "LicenseRef-Proprietary"),
    )
}
"""By name; the first is the default."""
