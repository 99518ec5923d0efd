"""What a configuration says of each component, with what is wrong in it and where each part stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optim_core.configuration.group_rules import GroupEntry
from optim_core.configuration.yaml_documents import KeyPath, SourceLines
from optim_core.errors import ConfigurationError, Problem

__all__ = ["ComponentSpec", "Configuration", "in_order"]


@dataclass(frozen=True)
class ComponentSpec:
    """What the configuration says of one component.

    Attributes:
        component: its name.
        type: the registry key of its optimizer's factory.
        params: the arguments of the factory's constructor, as they were written.
        path: where in the configuration it stands, dotted.
        param_groups: rules and policies that part its parameters into groups, in their order.
    """

    component: str
    type: str
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    path: str = ""
    param_groups: tuple[GroupEntry, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """Component specifications as read, with what is wrong and where each part stands.

    Attributes:
        source: the file, or "configuration".
        specs: by component, those that are well formed.
        problems: everything else.
    """

    source: str
    specs: Mapping[str, ComponentSpec]
    problems: tuple[Problem, ...]
    _lines: SourceLines = field(default_factory=SourceLines, repr=False)
    _prefix: KeyPath = ()

    def locate(self, problem: Problem, spec: ComponentSpec, *below: str) -> Problem:
        """Give a problem within `spec` its full path and, from a file, its line.

        `below` leads from the component to where the problem's own path starts; the line is that of
        the innermost part that is in the file.
        """
        parts = re.findall(r"[^.\[\]]+", problem.path)
        place: KeyPath = (*self._prefix, spec.component, *below, *(int(p) if p.isdecimal() else p for p in parts))
        lines = (self._lines.get(place[:length]) for length in range(len(place), 0, -1))
        line = next(filter(None, lines), None)
        located = problem.below(".".join([spec.path, *below]))
        return Problem(located.path, located.message, located.hint, line, located.cause)

    def error(self, problems: Iterable[Problem]) -> ConfigurationError:
        """The one error for all problems; it is caused by the first that has a cause."""
        error = ConfigurationError(self.source, in_order(problems))
        error.__cause__ = next((problem.cause for problem in error.problems if problem.cause), None)
        return error


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems in the order of the file; those without a line first, as they were found."""
    return sorted(problems, key=lambda problem: problem.line or 0)
