"""What parameter groups an optimizer has: found by building it over small stand-ins of the parameters."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter, is_lazy
from torch.optim import Optimizer

from optim_core.errors import InvalidArgumentsError, Problem, in_one_line
from optim_core.factory import OptimizerFactory
from optim_core.schedule_state import PEAK, STEP

__all__ = ["Case", "GroupTrial", "kind_of", "rate_option_of", "tried_groups"]

Kind = Hashable
"""What an optimizer may look at when it decides what becomes of a parameter: its shape, type and device."""

Case = tuple[int, Kind]
"""The number of a base group, and a kind of parameter in it."""

_NO_OPTIONS = ("params", "param_names", STEP, PEAK, "initial_lr")


@dataclass(frozen=True)
class GroupTrial:
    """What an optimizer made of stand-ins.

    Attributes:
        options: the options of the group that each base group's stand-in of a kind came into; `lr` is the whole rate,
            at its peak.
        has_peak: whether its groups have a rate that a schedule makes a curve of.
        refusal: why it takes no parameter groups; None where it does.
    """

    options: Mapping[Case, Mapping[str, Any]]
    has_peak: bool
    refusal: str | None
    _factory: OptimizerFactory
    _base: Sequence[Mapping[str, Any]]
    _dense: bool

    def names(self, cases: Iterable[Case]) -> list[str]:
        """The names of the options that the groups of some stand-ins have."""
        return list(dict.fromkeys(name for case in cases for name in self.options.get(case, ())))

    def problems_of(self, options: Mapping[str, Any], cases: Collection[Case]) -> list[Problem]:
        """What the optimizer says against groups of some stand-ins with these options; paths are names of options."""
        groups = [_with_stand_ins(group, self._dense) for group in self._base]
        for index, kind in cases:
            # Beside the groups that are as they were, as a rule changes the options of a few parameters.
            own = {name: value for name, value in self._base[index].items() if name != "params"}
            stand_in = _stand_in(_kinds_in(self._base[index])[kind], self._dense)
            groups.append({**own, **options, "params": [stand_in]})
        try:
            _built(self._factory, groups)
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
    dense = False
    try:
        optimizer, groups = _tried(factory, base, plain, dense)
    except Exception:
        # Whatever a stranger's build raises; it may want memory of every element.
        dense = True
        optimizer, groups = _tried(factory, base, plain, dense)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    options: dict[Case, Mapping[str, Any]] = {}
    for index, group in enumerate(groups):
        for stand_in, kind in zip(group["params"], _kinds_in(base[index]), strict=True):
            # What the factory leaves out has no options, and is none of a rule's business.
            options[index, kind] = _options_of(group_of.get(id(stand_in), {}))
    refusal = None
    try:
        _built(factory, [_with_stand_ins(group, dense) for group in (*base, *base)])
    except Exception as error:
        # Whatever a stranger's build raises: one group it has taken.
        refusal = in_one_line(error)
    has_peak = any(PEAK in group for group in optimizer.param_groups)
    return GroupTrial(options, has_peak, refusal, factory, base, dense)


def _tried(
    factory: OptimizerFactory, base: Sequence[Mapping[str, Any]], plain: bool, dense: bool
) -> tuple[Optimizer, list[dict[str, Any]]]:
    groups = [_with_stand_ins(group, dense) for group in base]
    return _built(factory, groups[0]["params"] if plain else groups), groups


def kind_of(parameter: Tensor) -> Kind:
    """What parameters of one kind have in common."""
    shape = None if is_lazy(parameter) else parameter.shape
    return shape, parameter.dtype, parameter.device, parameter.requires_grad


def rate_option_of(group: Mapping[str, Any]) -> Any:
    """The whole rate of a group, of which a schedule makes a curve; None where it has none."""
    return next((group[name] for name in (PEAK, "initial_lr", "lr") if group.get(name) is not None), None)


def _kinds_in(group: Mapping[str, Any]) -> dict[Kind, Tensor]:
    kinds: dict[Kind, Tensor] = {}
    for parameter in group["params"]:
        kinds.setdefault(kind_of(parameter), parameter)
    return kinds


def _with_stand_ins(group: Mapping[str, Any], dense: bool) -> dict[str, Any]:
    return {**group, "params": [_stand_in(parameter, dense) for parameter in _kinds_in(group).values()]}


def _stand_in(parameter: Tensor, dense: bool) -> Tensor:
    if is_lazy(parameter):
        return UninitializedParameter()
    # Of the same shape, but a single number in memory.
    number = torch.ones((), dtype=parameter.dtype, device=parameter.device).expand(parameter.shape)
    return torch.nn.Parameter(number.contiguous() if dense else number, requires_grad=parameter.requires_grad)


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
