"""`state_dict()`, `load_state_dict()` and the size of the file, against bare AdamW's."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from functools import partial

import torch

from benchmarks.measuring import Samples, Side, alternate
from benchmarks.optimizers import FUSED_ADAMW, ONE_CYCLE, WARMUP_COSINE, parameters_of, stepping
from benchmarks.row import Measurement, Row
from benchmarks.sizes import Shape, Sizes
from benchmarks.steps import SMALL

__all__ = ["rows"]

MANY = [SMALL] * 1000


def rows(sizes: Sizes) -> list[Row]:
    """The rows: with many tensors, where bookkeeping counts, and large ones, where a copy would."""
    found = []
    for key in (WARMUP_COSINE, ONE_CYCLE):
        many = f"{len(MANY):,} small tensors"
        found += [
            Row(f"state/{name}/{key}", f"{key}: {what}", f"{FUSED_ADAMW}'s", measure, bound=1.05)
            for name, what, measure in (
                ("save", f"state_dict(), {many}", partial(_save, key, MANY)),
                ("load", f"load_state_dict(), {many}", partial(_load, key, MANY)),
                ("load-large", f"load_state_dict(), {sizes.large_text}", partial(_load, key, sizes.large)),
                ("file", f"size of the saved file, {many}", lambda rounds, key=key: _file_size(key, MANY)),
            )
        ]
    return found


def _stepped(name: str, shapes: Sequence[Shape]) -> torch.optim.Optimizer:
    built = stepping(name, parameters_of(shapes))
    built.step()
    return built.optimizer


def _save(key: str, shapes: Sequence[Shape], rounds: int) -> Measurement:
    sides = [Side(name, _stepped(name, shapes).state_dict) for name in (key, FUSED_ADAMW)]
    ours, theirs = alternate(sides, rounds)
    return Measurement(ours, (theirs,))


def _load(key: str, shapes: Sequence[Shape], rounds: int) -> Measurement:
    sides = []
    for name in (key, FUSED_ADAMW):
        optimizer = _stepped(name, shapes)
        # Not the optimizer's own tensors: what is loaded comes from a file.
        saved = copy.deepcopy(optimizer.state_dict())
        sides.append(Side(name, partial(optimizer.load_state_dict, saved)))
    ours, theirs = alternate(sides, rounds)
    return Measurement(ours, (theirs,))


def _file_size(key: str, shapes: Sequence[Shape]) -> Measurement:
    def saved(name: str) -> Samples:
        file = io.BytesIO()
        torch.save(_stepped(name, shapes).state_dict(), file)
        return Samples(name, (float(file.tell()),))

    return Measurement(saved(key), (saved(FUSED_ADAMW),), unit="bytes")
