"""Which of PyTorch's implementations makes an update: fused, foreach, or one parameter at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from optim_core.pytorch.sharding import is_sharded

__all__ = ["choose_implementation", "names_implementation", "use_implementation"]

# Where PyTorch has these kernels; it has no public name for the lists.
_FUSED_DEVICES = frozenset({"cpu", "cuda", "hpu", "mps", "xpu"})
_FUSED_TYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_FOREACH_DEVICES = frozenset({"cpu", "cuda", "xpu"})

_is_on_cpu = attrgetter("is_cpu")  # asked of every parameter, in loops that are not Python's


def names_implementation(group: Mapping[str, Any]) -> bool:
    """Whether a parameter group says itself by which implementation it is updated."""
    return group.get("fused") is not None or group.get("foreach") is not None


def choose_implementation(optimizer: Optimizer) -> bool:
    """Have every group of an optimizer updated by the fastest of PyTorch's implementations.

    That is fused, if the class has it and PyTorch supports it for every parameter of the optimizer; otherwise foreach,
    which updates several tensors at a time; otherwise one parameter after the other. The choice stands in every group,
    as `"fused"` and `"foreach"`. Call it in the constructor, after the groups were added, and again when one is added;
    not if a group names an implementation itself.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    >>> choose_implementation(optimizer)
    True
    >>> optimizer.param_groups[0]["fused"], optimizer.param_groups[0]["foreach"]
    (True, False)

    Args:
        optimizer: of one of PyTorch's classes, or of a class derived from one. Where it lacks the option `fused` or
            `foreach`, that is not chosen.

    Returns:
        Whether a choice was made. There is none while parameters have yet to be made, by a lazy module or because
        they are on the device "meta": call it again before the first step.
    """
    groups = optimizer.param_groups
    fused = all(map(_can_be_fused, groups))
    if not fused and not all(map(_is_definite, groups)):
        return False
    use_implementation(optimizer, fused=fused)
    return True


def use_implementation(optimizer: Optimizer, *, fused: bool) -> None:
    """Have every group of an optimizer updated by fused kernels, or by the fastest of the others."""
    for group in optimizer.param_groups:
        chosen = {"fused": fused, "foreach": not fused and _can_be_foreach(group)}
        group.update((name, value) for name, value in chosen.items() if name in group)
        if fused or group.get("capturable"):
            continue
        # Counts of updates that fused kernels keep on a device are read by Python in the others.
        for state in (optimizer.state.get(p, {}) for p in group["params"]):
            if isinstance(state.get("step"), Tensor):  # a class of an author's own may count by a number
                state["step"] = state["step"].cpu()


def _is_definite(group: dict[str, Any]) -> bool:
    """Whether the parameters are what they will be when they are trained."""
    return not any(p.is_meta or is_lazy(p) for p in group["params"])


def _can_be_fused(group: dict[str, Any]) -> bool:
    params = group["params"]
    return (
        "fused" in group
        and not group.get("differentiable")
        and not any(isinstance(beta, Tensor) for beta in group.get("betas", ()))  # which the kernels take as numbers
        and _are_of_one_kind(params)
        and _FUSED_TYPES.issuperset({p.dtype for p in params})
        and (all(map(_is_on_cpu, params)) or _FUSED_DEVICES.issuperset({p.device.type for p in params}))
    )


def _can_be_foreach(group: dict[str, Any]) -> bool:
    driven_by_tensors = any(isinstance(value, Tensor) for value in (group["lr"], *group.get("betas", ())))
    return (
        not group.get("differentiable")
        and (group.get("capturable") or not driven_by_tensors)
        and _are_of_one_kind(group["params"])
        and _FOREACH_DEVICES.issuperset({p.device.type for p in group["params"]})
    )


def _are_of_one_kind(params: Sequence[Tensor]) -> bool:
    """Whether parameters are all of PyTorch's own class, or are all sharded over the same processes."""
    if {Tensor, Parameter}.issuperset(map(type, params)):
        return True
    meshes = [getattr(p, "device_mesh", None) for p in params if is_sharded(p)]
    return len(meshes) == len(params) and all(mesh == meshes[0] for mesh in meshes)
