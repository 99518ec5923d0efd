"""What an optimizer that drives a learning-rate schedule has to do; whatever the schedule is."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from optim_tools.conformance.check import Deviation, check
from optim_tools.conformance.comparison import difference
from optim_tools.conformance.not_applicable import NotApplicable
from optim_tools.conformance.small_problem import Training
from optim_tools.conformance.subject import Subject

__all__: list[str] = []

_MOST_STEPS = 20_000  # a schedule that is longer isn't walked to its end
_STEPS = 40
_PRECISION = 2e-4  # of updates in double precision; a rate that is one step off is off by more


@check(
    "schedule-rate-visible",
    why="Whoever logs or plots the learning rate reads param_groups[i]['lr'] before the step that applies it.",
    cause="the schedule is moved on before the update, or the rate in param_groups isn't the one that is applied",
)
def rate_visible(subject: Subject) -> None:
    _require_schedule(subject)
    # Some optimizers count updates in their groups, others accumulate: one of both ways suits each.
    walks = [_updates(subject, fresh_state=fresh) for fresh in (True, False)]
    fits = [_Fit.of(updates, "rate") for updates in walks]
    best = min(fits, key=lambda fit: fit.error)
    if best.spread == 0:
        raise Deviation(
            f"param_groups[0]['lr'] is {best.updates[0].rate:.6g} at every one of {len(best.updates)} positions",
            "the rate of the schedule at each",
            "the schedule scales the update behind the scenes, or is never moved on; write its rate into the group",
        )
    if best.is_flat:
        raise Deviation(
            f"the parameters move by {best.updates[0].size:.4g} in each step, though the rate in param_groups goes "
            f"from {best.lowest:.4g} to {best.highest:.4g}",
            "that the rate in param_groups is the one that is applied",
            "the update uses a rate that was noted in the constructor; use `group['lr']`",
        )
    if best.error <= _PRECISION:
        return
    worst = best.worst
    if any(_Fit.of(updates, "rate_after").error <= _PRECISION for updates in walks):
        raise Deviation(
            f"at update {worst.step} the rate in param_groups is {worst.rate:.4g} before step() and "
            f"{worst.rate_after:.4g} after it, and it is the latter that the parameters move by",
            "that step() applies the rate that was in param_groups before it",
            "step() moves the schedule on before the update; update first, then move on",
        )
    raise Deviation(
        f"at update {worst.step} the rate in param_groups is {worst.rate:.4g}, and the parameters move by "
        f"{worst.size:.4g}, where {best.predicted(worst.rate):.4g} would be in proportion to other updates",
        "that step() applies the rate that was in param_groups before it",
        "the update is scaled behind the scenes, or by the rate of another update",
    )


@check(
    "schedule-pure-function",
    why="The rate of an update depends on how many were made before it and on nothing else, so that runs compare.",
    cause="the schedule is also moved on elsewhere, or looks at gradients, losses or time",
)
def pure_function(subject: Subject) -> None:
    _require_schedule(subject)
    expected = _rates(subject, lambda _: None)
    for growth, how in ((1.0, "a hundred times as large"), (1.3, "growing"), (0.7, "shrinking")):
        seen = _rates(subject, lambda _: None, gradient=50.0, growth=growth)
        _require_same_rates(expected, seen, f"with gradients {how}", "looks at gradients or losses")

    def looked_at(optimizer: torch.optim.Optimizer) -> None:
        optimizer.state_dict()
        optimizer.zero_grad()
        copy.deepcopy(optimizer.state_dict())
        repr(optimizer)

    often = _rates(subject, looked_at)
    cause = "is moved on by state_dict() or zero_grad(), or whenever it is read"
    _require_same_rates(expected, often, "where state_dict() and zero_grad() are called between the steps", cause)


@check(
    "schedule-horizon-in-updates",
    why="A horizon counts optimizer updates, whatever the number of backward passes, batches or gradients.",
    cause="batches, backward passes or epochs are counted in place of calls of step()",
)
def horizon_in_updates(subject: Subject) -> None:
    _require_schedule(subject)
    expected = _rates(subject, lambda _: None)
    if not subject.claims.needs_closure:
        accumulated = _rates_in_training(subject, accumulated=3)
        cause = "counts backward passes or batches; count calls of step()"
        _require_same_rates(expected, accumulated, "with gradients accumulated over 3 batches", cause)
        idle = _rates(subject, lambda _: None, gradient=None)
        cause = "stands still in a step without gradients; components of one model then drift apart"
        _require_same_rates(expected, idle, "in steps without any gradient", cause)
    horizon = subject.horizon
    if horizon is None or not 10 <= horizon <= _MOST_STEPS:
        return
    rates = list(_walk(subject, horizon))
    last_change = max((i for i in range(1, len(rates)) if rates[i] != rates[i - 1]), default=0)
    ended = rates[-1] <= 0.02 * max(rates)
    if ended and last_change < 0.6 * horizon:
        raise Deviation(
            f"the rate has its last value, {rates[-1]:.4g}, from update {last_change} on, of {horizon} in all",
            "a schedule that covers its horizon",
            "the schedule is moved on twice in a step, or its length isn't in updates",
        )


@check(
    "schedule-held-past-end",
    why="A training that goes on past the horizon keeps the last rate; it must not jump, climb again or fail.",
    cause="the schedule isn't defined behind its last step",
)
def held_past_end(subject: Subject) -> None:
    _require_schedule(subject)
    horizon = subject.horizon
    if horizon is None:
        raise NotApplicable("its params don't say how many updates the schedule covers")
    if horizon > _MOST_STEPS:
        raise NotApplicable(f"a horizon of {horizon:,} updates takes long to walk; give params with a shorter one")
    beyond = min(max(horizon // 2, 10), 500)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rates = []
        for number, rate in enumerate(_walk(subject, horizon + beyond)):
            if number == horizon:
                caught.clear()
            rates.append(rate)
    held = rates[horizon]
    usual = max((abs(after - before) for before, after in itertools.pairwise(rates[:horizon])), default=0.0)
    if abs(held - rates[horizon - 1]) > 2 * usual + 1e-12:
        raise Deviation(
            f"the rate goes from {rates[horizon - 1]:.4g} in the last update of the schedule to {held:.4g} after it",
            "that the last rate holds",
            "the formula is another behind the horizon, or is off by one at its end",
        )
    if off := next((i for i in range(horizon, len(rates)) if not math.isclose(rates[i], held, rel_tol=1e-6)), None):
        raise Deviation(
            f"the rate at update {off} is {rates[off]:.4g}; at the end of the schedule ({horizon}) it was {held:.4g}",
            "that the last rate holds",
            "the formula goes on behind the horizon (a cosine climbs again); limit the count to the horizon",
        )
    if not math.isfinite(held):
        raise Deviation(
            f"the rate at the end of the schedule is {held}", "a number", "the formula divides by zero at its end"
        )
    said = [str(warning.message) for warning in caught]
    if len(said) > 1:
        raise Deviation(
            f"{len(said)} warnings in {beyond} steps past the end, as in {said[0][:100]!r}",
            "one at most",
            "the warning is given at each step; remember that it was given",
        )


@check(
    "schedule-late-group",
    why="A group that is added during training has the rate of the present position, not of the beginning.",
    cause="what the schedule keeps per group is made in the constructor only",
    claim="groups",
)
def late_schedule_group(subject: Subject) -> None:
    _require_schedule(subject)
    optimizer, step = _stepped(subject)
    for _ in range(4):
        step()
    late = nn.Parameter(torch.ones(2, 2))
    optimizer.add_param_group({"params": [late]})
    for number in range(4, subject.within_horizon(_STEPS)):
        first, second = _rate(optimizer), _rate(optimizer, 1)
        if not math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-12):
            raise Deviation(
                f"at update {number} a group added at update 4 has the rate {second:.4g}, the others {first:.4g}",
                "the same rate, as its options are the same",
                "the new group begins the schedule anew, or is left out of it",
            )
        late.grad = torch.full_like(late, 0.5)
        step()


@check(
    "schedule-group-peak",
    why="A group with a learning rate of its own follows the whole schedule in proportion.",
    cause="the schedule writes the same rate into every group",
    claim="groups",
)
def group_peak(subject: Subject) -> None:
    _require_schedule(subject)
    rate = subject.default_rate
    optimizer, step = _stepped(subject, {"lr": rate / 2})
    for number in range(subject.within_horizon(_STEPS)):
        first, second = _rate(optimizer), _rate(optimizer, 1)
        if not math.isclose(second, first / 2, rel_tol=1e-5, abs_tol=1e-12):
            raise Deviation(
                f"at update {number} a group with half the rate has the rate {second:.4g}, another {first:.4g}",
                "half of it",
                "the schedule writes the same rate into every group; scale it by the group's own",
            )
        step()


def _require_schedule(subject: Subject) -> None:
    if not subject.has_schedule:
        raise NotApplicable("it has no learning-rate schedule")
    if "lr" not in subject.build([nn.Parameter(torch.ones(2, 2))]).param_groups[0]:
        raise Deviation(
            "its parameter groups have no 'lr'", "the rate of the next step", "the rate is kept somewhere else"
        )


def _rate(optimizer: torch.optim.Optimizer, group: int = 0) -> float:
    return float(optimizer.param_groups[group]["lr"])


def _stepped(
    subject: Subject,
    *others: dict[str, Any],
    gradient: float | None = 0.5,
    growth: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """An optimizer over small matrices, one more for each further group, and what makes a step."""
    weights = [nn.Parameter(torch.ones(2, 2, dtype=dtype)) for _ in range(1 + len(others))]
    groups = [{"params": [weight], **options} for weight, options in zip(weights, ({}, *others), strict=True)]
    optimizer = subject.build(groups if others else weights)
    made = [0]

    def closure() -> Tensor:
        for weight in weights:
            weight.grad = None if gradient is None else torch.full_like(weight, gradient * growth ** made[0])
        made[0] += 1
        return torch.ones(())

    return optimizer, lambda: subject.step(optimizer, closure)


def _walk(subject: Subject, count: int) -> Iterator[float]:
    """The rates in `param_groups` before so many steps."""
    optimizer, step = _stepped(subject)
    for _ in range(count):
        yield _rate(optimizer)
        step()


def _rates(
    subject: Subject,
    between: Callable[[torch.optim.Optimizer], object],
    gradient: float | None = 0.5,
    growth: float = 1.0,
) -> list[float]:
    optimizer, step = _stepped(subject, gradient=gradient, growth=growth)
    rates = []
    for _ in range(subject.within_horizon(_STEPS)):
        between(optimizer)
        rates.append(_rate(optimizer))
        step()
    return rates


def _rates_in_training(subject: Subject, accumulated: int) -> list[float]:
    training = Training(subject)
    rates = []
    for _ in range(subject.within_horizon(_STEPS)):
        rates.append(_rate(training.optimizer))
        training.optimizer.zero_grad()
        for batch in range(accumulated):
            torch.autograd.backward(training.loss(batch) / accumulated)
        training.optimizer.step()
    return rates


def _require_same_rates(expected: Sequence[float], seen: Sequence[float], where: str, cause: str) -> None:
    for step, (first, second) in enumerate(zip(expected, seen, strict=True)):
        if difference(first, second):
            raise Deviation(
                f"the rate at update {step} is {second:.6g} {where}, and {first:.6g} otherwise",
                "a rate that depends on the number of updates alone",
                f"the schedule {cause}",
            )


@dataclass(frozen=True)
class _Update:
    """One update: its number, the rates in `param_groups` around it, and by how much a parameter moved."""

    step: int
    rate: float
    rate_after: float
    size: float


@dataclass(frozen=True)
class _Fit:
    """How well the sizes of updates are explained by the visible rates: as a straight line.

    An update is proportional to its rate, up to a weight decay that may not be.
    """

    updates: Sequence[_Update]
    by: str
    slope: float
    offset: float

    @classmethod
    def of(cls, updates: Sequence[_Update], by: str) -> _Fit:
        """The line that fits best, by the rate before the update or the `rate_after` it."""
        rates, sizes = ([getattr(u, name) for u in updates] for name in (by, "size"))
        mean_rate, mean_size = sum(rates) / len(rates), sum(sizes) / len(sizes)
        variance = sum((rate - mean_rate) ** 2 for rate in rates)
        covariance = sum((r - mean_rate) * (s - mean_size) for r, s in zip(rates, sizes, strict=True))
        slope = covariance / variance if variance else 0.0
        return cls(updates, by, slope, mean_size - slope * mean_rate)

    @property
    def lowest(self) -> float:
        return min(update.rate for update in self.updates)

    @property
    def highest(self) -> float:
        return max(update.rate for update in self.updates)

    @property
    def spread(self) -> float:
        return self.highest - self.lowest

    @property
    def is_flat(self) -> bool:
        """Whether the updates have one size, whatever the rate."""
        sizes = [update.size for update in self.updates]
        return max(sizes) - min(sizes) <= _PRECISION * max(map(abs, sizes))

    @property
    def worst(self) -> _Update:
        return max(self.updates, key=self._deviation)

    @property
    def error(self) -> float:
        """The largest deviation, as a part of the largest update."""
        largest = max(abs(update.size) for update in self.updates)
        return self._deviation(self.worst) / largest if largest else 0.0

    def predicted(self, rate: float) -> float:
        """The size of an update at a rate."""
        return self.offset + self.slope * rate

    def _deviation(self, update: _Update) -> float:
        return abs(update.size - self.predicted(getattr(update, self.by)))


def _updates(subject: Subject, *, fresh_state: bool) -> list[_Update]:
    """Updates by the same gradient of the same parameter, at positions all over the schedule.

    Args:
        subject: whose updates.
        fresh_state: whether the parameter's state is what it was before the first update, too.
    """
    optimizer, step = _stepped(subject, dtype=torch.float64)
    weight = optimizer.param_groups[0]["params"][0]
    initial = copy.deepcopy(dict(optimizer.state[weight])) if weight in optimizer.state else None
    horizon = min(subject.horizon or 3 * _STEPS, _MOST_STEPS)
    wanted = {0, 1, 2, 3, *(horizon * part // 24 for part in range(24))}
    updates = []
    for number in range(horizon):
        if fresh_state and number in wanted:
            optimizer.state.pop(weight, None)
            if initial is not None:
                optimizer.state[weight] = copy.deepcopy(initial)
        with torch.no_grad():
            weight.fill_(1)
        rate = _rate(optimizer)
        step()
        if number in wanted:
            updates.append(_Update(number, rate, _rate(optimizer), float((1 - weight.detach()).mean())))
    return updates
