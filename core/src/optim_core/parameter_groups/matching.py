"""Where the parameters of a component are: their names, and the modules that they belong to."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from optim_core.arguments.spelling import nearest
from optim_core.components.lookup import Component
from optim_core.configuration.group_rules import CONDITIONS, GroupRule
from optim_core.errors import Problem
from optim_core.optimizer.parameter_names import written_name

__all__ = ["Places"]

_MOST_LISTED = 8


class Places:
    """The parameters of a component, as rules ask for them.

    Args:
        component: whose parameters they are.
    """

    def __init__(self, component: Component) -> None:
        self.component = component.name
        self.module = component.module
        # A hook may have changed the module since it was looked up.
        self.named: dict[str, Tensor] = dict(component.module.named_parameters())
        self.name_of = {id(parameter): name for name, parameter in self.named.items()}

    def matching(self, rule: GroupRule) -> tuple[list[Tensor], Problem | None]:
        """The parameters that a rule asks for, in the order of the module; and what is wrong where there are none."""
        found = list(self.named.values())
        if rule.ndim is not None and any(map(is_lazy, found)):
            hint = "Run the model once on a batch before its optimizers are built"
            problem = Problem(f"{rule.path}.ndim", "the module has parameters whose dimensions are not known yet", hint)
            return [], problem
        counts = {}
        for condition in CONDITIONS:
            if getattr(rule, condition) is None:
                continue
            alone = [parameter for parameter in self.named.values() if self._meets(rule, condition, parameter)]
            if not alone:
                return [], Problem(f"{rule.path}.{condition}", *self._explained(rule, condition))
            counts[condition] = len(alone)
            met = {id(parameter) for parameter in alone}
            found = [parameter for parameter in found if id(parameter) in met]
        if not found:
            each = ", ".join(f"{condition} alone {count}" for condition, count in counts.items())
            return [], Problem(rule.path, f"no parameter meets all of its conditions together ({each})")
        return found, None

    def _meets(self, rule: GroupRule, condition: str, parameter: Tensor) -> bool:
        if condition == "ndim":
            return parameter.ndim == rule.ndim
        if condition == "type":
            return rule.type in self._types.get(id(parameter), ())
        search = re.compile(rule.match or "").search
        return any(map(search, self._all_names.get(id(parameter)) or [self.name_of[id(parameter)]]))

    @functools.cached_property
    def _all_names(self) -> dict[int, list[str]]:
        """All names of each parameter, by `id`: of one that the module uses twice, and as they are and are written."""
        names: dict[int, list[str]] = {}
        for path, parameter, _ in self._each():
            names.setdefault(id(parameter), []).extend(dict.fromkeys((path, written_name(path))))
        return names

    @functools.cached_property
    def _types(self) -> dict[int, set[str]]:
        """The classes, with their base classes, of the modules that have each parameter, by `id`."""
        types: dict[int, set[str]] = {}
        for _, parameter, module in self._each():
            types.setdefault(id(parameter), set()).update(_class_names(type(module)))
        return types

    def _each(self) -> Iterator[tuple[str, Tensor, nn.Module]]:
        parametrized: tuple[str, nn.Module] | None = None
        for path, module in self.module.named_modules(remove_duplicate=False):
            owner = module
            if is_parametrized(module):
                parametrized = (f"{path}.parametrizations." if path else "parametrizations."), module
            elif parametrized is not None and path.startswith(parametrized[0]):
                # What such a module computes its weights from is still its own.
                owner = parametrized[1]
            for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
                yield f"{path}.{name}" if path else name, parameter, owner

    def _explained(self, rule: GroupRule, condition: str) -> tuple[str, str]:
        """What there is to say of a condition that no parameter meets, and what may have been meant."""
        if condition == "ndim":
            there = sorted({parameter.ndim for parameter in self.named.values()})
            message = f"= {rule.ndim}: no parameter has so many dimensions"
            return message, _suggestion([], [str(number) for number in there])
        if condition == "type":
            kinds = sorted({type(module).__name__ for _, _, module in self._each()})
            return f"= {rule.type!r}: no module with parameters is one", _suggestion(nearest(rule.type, kinds), kinds)
        expression = rule.match or ""
        if _as_text(expression).startswith(f"{self.component}."):
            hint = f"Names are those within the component: leave {self.component!r} out"
            return f"= {expression!r}: is found in no parameter's name", hint
        words = [word for part in expression.split("|") if (word := _as_text(part))]
        parts = self._parts_of_names()
        near = list(dict.fromkeys(name for word in words for name in nearest(word, parts)))
        return f"= {expression!r}: is found in no parameter's name", _suggestion(near, list(self.named))

    def _parts_of_names(self) -> list[str]:
        """What a person may have had in mind: names, paths of modules and parts of them, each once."""
        parts: dict[str, None] = {}
        for name in self.named:
            path = name.split(".")
            parts |= dict.fromkeys(path)
            parts |= dict.fromkeys(".".join(path[:end]) for end in range(2, len(path) + 1))
        return list(parts)[:_MOST_COMPARED]


# To compare spellings takes some ten microseconds for each.
_MOST_COMPARED = 20_000


def _class_names(kind: type) -> frozenset[str]:
    return frozenset(base.__name__ for base in kind.__mro__ if base not in (nn.Module, object))


def _as_text(expression: str) -> str:
    """A regular expression without its signs, as far as it goes."""
    text = re.sub(r"\\[dDwWsSbBAZ][*+?]?|\[[^\]]*\][*+?]?|\(\?[:=!<]*|[()^$*+?{}]", "", expression)
    return text.replace("\\", "").strip(".")


def _suggestion(near: Sequence[str], there: Sequence[str]) -> str:
    if not there:
        return "The module has no parameters"
    if near:
        return "Did you mean " + " or ".join(map(repr, near[:3])) + "?"
    more = f" and {len(there) - _MOST_LISTED} more" if len(there) > _MOST_LISTED else ""
    return "There are " + ", ".join(there[:_MOST_LISTED]) + more
