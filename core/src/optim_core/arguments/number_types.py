"""The kinds of numbers that optimizers take, as annotations that are checked and can be read by tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Beta",
    "Finite",
    "LearningRate",
    "NonNegative",
    "PeakLearningRate",
    "PeakLearningRateOrTensor",
    "StepCount",
    "Steps",
]

Finite = Annotated[float, AllowInfNan(False)]
"""A number that is neither infinite nor NaN."""
PeakLearningRate = Annotated[Finite, Gt(0)]
"""An absolute learning rate above zero."""
if TYPE_CHECKING:
    PeakLearningRateOrTensor = PeakLearningRate | Tensor
else:
    # Checked as a number, which a tensor of one element is converted to; no torch is imported here.
    PeakLearningRateOrTensor = PeakLearningRate
"""An absolute learning rate above zero, or a tensor of one element that has it."""
LearningRate = Annotated[Finite, Ge(0)]
"""An absolute learning rate."""
NonNegative = Annotated[Finite, Ge(0)]
"""A finite number, zero or more."""
Beta = Annotated[float, Ge(0), Lt(1)]
"""The coefficient of a running average."""
StepCount = Annotated[int, Ge(1), Le(2**63 - 1)]
"""A number of optimizer updates, at least one."""
Steps = Annotated[int, Ge(0), Le(2**63 - 1)]
"""A number of optimizer updates, zero or more."""
