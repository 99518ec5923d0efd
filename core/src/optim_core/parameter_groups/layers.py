"""The layers of a module from its input to its output, and which of them each parameter belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["layers_of"]

# timm's mark of what belongs to the layer before it.
_WITH_THE_LAYER_BEFORE = 99999
_NUMBERED = re.compile(r"(.*?)(\d+)")
# What only holds a sequence of modules.
_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")


def layers_of(module: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """The layer of each parameter, counted from 0 at the input.

    A module's own grouping counts where it offers one: `group_matcher(coarse=False)`, by the convention of timm,
    which returns a function from a parameter's name to a position, or regular expressions by stage. Else the
    layers are the outermost submodules with a number for a name, or with names that differ in a number at the end
    only and of one class; what is registered before them is the first layer, what is registered after them the
    last, and what is between belongs to the one before it.

    Args:
        module: whose parameters they are.
        names: of its parameters, in the order of the module.

    Raises:
        ValueError: the module has neither, or its own grouping is of no use.
    """
    matcher = getattr(module, "group_matcher", None)
    if callable(matcher):
        return _by_own_grouping(matcher(coarse=False), list(names))
    return _by_numbers(module, list(names))


def _by_own_grouping(grouping: Any, names: Sequence[str]) -> dict[str, int]:
    place_of = grouping if callable(grouping) else _place_by_expressions(grouping)
    places: dict[str, tuple[float, ...]] = {}
    for name in names:
        place = place_of(name)
        if place is not None:
            places[name] = tuple(map(float, place if isinstance(place, Iterable) else (place,)))
    numbers: dict[tuple[float, ...], int] = {}
    layer = -1
    for place in sorted(set(places.values())):
        if layer < 0 or not place or place[-1] != _WITH_THE_LAYER_BEFORE:
            layer += 1
        numbers[place] = layer
    # What the module leaves out is taken to be at its output, as what no expression matches is.
    return {name: numbers[places[name]] if name in places else max(layer, 0) for name in names}


def _place_by_expressions(stages: Any) -> Callable[[str], Iterable[float]]:
    if not isinstance(stages, Mapping):
        raise ValueError(f"group_matcher() returned a {type(stages).__name__}, neither a mapping nor a function")
    expressions: list[tuple[re.Pattern[str], int, Sequence[float]]] = []
    for stage, entry in enumerate(stages.values()):
        pairs = [(entry, ())] if isinstance(entry, str) else entry or ()
        try:
            expressions += [(re.compile(expression), stage, tuple(suffix or ())) for expression, suffix in pairs]
        except (re.error, TypeError, ValueError) as error:
            raise ValueError(f"group_matcher() returned {entry!r}, of which nothing can be made: {error}") from error

    def place_of(name: str) -> Iterable[float]:
        for expression, stage, suffix in expressions:
            found = expression.match(name)
            if found:
                return (stage, *(float(number) for number in found.groups() if number is not None), *suffix)
        return (float("inf"),)

    return place_of


def _by_numbers(module: nn.Module, names: Sequence[str]) -> dict[str, int]:
    blocks = list(_numbered_submodules(module, ""))
    owner_of = {block: block for block in blocks}
    owners = [_owner(name, owner_of) for name in names]
    if not any(owners):
        raise ValueError(
            "its layers are not known: it has no method group_matcher() and no numbered submodules with parameters, "
            "such as blocks.0, blocks.1"
        )
    last = max(index for index, owner in enumerate(owners) if owner)
    layers: dict[str, int] = {}
    numbers: dict[str, int] = {}
    current = "before"
    for index, (name, owner) in enumerate(zip(names, owners, strict=True)):
        if owner:
            current = owner
        elif index > last:
            current = "after"
        # A block may come back, where a parameter of it stands elsewhere as well.
        layers[name] = numbers.setdefault(current, len(numbers))
    return layers


def _owner(name: str, blocks: Mapping[str, str]) -> str | None:
    """The numbered submodule that a parameter is in, by its path with a dot at the end."""
    end = name.find(".")
    while end >= 0:
        if name[: end + 1] in blocks:
            return blocks[name[: end + 1]]
        end = name.find(".", end + 1)
    return None


def _numbered_submodules(module: nn.Module, prefix: str) -> Iterator[str]:
    """The paths of the outermost numbered submodules, in order, with a dot at the end."""
    series = _series_among(module)
    for name, child in module.named_children():
        path = f"{prefix}{name}."
        if name.isdigit() or name in series:
            yield path
        else:
            yield from _numbered_submodules(child, path)


def _series_among(module: nn.Module) -> set[str]:
    """The children whose names differ in a number at the end only, at least two of one class with parts of its own."""
    series: dict[tuple[str, type], list[str]] = {}
    for name, child in module.named_children():
        found = _NUMBERED.fullmatch(name)
        is_block = type(child).__name__ not in _CONTAINERS and next(child.children(), None) is not None
        if found and is_block:
            series.setdefault((found[1], type(child)), []).append(name)
    return {name for names in series.values() if len(names) > 1 for name in names}
