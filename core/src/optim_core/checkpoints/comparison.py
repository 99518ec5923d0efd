"""What a checkpoint has other than the models and optimizers that it is to be loaded into."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from optim_core.checkpoints.regrouping import layout_of
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.errors import Problem, listed
from optim_core.optimizer.schedule_state import (
    PEAK,
    STEP,
    Difference,
    driven_by_saved_only,
    same_value,
    saved_default_peak,
    shape_differences,
)
from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer

__all__ = ["changed_options", "changed_values", "model_problems", "optimizer_problems", "plain"]

_MOST_LISTED = 12


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they can be saved and compared; what is no plain value, as the name of its type."""
    return {name: _plain(value) for name, value in values.items()}


def model_problems(modules: Mapping[str, nn.Module], saved: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """Why saved weights can't be loaded into these modules."""
    yield from _set_problems("models", set(modules), set(saved))
    for name in [name for name in modules if name in saved]:
        where = f"weights of {name!r}" if name else "weights"
        ours = modules[name].state_dict()
        yield from _set_problems(where, set(ours), set(saved[name]))
        for key, value in ours.items():
            other = saved[name].get(key)
            if isinstance(value, Tensor) and isinstance(other, Tensor) and value.shape != other.shape:
                sizes = f"{list(other.shape)} in the checkpoint and {list(value.shape)} in the model"
                yield Problem(where, f"{key!r} is {sizes}")


def optimizer_problems(
    optimizers: ComponentOptimizers, saved: Mapping[str, Mapping[str, Any]], apart: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    """Why saved optimizers can't be loaded into these.

    Args:
        optimizers: these.
        saved: by component, in their order where that could be.
        apart: by component, the values of groups that are one now which training has moved apart.
    """
    yield from _set_problems("optimizers", set(optimizers), set(saved))
    for component in [component for component in optimizers if component in saved]:
        payload = saved[component]
        where = f"optimizer of {component!r}"
        spec = optimizers.specs.get(component)
        ours = (spec.type if spec else "", type(optimizers[component]).__name__)
        theirs = (payload["type"], payload["class"])
        layout = layout_of(component, optimizers)
        if ours != theirs:
            message = f"is {_described(*theirs)} in the checkpoint and {_described(*ours)} in the configuration"
            yield Problem(where, message)
        elif layout != payload["parameters"]:
            yield from _layout_problems(where, layout, payload["parameters"], apart[component])


def changed_options(
    component: str, optimizers: ComponentOptimizers, payload: Mapping[str, Any]
) -> list[Collection[str]]:
    """For each group, the options that it was built with other than the saved one was.

    A group that was added after the build has none.
    """
    optimizer = optimizers[component]
    position = (STEP, "lr") if isinstance(optimizer, ScheduledOptimizer) else ()
    now = [plain(group) for group in optimizers.initial_options(component)]
    changed: list[Collection[str]] = [
        [name for name in ours if name in theirs and not same_value(ours[name], theirs[name]) and name not in position]
        for ours, theirs in zip(now, payload["initial_options"], strict=False)
    ]
    return changed + [()] * (len(optimizer.param_groups) - len(changed))


def changed_values(component: str, optimizers: ComponentOptimizers, payload: Mapping[str, Any]) -> list[Difference]:
    """Everything that the configuration, or a hook, has other than when the checkpoint was saved."""
    ours, theirs = plain(optimizers.params.get(component, {})), payload["params"]
    found = [
        Difference(name, theirs.get(name), ours.get(name))
        for name in dict.fromkeys([*ours, *theirs])
        if not same_value(theirs.get(name), ours.get(name))
    ]
    optimizer = optimizers[component]
    before, now = payload["initial_options"], optimizers.initial_options(component)
    driven: Collection[str] = ()
    default_peaks: tuple[object, object] | None = None
    if isinstance(optimizer, ScheduledOptimizer):
        # What follows from a changed param is not listed beside it: the shape, the default peak, and
        # what the schedule writes.
        found = found or list(shape_differences(optimizer.schedule, payload["state"]))
        default_peaks = (saved_default_peak(payload["state"]), optimizer.schedule.peak_lr)
        schedule, name = optimizer.schedule, type(optimizer).__name__
        driven = {*schedule.options_at(0, schedule.peak_lr), *driven_by_saved_only(schedule, payload["state"], name)}
    for index, names in enumerate(changed_options(component, optimizers, payload)):
        for name in names:
            peaks = (before[index].get(name), now[index].get(name))
            if name in driven or (name == PEAK and peaks == default_peaks):
                continue
            label = f"{name} of parameter group {index}" if len(before) > 1 else name
            found.append(Difference(label, before[index].get(name), _plain(now[index].get(name))))
    named: dict[str, Difference] = {}
    for difference in found:
        named.setdefault(difference.name, difference)
    return list(named.values())


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _described(key: str, class_name: str) -> str:
    return f"{key} ({class_name})" if key else class_name


def _layout_problems(
    where: str, ours: list[list[list[Any]]], theirs: list[list[list[Any]]], apart: Sequence[str]
) -> Iterator[Problem]:
    if apart:
        what = f"has parameters in one group that were in several, between which training has moved {', '.join(apart)}"
        yield Problem(where, f"{what} apart", "Configure its param_groups as they were")
        return
    if [len(group) for group in ours] != [len(group) for group in theirs]:
        sizes = [[len(group) for group in groups] for groups in (theirs, ours)]
        yield Problem(where, f"has groups of {sizes[0]} parameters in the checkpoint and {sizes[1]} now")
    flat_ours, flat_theirs = ({p[0]: p[1] for group in groups for p in group} for groups in (ours, theirs))
    yield from _set_problems(f"{where}, parameters", set(flat_ours), set(flat_theirs))
    different = [name for name in flat_ours if name in flat_theirs and flat_ours[name] != flat_theirs[name]]
    for name in different:
        yield Problem(where, f"{name!r} is {flat_theirs[name]} in the checkpoint and {flat_ours[name]} now")
    if not different and set(flat_ours) == set(flat_theirs):
        yield Problem(where, "has its parameters in another order or in other groups than in the checkpoint")


def _set_problems(where: str, ours: set[str], theirs: set[str]) -> Iterator[Problem]:
    if missing := sorted(ours - theirs):
        yield Problem(where, f"not in the checkpoint: {listed(missing, _MOST_LISTED)}")
    if unexpected := sorted(theirs - ours):
        yield Problem(where, f"only in the checkpoint: {listed(unexpected, _MOST_LISTED)}")
