"""Who owns which parameters of a model: the optimizers of its components, or nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from optim_core.component_optimizers import ComponentOptimizers
from optim_core.components import Component, ComponentSource, Models

__all__ = ["Owner", "Ownership", "ownership"]


@dataclass(frozen=True)
class Owner:
    """A component and what its optimizer has.

    Attributes:
        component: its name.
        type: the registry key of its optimizer.
        optimizer: the optimizer's class; None where the component is frozen, and so skipped.
        tensors: number of parameter tensors.
        trainable: number of single parameters that training changes.
        frozen: number of single parameters that it leaves alone.
    """

    component: str
    type: str
    optimizer: str | None
    tensors: int
    trainable: int
    frozen: int


@dataclass(frozen=True)
class Ownership:
    """The owners in the configuration's order, and the trainable parameters that have none.

    Attributes:
        owners: one for each component.
        uncovered: number of single trainable parameters without an optimizer, by part of the model.
    """

    owners: tuple[Owner, ...]
    uncovered: Mapping[str, int]


def ownership(models: Models, optimizers: ComponentOptimizers) -> Ownership:
    """Count what each optimizer has, as it was built, and what is left of the models."""
    source = ComponentSource(models)
    owners = []
    owned: set[int] = set()
    for name, spec in optimizers.specs.items():
        if name in optimizers:
            tensors = [p for group in optimizers[name].param_groups for p in group["params"]]
            optimizer: str | None = type(optimizers[name]).__name__
        else:
            component = source.find(name)
            tensors = list(component.parameters.values()) if isinstance(component, Component) else []
            optimizer = None
        owned |= {id(tensor) for tensor in tensors}
        owners.append(_owner(name, spec.type, optimizer, tensors))
    return Ownership(tuple(owners), source.uncovered(owned))


def _owner(component: str, key: str, optimizer: str | None, tensors: Iterable[Tensor]) -> Owner:
    each = list(tensors)
    trainable = sum(t.numel() for t in each if t.requires_grad)
    return Owner(component, key, optimizer, len(each), trainable, sum(t.numel() for t in each) - trainable)
