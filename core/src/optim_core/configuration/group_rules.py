"""The entries of a component's `param_groups`, as they are read from a configuration."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optim_core.arguments.spelling import nearest
from optim_core.errors import Problem
from optim_core.optimizer.parameter_names import PARAM_NAMES

__all__ = [
    "CONDITIONS",
    "EFFECTS",
    "NO_OPTIONS",
    "GroupEntry",
    "GroupRule",
    "PolicyUse",
    "number_in",
    "read_group_entries",
]

CONDITIONS = ("match", "ndim", "type")
EFFECTS = ("lr_scale", "freeze")
KEY = "param_groups"
NO_OPTIONS = ("params", PARAM_NAMES)
"""What a parameter group has that is no option."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class GroupRule:
    """What some parameters of a component get; of all rules that match one, the first counts.

    Attributes:
        path: where it stands within its component, as `param_groups[0]`.
        match: a regular expression that is searched in the parameter's names; None for any.
        ndim: the number of its dimensions; None for any.
        type: the name of the class, or of a base class, of the module that it belongs to; None for any.
        options: options of the optimizer's groups, by name.
        lr_scale: what the learning rate is multiplied by, over the whole schedule.
        freeze: whether it is not to be trained; None leaves that open.
    """

    path: str
    match: str | None = None
    ndim: int | None = None
    type: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    lr_scale: float = 1.0
    freeze: bool | None = None

    @property
    def label(self) -> str:
        """Its conditions, for tables."""
        asked = ((name, getattr(self, name)) for name in CONDITIONS)
        return " ".join(f"{name} {value if value != '' else repr(value)}" for name, value in asked if value is not None)


@dataclass(frozen=True)
class PolicyUse:
    """A named policy, with its argument.

    Attributes:
        path: where it stands within its component, as `param_groups[0]`.
        name: the policy's.
        argument: what stands after the name; None for nothing.
    """

    path: str
    name: str
    argument: Any = field(default=None, hash=False)

    @property
    def label(self) -> str:
        """Its name, for tables."""
        return self.name


GroupEntry = GroupRule | PolicyUse


def read_group_entries(value: object) -> tuple[tuple[GroupEntry, ...], list[Problem]]:
    """Read what stands under `param_groups`: a list of rules and policies, or one of them alone.

    Returns:
        The entries that are well formed, and what is wrong with the others; paths begin with `param_groups`.
    """
    problems: list[Problem] = []
    if value is None:
        return (), problems
    if isinstance(value, (str, Mapping)):
        placed: list[tuple[str, object]] = [(KEY, value)]
    elif isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        placed = [(f"{KEY}[{index}]", item) for index, item in enumerate(value)]
    else:
        message = f"= {value!r}: must be a list of rules and policies, or the name of a policy"
        return (), [Problem(KEY, message)]
    entries = [entry for path, item in placed if (entry := _entry(path, item, problems)) is not None]
    named: dict[str, str] = {}
    for entry in entries:
        if not isinstance(entry, PolicyUse):
            continue
        if entry.name in named:
            problems.append(Problem(entry.path, f"the policy {entry.name!r} stands at {named[entry.name]} already"))
        named.setdefault(entry.name, entry.path)
    return tuple(entries), problems


def _entry(path: str, item: object, problems: list[Problem]) -> GroupEntry | None:
    if isinstance(item, str) and item:
        return PolicyUse(path, item)
    if not isinstance(item, Mapping) or not item:
        hint = "A rule is as {match: 'bias$', weight_decay: 0.0}, a policy as no_weight_decay or {layer_decay: 0.75}"
        problems.append(Problem(path, f"= {item!r}: must be a rule or a policy", hint))
        return None
    if strange := [key for key in item if not isinstance(key, str)]:
        problems += [Problem(path, f"has the key {key!r}, which is no string") for key in strange]
        return None
    if not any(key in item for key in CONDITIONS):
        (name, *others) = item
        if not others and name not in EFFECTS:
            return PolicyUse(path, name, item[name])
        near = {key: nearest(key, CONDITIONS) for key in item}
        misspelt = [Problem(f"{path}.{key}", "no such key", f"Did you mean {n[0]!r}?") for key, n in near.items() if n]
        hint = "Options of all parameters belong under 'params'. Policies are entries of the list, one by one"
        problems += misspelt or [Problem(path, "a rule needs at least one of 'match', 'ndim' and 'type'", hint)]
        return None
    return _rule(path, item, problems)


def _rule(path: str, item: Mapping[str, Any], problems: list[Problem]) -> GroupRule | None:
    found: list[Problem] = []

    def refuse(key: str, message: str, hint: str | None = None) -> None:
        found.append(Problem(f"{path}.{key}", message, hint))

    match, ndim, kind = (item.get(name) for name in CONDITIONS)
    if "match" in item:
        if not isinstance(match, str):
            refuse("match", f"= {match!r}: must be a regular expression, as a string", "Put it in single quotes")
        elif any(sign < " " for sign in match):
            hint = "YAML makes one of a backslash in double quotes: put regular expressions in single quotes"
            refuse("match", f"= {match!r}: has a control character in it", hint)
        elif error := _fault_of(match):
            refuse("match", f"= {match!r}: is no regular expression: {error}", _ESCAPING)
    if "ndim" in item and (not isinstance(ndim, numbers.Integral) or isinstance(ndim, bool) or ndim < 0):
        refuse("ndim", f"= {ndim!r}: must be a number of dimensions, zero or more")
    if "type" in item and (not isinstance(kind, str) or not kind):
        refuse("type", f"= {kind!r}: must be the name of a module's class, such as LayerNorm")
    scale = number_in(item.get("lr_scale", 1.0))
    if scale is None or not 0 <= scale < math.inf:
        refuse("lr_scale", f"= {item['lr_scale']!r}: must be a finite number, zero or more")
    freeze = item.get("freeze")
    if "freeze" in item and not isinstance(freeze, bool):
        refuse("freeze", f"= {freeze!r}: must be true or false")
    rates = [key for key in ("lr", "peak_lr", "lr_scale") if key in item]
    if len(rates) > 1:
        refuse(rates[-1], f"can't be given together with {rates[0]}: each says what the rate is")
    options = {key: value for key, value in item.items() if key not in (*CONDITIONS, *EFFECTS)}
    for key in NO_OPTIONS:
        if key in options:
            refuse(key, "is no option", "'match', 'ndim' and 'type' say which parameters a rule is for")
    problems += found
    if found or scale is None:
        return None
    return GroupRule(path, match, ndim, kind, options, scale, freeze)


_ESCAPING = r"In it, ( [ { * + ? . ^ $ | and \ have a meaning; a backslash before one takes it away"


def _fault_of(expression: str) -> str | None:
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return None


def number_in(value: object) -> float | None:
    """A number, also where it is written as text, such as 1e-4; None of anything else."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, str) and _NUMBER.fullmatch(value)):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf
