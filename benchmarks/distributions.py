"""Making many installed distributions, to see what searching through them takes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["many_distributions"]

DESCRIPTION = "A line of a long description, as distributions have it in their metadata.\n" * 200
METADATA = "Metadata-Version: 2.1\nName: distribution-{number}\nVersion: 1.0\nSummary: One of many\n\n" + DESCRIPTION


@contextmanager
def many_distributions(count: int, group: str, *, every: int) -> Iterator[str]:
    """A folder with distributions to put on the path, inside the `with` block.

    Args:
        count: how many.
        group: the entry-point group that those with entry points have one in.
        every: one in how many has entry points.
    """
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            info = Path(folder, f"distribution_{number}-1.0.dist-info")
            info.mkdir()
            (info / "METADATA").write_text(METADATA.format(number=number))
            (info / "RECORD").write_text(f"distribution_{number}/__init__.py,,\n")
            if number % every == 0:
                (info / "entry_points.txt").write_text(f"[{group}]\nname-{number} = distribution_{number}:Named\n")
        yield folder
