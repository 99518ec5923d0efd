"""The front end for pytest: a class to inherit from, and a decorator; each check is a test of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from optim_core import Claims
from optim_tools.conformance.check import Check
from optim_tools.conformance.checks import CHECKS
from optim_tools.conformance.subject import Subject
from optim_tools.conformance.verification import Outcome, Result, carry_out, require_known

__all__ = ["OptimizerConformance", "conformance_checks"]

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])


class OptimizerConformance:
    """The checks of the kit as tests of pytest: inherit from it, and say what is to be checked.

    >>> from optim_tools.conformance import OptimizerConformance
    >>> class TestLion(OptimizerConformance):
    ...     factory = "lion"

    Each check is a test of its own: `test_state_pickle` carries out `state-pickle`. What isn't claimed
    or isn't applicable is skipped with the reason, and an expected failure is one for pytest too.

    Attributes:
        factory: the key under which the factory is installed or registered, or its class.
        params: what it is constructed with; its own `example_params` if None.
        claims: what is claimed; the factory's own `CLAIMS` if None.
    """

    factory: ClassVar[type | str]
    params: ClassVar[Mapping[str, Any] | None] = None
    claims: ClassVar[Claims | None] = None
    _subject: ClassVar[Callable[[], Subject]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # One for all tests of a class: finding example_params takes a moment.
        cls._subject = functools.cache(lambda: _subject(getattr(cls, "factory", None), cls.params, cls.claims))
        for check in CHECKS:
            name = f"test_{check.identifier.replace('-', '_')}"
            if not hasattr(cls, name):
                setattr(cls, name, _method(check, name))


def conformance_checks(
    factory: type | str, params: Mapping[str, Any] | None = None, claims: Claims | None = None
) -> Callable[[_FunctionT], _FunctionT]:
    """Run a test function once for each check of the kit; it is given the check as `check`, and calls it.

    >>> from optim_tools.conformance import conformance_checks
    >>> @conformance_checks("lion")
    ... def test_lion(check):
    ...     check()

    Args:
        factory: the key under which the factory is installed or registered, or its class.
        params: what it is constructed with; its own `example_params` if None.
        claims: what is claimed; the factory's own `CLAIMS` if None.
    """
    import pytest  # of this front end alone: `optim verify` needs none

    subject = functools.cache(lambda: _subject(factory, params, claims))
    cases = [
        pytest.param(functools.partial(lambda check: _run(check, subject()), check), id=check.identifier)
        for check in CHECKS
    ]
    return pytest.mark.parametrize("check", cases)


def _method(check: Check, name: str) -> Callable[[OptimizerConformance], None]:
    def test(self: OptimizerConformance) -> None:
        _run(check, type(self)._subject())

    test.__name__ = name
    test.__doc__ = check.why
    return test


def _subject(factory: type | str | None, params: Mapping[str, Any] | None, claims: Claims | None) -> Subject:
    if not isinstance(factory, type | str):
        raise TypeError(f"`factory` is {factory!r}: must be the key of a factory, or its class")
    subject = Subject(factory, params, claims)
    require_known(subject)
    return subject


def _run(check: Check, subject: Subject) -> None:
    import pytest

    result = carry_out(check, subject)
    if result.outcome in (Outcome.NOT_CLAIMED, Outcome.NOT_APPLICABLE):
        pytest.skip(f"{result.outcome}: {result.reason}")
    if result.outcome is Outcome.EXPECTED_FAILURE:
        pytest.xfail(f"{result.reason} (seen: {result.seen})")
    if result.outcome.is_fault:
        pytest.fail(f"{result.identifier}: {check.why}\n{_story(result)}", pytrace=False)


def _story(result: Result) -> str:
    return f"seen: {result.seen}\nexpected: {result.expected}\nlikely cause: {result.cause}"
