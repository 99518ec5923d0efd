"""Who owns which parameters of a model: the optimizers of its components, or nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from optim_core import ComponentOptimizers
from optim_core.for_tools import Component, ComponentSource, Models, size_of

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
        frozen_elsewhere: number of single frozen parameters that no component has, likewise.
    """

    owners: tuple[Owner, ...]
    uncovered: Mapping[str, int]
    frozen_elsewhere: Mapping[str, int]


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
    parts = source.parts_without(owned).items()
    left = {part: _counts(parameters) for part, parameters in parts}
    uncovered = {part: trainable for part, (trainable, _) in left.items() if trainable}
    return Ownership(tuple(owners), uncovered, {part: frozen for part, (_, frozen) in left.items() if frozen})


def _owner(component: str, key: str, optimizer: str | None, tensors: Iterable[Tensor]) -> Owner:
    each = list(tensors)
    return Owner(component, key, optimizer, len(each), *_counts(each))


def _counts(tensors: Iterable[Tensor]) -> tuple[int, int]:
    """The numbers of single parameters that are trainable, and frozen."""
    sizes = [(size_of(tensor), tensor.requires_grad) for tensor in tensors]
    return sum(size for size, trainable in sizes if trainable), sum(size for size, trainable in sizes if not trainable)
