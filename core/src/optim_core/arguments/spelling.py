"""What somebody may have meant by a name that doesn't exist."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

__all__ = ["nearest"]


def nearest(name: object, candidates: Sequence[str]) -> list[str]:
    """The candidates spelt most like `name`, best first; where none is, those that it is a part of."""
    text = str(name).lower()
    likeness = {c: difflib.SequenceMatcher(None, text, c.lower()).ratio() for c in candidates}
    best = max(likeness.values(), default=0.0)
    similar = [c for c in sorted(candidates, key=lambda c: -likeness[c]) if likeness[c] >= max(0.6, best - 0.1)]
    words = [c for c in candidates if text and text in c.replace("-", "_").split("_")]
    return (similar or words)[:3]
