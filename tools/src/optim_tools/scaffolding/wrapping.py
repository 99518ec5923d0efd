"""What is known of an optimizer class that a new plugin is to wrap: plain data, made by reading the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Findings", "Option", "Source", "Wrapping"]


@dataclass(frozen=True)
class Option:
    """An argument of the class, which becomes a key of the configuration.

    Attributes:
        name: its name.
        annotation: its type, as Python source.
        default: its default, as Python source; None where it is required.
        meaning: from the docstring, on one line; may be empty.
        positional: it has to be passed on by position.
    """

    name: str
    annotation: str
    default: str | None = None
    meaning: str = ""
    positional: bool = False


@dataclass(frozen=True)
class Source:
    """Where a class comes from.

    Attributes:
        requirement: the distribution that has to be installed, with the version that was seen as the least.
        typed: type checkers find its types.
        text: of its module, where no distribution has it and the new one gets a copy.
        imported: the distributions that such a copy needs, beyond PyTorch and the core.
    """

    requirement: str | None
    typed: bool = True
    text: str | None = None
    imported: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What the conformance kit found.

    Attributes:
        flags: of `Claims`, where they differ from its defaults.
        failures: identifiers of checks that fail, and what was seen.
        deadly: those among them in which Python crashes, ends or hangs.
        passed: how many checks passed.
    """

    flags: Mapping[str, bool] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    deadly: tuple[str, ...] = ()
    passed: int = 0


@dataclass(frozen=True)
class Wrapping:
    """An optimizer class, and how a factory gets it its arguments.

    Attributes:
        module: the module that it is imported from.
        path: its name in there; with dots where it is within another class.
        summary: what it is, in one sentence.
        options: the arguments that a configuration can give.
        left_out: those that it can't, each with the reason; they keep the class's default.
        example: params with which an optimizer is built.
        narrow: it is annotated to take less than PyTorch's own classes do as parameters.
        source: where the class comes from.
        findings: what the conformance kit found; None where it wasn't asked.
    """

    module: str
    path: str
    summary: str
    options: tuple[Option, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)
    narrow: bool = False
    source: Source = field(default_factory=lambda: Source(None))
    findings: Findings | None = None

    @property
    def top_name(self) -> str:
        """What is imported from the module."""
        return self.path.partition(".")[0]
