"""How the values of a schedule get into a parameter group.

Plain numbers are replaced. In a group whose rate is a tensor, the counter and every option that the
schedule drives is one too, and stays the same object, filled in place: compiled code and captured
graphs have it as an input, and a number that changes would have the code compiled anew each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from optim_core.optimizer.schedule_state import PEAK, STEP

__all__ = [
    "adopt",
    "finite_number",
    "holds",
    "is_rate",
    "on_device",
    "own_copy",
    "plain_number",
    "rate_option_of",
    "tensors_of",
    "use_tensors",
    "write",
    "written_value",
]


def on_device(value: object) -> bool:
    """Whether a value lies in another memory, so that reading it means waiting for a device."""
    return isinstance(value, Tensor) and value.device.type != "cpu"


def use_tensors(group: dict[str, Any], driven: Mapping[str, Any]) -> None:
    """Make the counter and every driven option of a group a tensor like its rate; keep those that are."""
    like = group["lr"]
    if not isinstance(group[STEP], Tensor):
        group[STEP] = torch.tensor(group[STEP], dtype=torch.int64, device=like.device)
    for name, value in driven.items():
        group[name] = _as_tensor(group.get(name), value, like)


def _as_tensor(current: Any, value: Any, like: Tensor) -> Any:
    if isinstance(value, tuple):
        elements = current if isinstance(current, (tuple, list)) else value
        return tuple(_as_tensor(old, new, like) for old, new in zip(elements, value, strict=True))
    if value is None or isinstance(current, Tensor):
        return current
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return torch.full((), value, dtype=like.dtype, device=like.device)
    return value


def write(group: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Put a schedule's values into a group: into its tensors, or in place of its numbers."""
    for name, value in options.items():
        group[name] = written_value(group.get(name), value)


def written_value(current: Any, value: Any) -> Any:
    """What an option is after a value was put into it; None leaves it as it is."""
    if isinstance(value, tuple) and isinstance(current, (tuple, list)):
        return tuple(written_value(old, new) for old, new in zip(current, value, strict=True))
    if value is None:
        return current
    if isinstance(current, Tensor):
        return current.fill_(value)
    return value


def adopt(live: Any, loaded: Any) -> Any:
    """A loaded option in the form that the live one has: its tensors stay, whatever was saved."""
    if isinstance(live, tuple) and isinstance(loaded, (tuple, list)) and len(live) == len(loaded):
        return tuple(adopt(old, new) for old, new in zip(live, loaded, strict=True))
    return live if isinstance(live, Tensor) else plain_number(loaded)


def plain_number(value: Any) -> Any:
    """A value with a number in place of every tensor of one element."""
    if isinstance(value, (tuple, list)):
        return type(value)(plain_number(item) for item in value)
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def rate_option_of(group: Mapping[str, Any]) -> Any:
    """The whole rate of a group, of which a schedule makes a curve; None where it has none."""
    return next((group[name] for name in (PEAK, "initial_lr", "lr") if group.get(name) is not None), None)


def finite_number(value: Any) -> float | None:
    """An option as a number that JSON can hold, too; None where it is none."""
    number = plain_number(value)
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    return float(number) if is_number and math.isfinite(number) else None


def tensors_of(group: Mapping[str, Any], driven: Mapping[str, Any]) -> Iterator[Tensor]:
    """The tensors of a group that a schedule drives, in the order of its values `driven`."""
    for name, value in driven.items():
        pairs = zip(group[name], value, strict=True) if isinstance(value, tuple) else [(group[name], value)]
        yield from (tensor for tensor, new in pairs if new is not None)


def own_copy(value: Any) -> Any:
    """A value with copies of its tensors, which the caller may go on using."""
    if isinstance(value, tuple):
        return tuple(own_copy(element) for element in value)
    return value.detach().clone() if isinstance(value, Tensor) else value


def holds(current: object, own: object, value: float | None) -> bool:
    """Whether a group's rate is still what was last written: the same object, with that value in it.

    `value` is None for a tensor on a device: to ask it, the program would have to wait.
    """
    if not isinstance(own, Tensor):
        return current == value
    return current is own and (value is None or is_rate(own, value, own))


def is_rate(found: Any, value: float, own: object) -> bool:
    """Whether a rate is a value, or that value as the group's own tensor rounds it, if it has one."""
    if not isinstance(own, Tensor):
        return bool(found == value)
    precision = torch.finfo(own.dtype)
    return math.isclose(float(found), value, rel_tol=precision.eps, abs_tol=precision.smallest_normal * precision.eps)
