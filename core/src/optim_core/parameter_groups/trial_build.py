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

from optim_core.components.lookup import size_of
from optim_core.configuration.group_rules import NO_OPTIONS
from optim_core.errors import InvalidArgumentsError, Problem, in_one_line
from optim_core.factories.factory import OptimizerFactory
from optim_core.optimizer.group_options import rate_option_of
from optim_core.optimizer.schedule_state import PEAK, STEP
from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer

__all__ = ["Case", "GroupTrial", "driven_by", "kind_of", "tried_groups"]

Kind = Hashable
"""What optimizers mostly look at when they decide what becomes of a parameter: its shape, type and device."""

Case = tuple[int, Kind]
"""The number of a base group, and a kind of parameter in it."""

_NO_OPTIONS = (*NO_OPTIONS, STEP, PEAK, "initial_lr")


@dataclass(frozen=True)
class GroupTrial:
    """What an optimizer made of stand-ins.

    Attributes:
        options: the options of the group that each base group's stand-in of a kind came into; `lr` is the whole rate,
            at its peak.
        has_peak: whether its groups have a rate that a schedule makes a curve of.
        driven: what `driven_by` says of it.
        refusal: why it takes no parameter groups; None where it does.
    """

    options: Mapping[Case, Mapping[str, Any]]
    has_peak: bool
    driven: Mapping[str, Any]
    refusal: str | None
    _stand_ins: _StandIns

    def names(self, cases: Iterable[Case]) -> list[str]:
        """The names of the options that the groups of some stand-ins have."""
        return list(dict.fromkeys(name for case in cases for name in self.options.get(case, ())))

    def problems_of(self, options: Mapping[str, Any], cases: Iterable[Case]) -> list[Problem]:
        """What the optimizer says against groups of some stand-ins with these options; paths are names of options."""
        kinds: dict[int, list[Kind]] = {}
        for index, kind in cases:
            kinds.setdefault(index, []).append(kind)
        # Beside groups that are as they were, as a rule changes the options of a few parameters.
        changed = [self._stand_ins.group(index, of_group, options) for index, of_group in kinds.items()]
        try:
            self._stand_ins.built([*self._stand_ins.least_groups(), *changed])
        except InvalidArgumentsError as error:
            return list(error.problems)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # Whatever a stranger's build raises is about these options: without them it raises nothing.
            return [Problem("", f"the optimizer refuses the group: {in_one_line(error)}", cause=error)]
        return []


def tried_groups(
    factory: OptimizerFactory, base: Sequence[Mapping[str, Any]], names: Mapping[int, str], *, plain: bool
) -> GroupTrial:
    """Build an optimizer over stand-ins of groups of parameters, and over a group more than these.

    Args:
        factory: builds it.
        base: groups, of whose parameters a stand-in of each kind is tried.
        names: those that parameters are given with, by `id`.
        plain: whether the factory would be given the parameters of the one group, and no groups.

    Raises:
        Exception: whatever the factory raises over stand-ins of just what it would be given.
    """
    stand_ins = _StandIns(factory, base, names, dense=False)
    try:
        optimizer, groups = stand_ins.tried(plain)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # Whatever a stranger's build raises; it may want memory of every element.
        stand_ins = _StandIns(factory, base, names, dense=True)
        optimizer, groups = stand_ins.tried(plain)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    bookkeeping = (*_NO_OPTIONS, *getattr(optimizer, "GROUP_STATE", ()))
    options: dict[Case, Mapping[str, Any]] = {}
    for index, group in enumerate(groups):
        for item, kind in zip(group["params"], stand_ins.kinds[index], strict=True):
            stand_in = item[1] if isinstance(item, tuple) else item
            # What the factory leaves out has no options, and is none of a rule's business.
            options[index, kind] = _options_of(group_of.get(id(stand_in), {}), bookkeeping)
    refusal = None
    whole = [stand_ins.group(index, kinds, {}) for index, kinds in enumerate(stand_ins.kinds)]
    try:
        stand_ins.built([*whole, *stand_ins.least_groups()])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # Whatever a stranger's build raises: one group it has taken.
        refusal = in_one_line(error)
    has_peak = any(PEAK in group for group in optimizer.param_groups)
    return GroupTrial(options, has_peak, driven_by(optimizer), refusal, stand_ins)


class _StandIns:
    """Stand-ins of the parameters of groups, and the optimizers that are built over them.

    Args:
        factory: builds these.
        base: the groups.
        names: those that parameters are given with, by `id`.
        dense: whether a stand-in has memory for each of its elements.
    """

    def __init__(
        self, factory: OptimizerFactory, base: Sequence[Mapping[str, Any]], names: Mapping[int, str], *, dense: bool
    ) -> None:
        self._factory, self._base, self._names, self._dense = factory, base, names, dense
        self.kinds = [_kinds_in(group) for group in base]

    def group(self, index: int, kinds: Iterable[Kind], options: Mapping[str, Any]) -> dict[str, Any]:
        """A base group with stand-ins of some kinds, and with these options."""
        own = {name: value for name, value in self._base[index].items() if name != "params"}
        return {**own, **options, "params": [self._stand_in(self.kinds[index][kind]) for kind in kinds]}

    def least_groups(self) -> list[dict[str, Any]]:
        """The base groups with the smallest stand-in that there is of each."""
        sizes = [{kind: size_of(parameter) for kind, parameter in kinds.items()} for kinds in self.kinds]
        least = [(index, min(of_group, key=of_group.__getitem__)) for index, of_group in enumerate(sizes) if of_group]
        return [self.group(index, [kind], {}) for index, kind in least]

    def tried(self, plain: bool) -> tuple[Optimizer, list[dict[str, Any]]]:
        """An optimizer over a stand-in of each kind, and the groups that it was built over."""
        groups = [self.group(index, kinds, {}) for index, kinds in enumerate(self.kinds)]
        # Optimizers make the very dictionaries their own.
        return self.built(groups[0]["params"] if plain else [dict(group) for group in groups]), groups

    def built(self, params: Iterable[Any]) -> Optimizer:
        """An optimizer over these; of what it does besides, as little as can be is left."""
        devices = {p.device for kinds in self.kinds for p in kinds.values() if p.device.type == "cuda"}
        with warnings.catch_warnings(), torch.random.fork_rng(sorted(d.index or 0 for d in devices)):
            # What there is to warn of, the real build will.
            warnings.simplefilter("ignore")
            optimizer = self._factory.build(list(params))
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"build() returned a {type(optimizer).__name__}, not a torch.optim.Optimizer")
        # Some make state at once, which may be large, and kept alive by a cycle.
        optimizer.state.clear()
        return optimizer

    def _stand_in(self, parameter: Tensor) -> Any:
        if is_lazy(parameter):
            return UninitializedParameter()
        # Of the same shape, but a single number in memory.
        number = torch.ones((), dtype=parameter.dtype, device=parameter.device).expand(parameter.shape)
        values = number.contiguous() if self._dense else number
        stand_in = torch.nn.Parameter(values, requires_grad=parameter.requires_grad)
        name = self._names.get(id(parameter))
        return stand_in if name is None else (name, stand_in)


def driven_by(optimizer: Optimizer) -> Mapping[str, Any]:
    """What a schedule writes into an optimizer's groups, beside the rate; elements that are None are left alone."""
    if not isinstance(optimizer, ScheduledOptimizer):
        return {}
    schedule = optimizer.schedule
    return {name: value for name, value in schedule.options_at(0, schedule.peak_lr).items() if name != "lr"}


def kind_of(parameter: Tensor) -> Kind:
    """What parameters of one kind have in common."""
    shape = None if is_lazy(parameter) else parameter.shape
    return shape, parameter.dtype, parameter.device, parameter.requires_grad


def _kinds_in(group: Mapping[str, Any]) -> dict[Kind, Tensor]:
    kinds: dict[Kind, Tensor] = {}
    for parameter in group["params"]:
        kinds.setdefault(kind_of(parameter), parameter)
    return kinds


def _options_of(group: Mapping[str, Any], bookkeeping: Collection[str]) -> dict[str, Any]:
    options = {name: value for name, value in group.items() if name not in bookkeeping}
    if "lr" in options:
        options["lr"] = rate_option_of(group)
    return options
