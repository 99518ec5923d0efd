"""A small canvas of characters, each of several dots, to draw lines on in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["ASCII", "BRAILLE", "Glyphs", "drawn_lines"]

_Dot = tuple[int, int]


@dataclass(frozen=True)
class Glyphs:
    """The characters to draw with.

    Attributes:
        across: dots in the width of a character.
        down: dots in its height.
        character: the character with these dots, each given as its row from above and its column.
    """

    across: int
    down: int
    character: Callable[[Sequence[_Dot]], str]


# The bits of a braille character's dots, by row and column.
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))

BRAILLE = Glyphs(2, 4, lambda dots: chr(0x2800 + sum(_BITS[row][column] for row, column in dots)) if dots else " ")
ASCII = Glyphs(1, 3, lambda dots: " " if not dots else "|" if len(dots) > 1 else "'-."[dots[0][0]])


def drawn_lines(points: Sequence[tuple[float, float]], columns: int, rows: int, glyphs: Glyphs) -> list[str]:
    """Lines from point to point, as rows of characters from above.

    Args:
        points: each from 0 to 1, to the right and upwards; what is beyond is drawn at the edge.
        columns: the width in characters.
        rows: the height in characters.
        glyphs: what to draw with.
    """
    right, bottom = columns * glyphs.across - 1, rows * glyphs.down - 1
    placed = [(round(x * right), round((1 - min(max(y, 0), 1)) * bottom)) for x, y in points]
    cells: dict[tuple[int, int], set[_Dot]] = {}
    for (x, y), (next_x, next_y) in [*pairwise(placed), *zip(placed[-1:], placed[-1:], strict=True)]:
        length = max(abs(next_x - x), abs(next_y - y), 1)
        for part in range(length + 1):
            at_x, at_y = x + round((next_x - x) * part / length), y + round((next_y - y) * part / length)
            dot = (at_y % glyphs.down, at_x % glyphs.across)
            cells.setdefault((at_y // glyphs.down, at_x // glyphs.across), set()).add(dot)
    return [
        "".join(glyphs.character(sorted(cells.get((row, column), ()))) for column in range(columns))
        for row in range(rows)
    ]
