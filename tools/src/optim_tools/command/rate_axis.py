"""Whether the axis of learning rates is to be linear or logarithmic, and where it begins.

Decided by what a person would name of a curve: its first rate, its peak, and its last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from optim_tools.inspection.curves import Curve

__all__ = ["RateAxis", "Scale", "rate_axis"]

Scale = Literal["auto", "linear", "log"]

# A little less than 10 and 100, which rounding may miss.
_PEAKS_APART = 9.99
_ENDS_APART = 99.9
_DECADES = 3


@dataclass(frozen=True)
class RateAxis:
    """An axis of learning rates.

    Attributes:
        log: whether it is logarithmic.
        low: where it begins; above zero on a logarithmic axis, on which lower rates are off the axis.
        high: the highest rate.
    """

    log: bool
    low: float
    high: float

    def fraction(self, rate: float) -> float:
        """How far up a rate is, from 0 to 1 on the axis; NaN for what has no place at all."""
        if not self.log:
            return (rate - self.low) / (self.high - self.low)
        if math.isnan(rate):
            return rate
        return math.log(max(rate, self.low / 2) / self.low) / math.log(self.high / self.low)


def rate_axis(curves: Sequence[Curve], scale: Scale) -> RateAxis:
    """The axis on which these curves are best read, or that `scale` asks for."""
    peaks = [curve.peak[1] for curve in curves if curve.peak[1] > 0]
    lowest = min((rate for curve in curves for rate in curve.rates if math.isfinite(rate)), default=0.0)
    high = max(peaks, default=1.0)
    named = [rate for curve in curves for rate in _ends(curve)] + peaks
    apart = bool(peaks) and max(peaks) >= _PEAKS_APART * min(peaks)
    spans = any(rate * _ENDS_APART <= curve.peak[1] for curve in curves for rate in _ends(curve))
    if scale == "linear" or not peaks or (scale == "auto" and not (apart or spans)):
        low = min(lowest, 0.0)
        return RateAxis(False, low, high if high > low else low + 1)
    # What is near zero at times is followed for some decades.
    followed = [max(lowest_above_zero, peak / 10**_DECADES) for lowest_above_zero, peak in _extents(curves)]
    low = min(named + followed)
    return RateAxis(True, low if low < high else low / 10, high)


def _extents(curves: Sequence[Curve]) -> Iterator[tuple[float, float]]:
    for curve in curves:
        if curve.peak[1] > 0:
            yield min(rate for rate in curve.rates if rate > 0), curve.peak[1]


def _ends(curve: Curve) -> list[float]:
    """The first rate and the last, without any that is as good as zero."""
    return [end for end in (_end(curve.rates[:2]), _end(curve.rates[:-3:-1])) if end is not None]


def _end(rates: Sequence[float]) -> float | None:
    end = rates[0]
    if not math.isfinite(end) or end <= 0:
        return None
    # On the straight line, or on the cosine, that reaches zero one step beyond.
    reaches_zero = len(rates) > 1 and any(math.isclose(rates[1], end * k, rel_tol=0.01) for k in (2, 4))
    return None if reaches_zero else end
