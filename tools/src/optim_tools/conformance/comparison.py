"""Comparing weights, states and parameter groups, and saying where they differ."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_COMPARABLE = (int, float, complex, str, bytes, type(None), set, frozenset, torch.dtype, torch.device)

__all__ = ["difference", "empty_entries", "moved", "snapshot", "weights_difference", "without_counters"]


def weights_difference(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], *, rtol: float = 0.0, atol: float = 0.0
) -> str | None:
    """The largest difference between two sets of weights, in words; None where they are the same.

    Without tolerances they have to be the same bit for bit; two NaNs are.
    """
    worst: tuple[float, str] | None = None
    for name, value in first.items():
        other = second[name]
        if value.dtype != other.dtype or value.shape != other.shape:
            return f"{name!r} is {_kind(value)} in one and {_kind(other)} in the other"
        if torch.allclose(value, other, rtol=rtol, atol=atol, equal_nan=True):
            continue
        gap = float((value - other).abs().max())
        if worst is None or not gap <= worst[0]:
            worst = (gap, f"{name!r} differs by up to {gap:.3g}")
    return None if worst is None else worst[1]


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """The names of the weights that have changed in any bit."""
    return [name for name, value in before.items() if not _same_tensor(value, after[name])]


def snapshot(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A copy of everything in an optimizer that a step or a load may change, the parameters included."""
    groups = [
        {**copy.deepcopy({name: value for name, value in group.items() if name != "params"})}
        for group in optimizer.param_groups
    ]
    parameters = [[p.detach().clone() for p in group["params"]] for group in optimizer.param_groups]
    order = [p for group in optimizer.param_groups for p in group["params"]]
    state = {index: copy.deepcopy(dict(optimizer.state[p])) for index, p in enumerate(order) if optimizer.state.get(p)}
    return {"param_groups": groups, "parameters": parameters, "state": state}


def empty_entries(optimizer: torch.optim.Optimizer) -> int:
    """How many parameters have an empty state, for which torch.distributed.checkpoint takes it as created."""
    return sum(isinstance(values, Mapping) and not values for values in optimizer.state.values())


def without_counters(group: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter group without the whole numbers that are new, or others than in what it was first."""
    return {
        name: value
        for name, value in group.items()
        if name == "lr" or not (_is_whole(value) and (name not in first or difference(value, first[name])))
    }


def difference(first: Any, second: Any, where: str = "") -> str | None:
    """Where two nested values differ, as a path and both values; None where they don't."""
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        if isinstance(first, Tensor) and isinstance(second, Tensor) and _same_tensor(first, second):
            return None
        if (
            isinstance(first, Tensor)
            and isinstance(second, Tensor)
            and first.numel() > 4
            and _kind(first) == _kind(second)
        ):
            return f"{where or 'it'} differs by up to {float((first.to(second.device) - second).abs().max()):.3g}"
        return _differs(where, first, second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        # A state may be a defaultdict, and a key a tensor: neither may be compared with ==.
        if set(first) != set(second):
            lone = [f"{key!r} only before" for key in first if key not in second]
            lone += [f"{key!r} only after" for key in second if key not in first]
            return f"{where or 'it'} has {', '.join(lone[:5])}"
        return _first(difference(value, second[key], f"{where}[{key!r}]") for key, value in first.items())
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            return f"{where or 'it'} has {len(first)} items before and {len(second)} after"
        pairs = enumerate(zip(first, second, strict=True))
        return _first(difference(a, b, f"{where}[{index}]") for index, (a, b) in pairs)
    if isinstance(first, float) and isinstance(second, float) and math.isnan(first) and math.isnan(second):
        return None
    if type(first) is not type(second) and not (isinstance(first, (int, float)) and isinstance(second, (int, float))):
        return _differs(where, first, second)
    if isinstance(first, _COMPARABLE):
        return None if first == second else _differs(where, first, second)
    # Anything else, a generator or an object of the optimizer's own, can't be compared in general.
    return None


def _is_whole(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and float(value).is_integer()
    return isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer()


def _first(found: Iterable[str | None]) -> str | None:
    return next((text for text in found if text is not None), None)


def _differs(where: str, first: Any, second: Any) -> str:
    return f"{where or 'it'} is {_shown(first)} before and {_shown(second)} after"


def _shown(value: Any) -> str:
    if isinstance(value, Tensor) and value.numel() > 4:
        return _kind(value)
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _kind(value: Tensor) -> str:
    return f"a tensor of {str(value.dtype).removeprefix('torch.')} and shape {tuple(value.shape)}"


def _same_tensor(first: Tensor, second: Tensor) -> bool:
    return (
        first.dtype == second.dtype
        and first.shape == second.shape
        and first.device == second.device
        and torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)
    )
