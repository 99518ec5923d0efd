"""What `optim verify` runs in a process of its own: the checks, one after the other, on one key.

Its `main` writes a JSON document a line to the standard output that the process was started with:
the plugin and the checks to come ("subject"), or why there is none ("refusal"), and then for each check that
it begins ("started") and what came of it ("result").
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from io import TextIOWrapper
from typing import Any

from optim_core import InvalidArgumentsError
from optim_core.for_tools import in_one_line
from optim_tools.command.check_selection import selected_checks
from optim_tools.command.configuration_file import refusal
from optim_tools.command.failures import CommandError
from optim_tools.command.given_params import constructed, given_params
from optim_tools.command.key_factory import imported_factory
from optim_tools.conformance.check import Check
from optim_tools.conformance.subject import Subject
from optim_tools.conformance.verification import carry_out, require_known
from optim_tools.inspection.argument_schemas import as_json
from optim_tools.inspection.processes import private_output

__all__ = ["main"]


def main(work: Mapping[str, Any]) -> None:
    """Carry checks out: `checks` on `key` with `params`, each within `timeout` seconds."""
    answer = private_output()
    # What a plugin prints is not to be lost where it crashes, and where it does is to be seen.
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, TextIOWrapper)
        stream.reconfigure(line_buffering=True)
    faulthandler.enable()

    def send(**message: Any) -> None:
        answer.write(f"{json.dumps(message)}\n")
        answer.flush()

    try:
        with _deadline(work["timeout"]):
            checks, subject = _prepared(work["key"], work["params"], work["checks"])
        send(subject=_document(subject), checks={check.identifier: check.why for check in checks})
        for check in checks:
            send(started=check.identifier)
            with _deadline(work["timeout"]):
                result = carry_out(check, subject)
            send(result={**asdict(result), "why": check.why, "is_fault": result.outcome.is_fault})
    except BrokenPipeError:
        # Whoever asked is no more.
        os._exit(1)
    except CommandError as error:
        send(refusal=_refusal(error))
    except Exception as error:
        # A stranger's class can fail in any way when it is asked what it takes.
        send(refusal=_refusal(CommandError(f"{work['key']!r} can't be verified: {in_one_line(error)}"), error))
    # Threads that a plugin started, and what it has at exit, are of no interest any more.
    os._exit(0)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Within, the process ends itself when time is over, and says where it was."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _prepared(key: str, params: Sequence[str], names: Sequence[str]) -> tuple[Sequence[Check], Subject]:
    checks = selected_checks(names)
    found = imported_factory(key)
    given = given_params(params)
    if given:
        constructed("verify", key, found.target, given)
    try:
        subject = Subject(key, given or None)
        require_known(subject)
    except InvalidArgumentsError as error:
        raise refusal(key, error.problems) from error
    return checks, subject


def _document(subject: Subject) -> dict[str, Any]:
    assert subject.entry is not None  # it was made from a key
    return {
        "key": subject.entry.key,
        "distribution": subject.entry.distribution,
        "version": subject.entry.version,
        "value": subject.entry.value,
        "provider": subject.entry.provider,
        "params": {name: _as_document(value) for name, value in subject.params.items()},
        "expected_failures": dict(subject.claims.expected_failures),
    }


def _as_document(value: Any) -> Any:
    try:
        return as_json(value)
    except ValueError:
        return repr(value)


def _refusal(refused: CommandError, error: Exception | None = None) -> dict[str, Any]:
    said = "".join(traceback.format_exception(error or refused))
    return {"message": refused.message, "details": refused.details, "status": refused.status, "traceback": said}
