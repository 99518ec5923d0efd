"""What becomes of a training, and whether another one takes the same course."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from optim_tools.conformance.comparison import weights_difference
from optim_tools.conformance.small_problem import Training

__all__ = ["Moment", "course", "parting"]


@dataclass(frozen=True)
class Moment:
    """What can be seen of a training between two updates.

    Attributes:
        rates: the learning rate of each group.
        weights: copies of the parameters by name.
    """

    rates: list[float]
    weights: dict[str, Tensor]


def course(training: Training, steps: int) -> list[Moment]:
    """Run a training for so many updates; the moments before the first and after each."""
    moments = [_moment(training)]
    for _ in range(steps):
        moments.append(_moment(training.run(1)))
    return moments


def parting(
    training: Training, expected: list[Moment], *, rtol: float = 0.0, atol: float = 0.0, weights: bool = True
) -> str | None:
    """Run a training along another's course; where the two part, in words; None where they don't.

    Args:
        training: at the first of the moments.
        expected: what `course` returned of the other.
        rtol: relative tolerance of the weights; none for the rates.
        atol: absolute tolerance of the weights.
        weights: whether to compare the weights, and not the rates alone.
    """
    for updates, other in enumerate(expected):
        moment = _moment(training if updates == 0 else training.run(1))
        if moment.rates != other.rates:
            return f"{_after(updates)} the learning rate is {_listed(moment.rates)} instead of {_listed(other.rates)}"
        if weights and (found := weights_difference(moment.weights, other.weights, rtol=rtol, atol=atol)):
            return f"{_after(updates)} {found}"
    return None


def _moment(training: Training) -> Moment:
    return Moment(training.rates(), training.weights())


def _after(updates: int) -> str:
    return {0: "at once", 1: "after 1 more update"}.get(updates, f"after {updates} more updates")


def _listed(rates: list[float]) -> str:
    texts = [f"{rate:.6g}" for rate in rates]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts) or "gone"
