"""Whether an optimizer's step needs a closure, or matrices: what the conformance kit has to know beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ways_of_stepping"]

_ANY_SHAPES = ((3, 2), (2,))
_MATRICES = ((3, 2), (2, 2))


def ways_of_stepping(build: Callable[[Any], Any]) -> dict[str, bool]:
    """Flags of `Claims` with which two steps are made without an exception; none where no way is found.

    Args:
        build: makes the optimizer over parameters.
    """
    for shapes, closure in ((_ANY_SHAPES, False), (_ANY_SHAPES, True), (_MATRICES, False), (_MATRICES, True)):
        if _steps(build, shapes, closure):
            matrices_only = {} if shapes == _ANY_SHAPES else {"vectors": False, "scalars": False}
            return matrices_only | ({"needs_closure": True} if closure else {})
    return {}


def _steps(build: Callable[[Any], Any], shapes: Sequence[Sequence[int]], with_closure: bool) -> bool:
    parameters = [nn.Parameter(torch.ones(*shape)) for shape in shapes]

    def closure() -> Tensor:
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 0.1)
        return torch.ones(())

    try:
        optimizer = build(parameters)
        for _ in range(2):
            closure()
            optimizer.step(*([closure] if with_closure else []))
    except Exception:
        # Whatever a stranger's step raises, it is none of the ways.
        return False
    return True
