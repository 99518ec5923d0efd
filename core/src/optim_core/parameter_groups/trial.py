"""What parameter groups an optimizer has: found by building it over small stand-ins of the parameters."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter, is_lazy
from torch.optim import Optimizer

from optim_core.errors import InvalidArgumentsError, Problem, in_one_line
from optim_core.factory import OptimizerFactory
from optim_core.schedule_state import PEAK, STEP

__all__ = ["GroupTrial", "kind_of", "rate_option_of", "tried_groups"]

Kind = Hashable
"""What an optimizer may look at when it decides what becomes of a parameter: its dimensions, type and device."""

_SMALL = 2
_NO_OPTIONS = ("params", "param_names", STEP, PEAK, "initial_lr")


@dataclass(frozen=True)
class GroupTrial:
    """What an optimizer made of stand-ins.

    Attributes:
        options: the options of the group that each base group's stand-in of a kind came into, by the number of the
            base group and the kind; `lr` is the whole rate, at its peak.
        refusal: why it takes no parameter groups; None where it does.
    """

    options: Mapping[tuple[int, Kind], Mapping[str, Any]]
    refusal: str | None
    _factory: OptimizerFactory
    _base: Sequence[Mapping[str, Any]]
    _largest: int

    @property
    def names(self) -> list[str]:
        """The names of all options that there are."""
        return list(dict.fromkeys(name for options in self.options.values() for name in options))

    def problems_of(self, options: Mapping[str, Any]) -> list[Problem]:
        """What the optimizer says against a group with these options; paths are names of options."""
        # What a policy or a rule changes for a few parameters is tried beside groups that have it not.
        unchanged = [_with_stand_ins(group, self._largest) for group in self._base]
        changed = [{**_with_stand_ins(group, self._largest), **options} for group in self._base]
        try:
            _built(self._factory, [*unchanged, *changed])
        except InvalidArgumentsError as error:
            return list(error.problems)
        except Exception as error:
            # Whatever a stranger's build raises is about these options: without them it raises nothing.
            return [Problem("", f"the optimizer refuses the group: {in_one_line(error)}", cause=error)]
        return []


def tried_groups(factory: OptimizerFactory, base: Sequence[Mapping[str, Any]], *, plain: bool) -> GroupTrial:
    """Build an optimizer over stand-ins of groups of parameters, and over those twice as many.

    Args:
        factory: builds it.
        base: groups, of whose parameters a stand-in of each kind is tried.
        plain: whether the factory would be given the parameters of the one group, and no groups.

    Raises:
        Exception: whatever the factory raises over stand-ins of just what it would be given.
    """
    largest = _SMALL
    try:
        optimizer, groups = _tried(factory, base, plain, largest)
    except Exception:
        # Whatever a stranger's build raises; it may want parameters as large as they really are.
        largest = sys.maxsize
        optimizer, groups = _tried(factory, base, plain, largest)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    options: dict[tuple[int, Kind], Mapping[str, Any]] = {}
    for index, group in enumerate(groups):
        for stand_in, kind in zip(group["params"], _kinds_in(base[index]), strict=True):
            # What the factory leaves out has no options, and is none of a rule's business.
            options[index, kind] = _options_of(group_of.get(id(stand_in), {}))
    refusal = None
    try:
        _built(factory, [_with_stand_ins(group, largest) for group in (*base, *base)])
    except Exception as error:
        # Whatever a stranger's build raises: one group it has taken.
        refusal = in_one_line(error)
    return GroupTrial(options, refusal, factory, base, largest)


def _tried(
    factory: OptimizerFactory, base: Sequence[Mapping[str, Any]], plain: bool, largest: int
) -> tuple[Optimizer, list[dict[str, Any]]]:
    groups = [_with_stand_ins(group, largest) for group in base]
    return _built(factory, groups[0]["params"] if plain else groups), groups


def kind_of(parameter: Tensor) -> Kind:
    """What parameters of one kind have in common."""
    shape = None if is_lazy(parameter) else (parameter.ndim, parameter.numel() > 0)
    return shape, parameter.dtype, parameter.device, parameter.requires_grad


def rate_option_of(group: Mapping[str, Any]) -> Any:
    """The whole rate of a group, of which a schedule makes a curve; None where it has none."""
    return next((group[name] for name in (PEAK, "initial_lr", "lr") if group.get(name) is not None), None)


def _kinds_in(group: Mapping[str, Any]) -> dict[Kind, Tensor]:
    kinds: dict[Kind, Tensor] = {}
    for parameter in group["params"]:
        kinds.setdefault(kind_of(parameter), parameter)
    return kinds


def _with_stand_ins(group: Mapping[str, Any], largest: int) -> dict[str, Any]:
    return {**group, "params": [_stand_in(parameter, largest) for parameter in _kinds_in(group).values()]}


def _stand_in(parameter: Tensor, largest: int) -> Tensor:
    if is_lazy(parameter):
        return UninitializedParameter()
    shape = [min(size, largest) for size in parameter.shape]
    small = torch.ones(shape, dtype=parameter.dtype, device=parameter.device)
    return torch.nn.Parameter(small, requires_grad=parameter.requires_grad)


def _built(factory: OptimizerFactory, params: Iterable[Any]) -> Optimizer:
    with warnings.catch_warnings():
        # What there is to warn of, the real build will.
        warnings.simplefilter("ignore")
        optimizer = factory.build(list(params))
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"build() returned a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    return optimizer


def _options_of(group: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in group.items() if name not in _NO_OPTIONS}
    if "lr" in options:
        options["lr"] = rate_option_of(group)
    return options
