"""From what the conformance kit finds of a wrapped class to what its factory claims."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from optim_core import Claims
from optim_tools.scaffolding.wrapping import Findings

__all__ = ["Seen", "denied", "differing", "findings_of", "optimistic"]

_OPTIMISTIC = {"complex": True, "sparse": True}
_DEFAULTS = {field.name: field.default for field in fields(Claims) if isinstance(field.default, bool)}
# Where an exception was raised is true of one machine only; so are addresses of objects.
_PLACE = re.compile(r" \(in [^()]+, [^()]+, line \d+\)| at \S+, line \d+|0x[0-9a-f]+")
_LONGEST = 250
# How `optim verify` reports a check that its process didn't survive; within pytest there is none to survive it.
_ENDS = ("it hangs", "it crashes Python", "it ends Python")


@dataclass(frozen=True)
class Seen:
    """What came of one check.

    Attributes:
        identifier: of the check.
        flag: of `Claims`, without which it isn't carried out; None where there is none.
        passed: it passed.
        failed: it failed. Neither: there was nothing to be checked.
        seen: what was seen where it failed.
    """

    identifier: str
    flag: str | None
    passed: bool
    failed: bool
    seen: str


def optimistic(flags: Mapping[str, bool]) -> dict[str, bool]:
    """These flags, and every capability that isn't claimed unless somebody does; it is for the kit to deny it."""
    return {**_OPTIMISTIC, **flags}


def differing(flags: Mapping[str, bool]) -> dict[str, bool]:
    """The flags that differ from the defaults of `Claims`, in its order."""
    return {name: flags[name] for name, default in _DEFAULTS.items() if flags.get(name, default) != default}


def denied(results: Iterable[Seen]) -> set[str]:
    """The flags on which other checks depend, and none of whose own checks passes."""
    return _denied(results) - _OPTIMISTIC.keys()


def _denied(results: Iterable[Seen]) -> set[str]:
    results = list(results)
    return {r.flag for r in results if r.failed and r.flag} - {r.flag for r in results if r.passed and r.flag}


def findings_of(flags: Mapping[str, bool], results: Iterable[Seen]) -> Findings:
    """What to claim after a run of the kit that was made with these flags."""
    results = list(results)
    kept, failures = {**flags, **dict.fromkeys(_denied(results), False)}, {}
    deadly = []
    passed = 0
    for result in results:
        passed += result.passed
        # What is not claimed isn't carried out, and can't fail.
        if result.failed and kept.get(result.flag or "", True):
            failures[result.identifier] = _shown(result.seen)
            if result.seen.startswith(_ENDS):
                deadly.append(result.identifier)
    return Findings(differing(kept), failures, tuple(deadly), passed)


def _shown(seen: str) -> str:
    text = " ".join(_PLACE.sub("", seen).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rsplit(' ', 1)[0]} ..."
