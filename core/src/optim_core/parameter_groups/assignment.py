"""Who got what: the parameters of a component by parameter group, and what decided it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from optim_core.components.lookup import size_of
from optim_core.optimizer.group_options import finite_number, rate_option_of

__all__ = ["BASE", "NUMERIC_COLUMNS", "GroupAssignment", "assignments_of", "group_rows", "parameter_rows"]

BASE = "(base)"
"""What stands for a rule where none decided."""

NUMERIC_COLUMNS = ("group", "tensors", "parameters", "peak lr", "weight decay")
"""The columns of numbers in the tables."""

_HEADINGS = ("component", "group", "rule")


@dataclass(frozen=True)
class GroupAssignment:
    """Parameters of one component that are in one parameter group, and there for one reason.

    Attributes:
        component: the component's name.
        group: the number of the group in the optimizer's `param_groups`; None where the component has no optimizer, as
            nothing in it is trained.
        rule: the conditions of the rule, and the names of the policies, that decided; "(base)" where none did.
        trainable: whether they are trained; what a rule froze, or was frozen before, isn't.
        tensors: the number of parameter tensors.
        parameters: the number of single parameters in them.
        peak_lr: the learning rate of the group at the peak of its schedule; None where it has none.
        weight_decay: the group's weight decay; None where it has none.
        names: the parameters' names within the component.
        shapes: their shapes, in the same order.
    """

    component: str
    group: int | None
    rule: str
    trainable: bool
    tensors: int
    parameters: int
    peak_lr: float | None
    weight_decay: float | None
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def document(self) -> dict[str, Any]:
        """The same as what JSON has: numbers, strings, lists."""
        return {**asdict(self), "names": list(self.names), "shapes": [list(shape) for shape in self.shapes]}


def assignments_of(
    component: str, optimizer: Optimizer | None, named: Mapping[str, Tensor], rules: Mapping[str, str]
) -> list[GroupAssignment]:
    """The assignment of an optimizer's parameters, group by group.

    Args:
        component: the component's name.
        optimizer: whose groups they are; None where it has none.
        named: the component's parameters by name.
        rules: what decided about them, by name; not of those that nothing did.
    """
    name_of = {id(parameter): name for name, parameter in named.items()}
    found: list[GroupAssignment] = []
    groups: Iterable[tuple[int | None, Mapping[str, Any]]] = [(None, {"params": list(named.values())})]
    if optimizer is not None:
        groups = enumerate(optimizer.param_groups)
    for index, group in groups:
        own_names: Sequence[str] = group.get("param_names", ())
        parts: dict[tuple[str, bool], list[tuple[str, Tensor]]] = {}
        for place, parameter in enumerate(group["params"]):
            fallback = own_names[place] if place < len(own_names) else f"(unnamed {index}.{place})"
            name = name_of.get(id(parameter), fallback)
            parts.setdefault((rules.get(name, BASE), parameter.requires_grad), []).append((name, parameter))
        peak, decay = finite_number(rate_option_of(group)), finite_number(group.get("weight_decay"))
        for (rule, trainable), members in parts.items():
            shapes = tuple(() if is_lazy(tensor) else tuple(tensor.shape) for _, tensor in members)
            size = sum(size_of(tensor) for _, tensor in members)
            names = tuple(name for name, _ in members)
            counts = (len(members), size)
            found.append(GroupAssignment(component, index, rule, trainable, *counts, peak, decay, names, shapes))
    return found


def group_rows(assignments: Sequence[GroupAssignment]) -> list[tuple[str, ...]]:
    """A table of assignments: the headings, and a row for each."""
    headings = (*_HEADINGS, "tensors", "parameters", "peak lr", "weight decay")
    rows = [(*_start(a), f"{a.tensors:,}", f"{a.parameters:,}", *_rates(a)) for a in assignments]
    return [headings, *rows]


def parameter_rows(assignments: Sequence[GroupAssignment]) -> list[tuple[str, ...]]:
    """A table of assignments by name: the headings, and a row for each parameter."""
    headings = (*_HEADINGS, "parameter", "shape", "peak lr", "weight decay")
    rows = [
        (*_start(a), name, "x".join(map(str, shape)) or "scalar", *_rates(a))
        for a in assignments
        for name, shape in zip(a.names, a.shapes, strict=True)
    ]
    return [headings, *rows]


def _start(assignment: GroupAssignment) -> tuple[str, str, str]:
    return assignment.component, "" if assignment.group is None else str(assignment.group), assignment.rule


def _rates(assignment: GroupAssignment) -> tuple[str, str]:
    rates = (assignment.peak_lr, assignment.weight_decay)
    peak, decay = ("" if number is None else f"{number:.4g}" for number in rates)
    return peak if assignment.trainable else "frozen", decay
