"""How large the things are that are measured."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Shape", "Sizes"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a run.

    Attributes:
        large: four tensors that no cache holds, where a step takes as long as its memory traffic.
        distributions: how many are on the path where entry points are listed.
        components: how many a model has, at most.
        tensors_per_component: parameters of each.
    """

    large: tuple[Shape, ...]
    distributions: int
    components: int
    tensors_per_component: int

    @property
    def large_text(self) -> str:
        count = sum(rows * columns for rows, columns in self.large)
        return f"{count / 1e6:.0f} M parameters in {len(self.large)} tensors"


FULL = Sizes(large=((4096, 4096),) * 4, distributions=1000, components=1000, tensors_per_component=100)
QUICK = Sizes(large=((512, 512),) * 4, distributions=50, components=50, tensors_per_component=20)
"""For trying whether everything runs; its figures mean nothing."""
