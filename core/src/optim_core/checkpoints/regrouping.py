"""A saved optimizer with its parameters and groups in the order, and in the groups, of the one it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.optimizer.parameter_names import PARAM_NAMES
from optim_core.optimizer.schedule_state import SCHEDULER, same_value
from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer
from optim_core.optimizer.state_matching import has_state_by_order

__all__ = ["aligned", "is_regrouped", "layout_of"]

Layout = Sequence[Sequence[Sequence[Any]]]
"""For each group the name and shape of each parameter, in order."""


def layout_of(component: str, optimizers: ComponentOptimizers) -> list[list[list[Any]]]:
    """For each group of an optimizer the name and shape of each parameter, in order."""
    names = {id(parameter): name for name, parameter in optimizers.parameters_of(component).items()}
    return [
        [[names.get(id(p), f"(unnamed {g}.{i})"), list(p.shape)] for i, p in enumerate(group["params"])]
        for g, group in enumerate(optimizers[component].param_groups)
    ]


def is_regrouped(component: str, optimizers: ComponentOptimizers, payload: Mapping[str, Any]) -> bool:
    """Whether a saved optimizer has the same parameters as this one, but not in the same groups together."""
    ours, theirs = layout_of(component, optimizers), _saved_layout(component, optimizers, payload)
    return _shapes(ours) == _shapes(theirs) and _together(ours) != _together(theirs)


def aligned(
    component: str, optimizers: ComponentOptimizers, payload: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Sequence[str]]:
    """What was saved of an optimizer, in this one's order and groups; as it is where it has other parameters.

    The options of a group whose parameters were in several are those that these had in common. Where they were
    configured otherwise, it has one that differs from this optimizer's, so that the difference is noticed.

    Returns:
        What was saved; and, where nothing was aligned because of them, the values of groups that are one now which
        training has moved apart.
    """
    optimizer = optimizers[component]
    ours, theirs = layout_of(component, optimizers), _saved_layout(component, optimizers, payload)
    place_of = {name: (g, i) for g, group in enumerate(theirs) for i, (name, _) in enumerate(group)}
    comparable = _shapes(ours) == _shapes(theirs) and len(place_of) == sum(map(len, theirs))
    if ours == payload["parameters"] or not comparable or (has_state_by_order(optimizer) and ours != theirs):
        return payload, ()
    state = payload["state"]
    saved_groups: Sequence[Mapping[str, Any]] = state["param_groups"]
    initial: list[Mapping[str, Any]] = list(payload["initial_options"])
    initial += [{}] * (len(saved_groups) - len(initial))
    current = list(optimizers.initial_options(component))
    current += [{}] * (len(ours) - len(current))
    rewritten = _rewritten_by(optimizer, state)
    empty = [g for g, group in enumerate(theirs) if not group]
    groups: list[dict[str, Any]] = []
    options: list[Mapping[str, Any]] = []
    for index, layout in enumerate(ours):
        places = [place_of[name] for name, _ in layout]
        sources = list(dict.fromkeys(g for g, _ in places)) or empty[:1]
        own = optimizer.param_groups[index]
        if not sources:
            # A group without parameters, which there was none of.
            groups.append({**own, "params": []})
            options.append(current[index])
            continue
        merged: dict[str, Any] = {}
        apart: list[str] = []
        for name in dict.fromkeys(chain.from_iterable(saved_groups[g] for g in sources)):
            values = [saved_groups[g].get(name) for g in sources]
            configured = [initial[g].get(name) for g in sources]
            same = all(_same(value, values[0]) for value in values)
            if not same and name not in rewritten and all(_same(value, configured[0]) for value in configured):
                apart.append(name)
            merged[name] = values[0]
        if apart:
            return payload, apart
        merged["params"] = [saved_groups[g]["params"][i] for g, i in places]
        # They are matched by now; the names are this optimizer's.
        merged.pop(PARAM_NAMES, None)
        groups.append({**merged, PARAM_NAMES: own[PARAM_NAMES]} if PARAM_NAMES in own else merged)
        options.append(_merged([initial[g] for g in sources], current[index]))
    result = {**payload, "state": {**state, "param_groups": groups}, "initial_options": options, "parameters": ours}
    if "training_weights" in payload:
        weights = payload["training_weights"]
        result["training_weights"] = [[weights[g][i] for g, i in (place_of[n] for n, _ in group)] for group in ours]
    return result, ()


def _saved_layout(component: str, optimizers: ComponentOptimizers, payload: Mapping[str, Any]) -> Layout:
    """The layout of a saved optimizer, with the first names of parameters that are tied now."""
    aliases = optimizers.aliases_of(component)
    if not aliases:
        layout: Layout = payload["parameters"]
        return layout
    return [[[aliases.get(name, name), shape] for name, shape in group] for group in payload["parameters"]]


def _merged(sources: Sequence[Mapping[str, Any]], current: Mapping[str, Any]) -> dict[str, Any]:
    """The options that groups were built with; of those in which they differ, one that isn't the current one."""
    merged = dict(sources[0])
    for other in sources[1:]:
        for name, value in other.items():
            if name not in merged or _same(merged[name], current.get(name)):
                merged[name] = value
    return merged


def _rewritten_by(optimizer: Any, state: Mapping[str, Any]) -> set[str]:
    """What follows from other things in the groups."""
    rewritten = {"params", PARAM_NAMES}
    if isinstance(optimizer, ScheduledOptimizer):
        return rewritten | {"lr", *optimizer.schedule.options_at(0, optimizer.schedule.peak_lr)}
    # A wrapper around one, whose schedule isn't known: PyTorch's own drive these.
    return rewritten | ({"lr", "betas", "momentum"} if SCHEDULER in state else set())


def _same(first: Any, second: Any) -> bool:
    return first is second or same_value(first, second)


def _shapes(layout: Layout) -> dict[str, Sequence[int]]:
    return {name: list(shape) for group in layout for name, shape in group}


def _together(layout: Layout) -> list[list[str]]:
    return sorted(sorted(name for name, _ in group) for group in layout)
