"""A check of the conformance kit: its identifier, why it matters, and what carries it out."""

from __future__ import annotations

import contextlib
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from optim_core.for_tools import in_one_line
from optim_tools.conformance.not_applicable import NotApplicable
from optim_tools.conformance.subject import Subject

__all__ = ["Check", "Deviation", "check", "registered_checks"]


class Deviation(AssertionError):  # noqa: N818 - named for what it is, not for being raised
    """What a check saw is not what it expects.

    Attributes:
        seen: what was seen.
        expected: what should have been.
        cause: the likely cause, and so what to look at first; that of the check if it isn't given.
    """

    def __init__(self, seen: str, expected: str, cause: str = "") -> None:
        super().__init__(seen, expected, cause)
        self.seen = seen
        self.expected = expected
        self.cause = cause

    def __str__(self) -> str:
        return f"seen: {self.seen}\nexpected: {self.expected}\nlikely cause: {self.cause}"


@dataclass(frozen=True)
class Check:
    """One thing that an optimizer has to get right.

    Attributes:
        identifier: its name, which begins with the family it belongs to: `state-pickle`.
        why: one sentence: why it matters to whoever trains with the optimizer.
        cause: the likely cause where the optimizer raises an exception in it.
        claim: the flag of `Claims` without which it isn't carried out.
        function: carries it out; raises `Deviation`, `NotApplicable` or whatever the optimizer raises.
    """

    identifier: str
    why: str
    cause: str
    claim: str | None
    function: Callable[[Subject], None]

    @property
    def family(self) -> str:
        """What the identifier begins with."""
        return self.identifier.partition("-")[0]

    @property
    def needs_optimizer(self) -> bool:
        """Whether there is nothing to look at where the factory builds no optimizer."""
        return self.identifier != "construction-builds" and self.family != "packaging"

    def carry_out(self, subject: Subject) -> None:
        """Carry the check out, `apart` from whatever else there is in the process.

        Raises:
            Deviation: the optimizer doesn't do what it should.
            NotApplicable: there is nothing to be checked.
        """
        with apart():
            try:
                if self.needs_optimizer and not subject.is_buildable:
                    raise NotApplicable("no optimizer can be built (construction-builds)")
                self.function(subject)
            except NotApplicable:
                raise
            except Deviation as deviation:
                deviation.cause = deviation.cause or self.cause
                raise
            except (Exception, SystemExit) as error:
                # Whatever a stranger's optimizer raises is what was seen; the traceback is chained.
                raise Deviation(_described(error), "no exception", f"{_SEE_EXCEPTION}{self.cause}") from error


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Random numbers, gradient mode, warnings, logging and threads as a check needs them, and as before afterwards.

    What PyTorch itself can't undo stays: its wrapper around the `step` of every class of which there has been an
    optimizer, and that compiled code is compiled anew.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
        # Each check asks for the warnings that it is about.
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        quiet, threads = logging.root.manager.disable, torch.get_num_threads()
        logging.disable(logging.WARNING)
        # The problems are so small that threads only wait for each other, and more so on a busy machine.
        torch.set_num_threads(1)
        try:
            yield
        finally:
            logging.disable(quiet)
            torch.set_num_threads(threads)


_checks: dict[str, Check] = {}
_FOUNDATIONS = ("torch", "optim_core", "optim_tools")
_LONGEST = 400
_SEE_EXCEPTION = "what the exception says; if that is no help: "


def check(
    identifier: str, *, why: str, cause: str, claim: str | None = None
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Register a function as a check of the kit; see `Check` for the arguments."""

    def register(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        assert identifier not in _checks, identifier
        _checks[identifier] = Check(identifier, why, cause, claim, function)
        return function

    return register


def registered_checks() -> tuple[Check, ...]:
    """The checks registered so far, in that order."""
    return tuple(_checks.values())


def _described(error: BaseException) -> str:
    said = in_one_line(error)
    # The compiler's messages are pages long.
    said = said if len(said) <= _LONGEST else f"{said[: _LONGEST - 3]}..."
    return f"{said}{_place_of(error)}"


def _place_of(error: BaseException) -> str:
    """Where an exception was raised, in the code that is nearest to its author's."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [f for f in frames if f.f_globals.get("__name__", "").partition(".")[0] not in _FOUNDATIONS]
    if not own:
        return ""
    code = own[-1].f_code
    return f" (in {code.co_qualname}, {code.co_filename}, line {own[-1].f_lineno})"
