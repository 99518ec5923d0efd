"""`build_optimizers` for many components and parameters, against the bare constructors, and how it grows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.measuring import Ratio, Side, alternate
from benchmarks.optimizers import PARAMS, PEAK_LR, WARMUP_COSINE
from benchmarks.row import Measurement, Row
from benchmarks.sizes import Sizes
from optim_core import build_optimizers

__all__ = ["rows"]

MOST_ROUNDS = 7
"""Building the large one takes seconds."""
LINEAR = 1.2
"""What the time per parameter may grow by: a cache holds the few, and doesn't hold the many."""


class Component(torch.nn.Module):
    """Many small parameters: what each holds is no matter to who builds an optimizer."""

    def __init__(self, tensors: int) -> None:
        super().__init__()
        self.tensors = torch.nn.ParameterList(torch.nn.Parameter(torch.ones(1)) for _ in range(tensors))


def rows(sizes: Sizes) -> list[Row]:
    """The rows: the ratio at two sizes, and for each of the two numbers what ten times as many take."""
    components, tensors = sizes.components, sizes.tensors_per_component
    few_components, few_tensors = components // 10, tensors // 10

    def text(components: int, tensors: int) -> str:
        return f"build_optimizers: {components:,} components, {components * tensors:,} parameters"

    return [
        *(
            Row(
                f"building/{name}",
                text(components, own_tensors),
                f"{components:,} times AdamW(parameters)",
                partial(_ratio, components, own_tensors),
                bound=1.2,
            )
            for name, own_tensors in (("many", tensors), ("many-small", few_tensors))
        ),
        Row(
            "building/ten-times-the-components",
            f"{text(components, tensors)}, time per parameter",
            f"the same for {few_components:,} components, {few_components * tensors:,} parameters",
            partial(_growth, (components, tensors), (few_components, tensors)),
            bound=LINEAR,
        ),
        Row(
            "building/ten-times-the-parameters",
            f"{text(components, tensors)}, time per parameter",
            f"the same for {components:,} components, {components * few_tensors:,} parameters",
            partial(_growth, (components, tensors), (components, few_tensors)),
            bound=LINEAR,
        ),
    ]


def _sides(components: int, tensors: int) -> list[Side]:
    models = {f"component_{number}": Component(tensors) for number in range(components)}
    configuration = {name: {"type": WARMUP_COSINE, "params": PARAMS[WARMUP_COSINE]} for name in models}
    ours: Callable[[], object] = partial(build_optimizers, models, configuration)

    def theirs() -> object:
        return {name: torch.optim.AdamW(model.parameters(), lr=PEAK_LR) for name, model in models.items()}

    return [Side("build_optimizers", ours), Side("AdamW(parameters)", theirs)]


def _ratio(components: int, tensors: int, rounds: int) -> Measurement:
    ours, theirs = alternate(_sides(components, tensors), min(rounds, MOST_ROUNDS), warm_up=1)
    each = 1e6 / components / tensors
    note = f"per parameter: {ours.median * each:.2f} µs, bare {theirs.median * each:.2f} µs"
    return Measurement(ours, (theirs,), note=note)


def _growth(many: tuple[int, int], few: tuple[int, int], rounds: int) -> Measurement:
    """Time per parameter of the many over that of the few: at most one, where it is linear."""
    sides = [*_sides(*many), *_sides(*few)]
    ours, theirs, ours_of_few, theirs_of_few = alternate(sides, min(rounds, MOST_ROUNDS), warm_up=1)
    each_of_many, each_of_few = 1 / many[0] / many[1], 1 / few[0] / few[1]
    bare = Ratio.of(theirs.scaled(each_of_many), theirs_of_few.scaled(each_of_few)).value
    return Measurement(
        ours.scaled(each_of_many),
        (ours_of_few.scaled(each_of_few),),
        note=f"1 or less is linear; the bare constructors': {bare:.2f}",
    )
