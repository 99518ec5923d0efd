"""Carrying out the checks on one plugin, and what comes of each."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from optim_core import InvalidArgumentsError, Problem
from optim_core.for_tools import nearest
from optim_tools.conformance.check import Check, Deviation
from optim_tools.conformance.checks import CHECKS
from optim_tools.conformance.not_applicable import NotApplicable
from optim_tools.conformance.subject import Subject

__all__ = ["Outcome", "Result", "carry_out", "require_known", "verify"]


class Outcome(enum.StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CLAIMED = "not claimed"
    NOT_APPLICABLE = "not applicable"
    EXPECTED_FAILURE = "expected failure"
    UNEXPECTED_PASS = "unexpected pass"

    @property
    def is_fault(self) -> bool:
        """Whether something has to be mended: the optimizer, or what its author says of it."""
        return self in (Outcome.FAILED, Outcome.UNEXPECTED_PASS)


@dataclass(frozen=True)
class Result:
    """What came of one check on one plugin.

    Attributes:
        identifier: of the check.
        outcome: what came of it.
        seconds: how long it took.
        reason: why it failed though that was expected, or why it wasn't carried out; else empty.
        seen: what was seen where it failed; else empty, as the next two.
        expected: what should have been seen.
        cause: the likely cause.
    """

    identifier: str
    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""
    seen: str = ""
    expected: str = ""
    cause: str = ""


def verify(subject: Subject, checks: Iterable[Check] = CHECKS) -> Iterator[Result]:
    """Carry out checks on a plugin, one after the other; a result is there when its check is done.

    Args:
        subject: the plugin.
        checks: those to carry out.

    Raises:
        InvalidArgumentsError: the plugin's claims name checks that don't exist.
    """
    require_known(subject)
    return (carry_out(check, subject) for check in checks)


def carry_out(check: Check, subject: Subject) -> Result:
    """Carry out one check on a plugin, whatever comes of it."""
    claims = subject.claims
    if check.claim is not None and not getattr(claims, check.claim):
        return Result(check.identifier, Outcome.NOT_CLAIMED, reason=f"{check.claim} is not claimed")
    if check.family == "schedule" and claims.schedule is False:
        return Result(check.identifier, Outcome.NOT_CLAIMED, reason="schedule is not claimed")
    started = time.perf_counter()
    excuse = claims.expected_failures.get(check.identifier)

    def result(outcome: Outcome, reason: str = "", deviation: Deviation | None = None) -> Result:
        seconds = time.perf_counter() - started
        said = ("", "", "") if deviation is None else (deviation.seen, deviation.expected, deviation.cause)
        return Result(check.identifier, outcome, seconds, reason, *said)

    try:
        check.carry_out(subject)
    except NotApplicable as nothing:
        more = "" if excuse is None else "; it is declared as an expected failure all the same"
        return result(Outcome.NOT_APPLICABLE, f"{nothing.reason}{more}")
    except Deviation as deviation:
        if excuse is None:
            return result(Outcome.FAILED, deviation=deviation)
        return result(Outcome.EXPECTED_FAILURE, excuse, deviation)
    if excuse is None:
        return result(Outcome.PASSED)
    passed = Deviation(
        "the check passes",
        f"that it fails, as declared: {excuse}",
        "what made it fail is mended: take it out of the factory's CLAIMS.expected_failures",
    )
    return result(Outcome.UNEXPECTED_PASS, excuse, passed)


def require_known(subject: Subject) -> None:
    """Refuse claims about checks that don't exist.

    Raises:
        InvalidArgumentsError: with each such name and the nearest that there is.
    """
    known = [check.identifier for check in CHECKS]
    problems = []
    for name, reason in subject.claims.expected_failures.items():
        path = f"CLAIMS.expected_failures[{name!r}]"
        if name not in known:
            near = nearest(name, known)
            hint = f"Did you mean {near[0]!r}?" if near else "`optim verify --list` has them all"
            problems.append(Problem(path, "is no check", hint))
        elif (claim := next(c.claim for c in CHECKS if c.identifier == name)) and not getattr(subject.claims, claim):
            problems.append(Problem(path, f"can't fail, as {claim} is not claimed", "Take it out, or claim it"))
        elif not (isinstance(reason, str) and reason.strip()):
            problems.append(Problem(path, "has no reason", "Say why it fails, for whoever uses the optimizer"))
    if problems:
        raise InvalidArgumentsError(subject.target.__name__, problems)
