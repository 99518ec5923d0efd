"""The layers of a module from its input to its output, and which of them each parameter belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["layers_of"]

# timm's mark of what belongs to the layer before it.
_WITH_THE_LAYER_BEFORE = 99999
_NUMBERED = re.compile(r"(.*?)(\d+)")
# What only holds modules; the first of these also says that they follow each other.
_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")
_HEADS = frozenset({"head", "heads", "lm_head", "classifier"})
_REMEDY = "Give it a method group_matcher(coarse), or write rules with lr_scale in place of the policy"


def layers_of(module: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """The layer of each parameter, counted from 0 at the input.

    A module's own grouping counts where it offers one: `group_matcher(coarse=False)`, by the convention of timm,
    which returns a function from a parameter's name to a position, or regular expressions by stage. Else the layers
    are found in its structure, in the order in which it is registered:

    - the outermost submodules with a number for a name, or with names that differ in a number at the end only and of
      one class; those without parts of their own only where no other has any;
    - in place of such a one, the modules of a Sequential in it that are of one class and have parts (the blocks of a
      stage); and the layers of a submodule's own grouping;
    - what lies between layers is a part of the one before it; what comes before them all is the first layer; what
      comes after them, and what is in a head without layers of its own, by its name and wherever it is, the last.

    Args:
        module: whose parameters they are.
        names: of its parameters, in the order of the module.

    Raises:
        ValueError: the module has neither, or its own grouping is of no use.
    """
    module, listed = _uncompiled(module), list(names)
    grouping = _own_grouping(module, listed)
    return _by_structure(module, listed) if grouping is None else grouping


def _own_grouping(module: nn.Module, names: Sequence[str]) -> dict[str, int] | None:
    """The layers by a module's own grouping; None where it offers none."""
    matcher = getattr(module, "group_matcher", None)
    if not callable(matcher):
        return None
    try:
        grouping = matcher(coarse=False)
        place_of = grouping if callable(grouping) else _place_by_expressions(grouping)
        places = {name: _as_place(place) for name in names if (place := place_of(name)) is not None}
    except (re.error, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"nothing can be made of the group_matcher() of {type(module).__name__}: {error}") from error
    numbers: dict[tuple[float, ...], int] = {}
    layer = -1
    for place in sorted(set(places.values())):
        if layer < 0 or not place or place[-1] != _WITH_THE_LAYER_BEFORE:
            layer += 1
        numbers[place] = layer
    # What the module leaves out is taken to be at its output, as what no expression matches is.
    return {name: numbers[places[name]] if name in places else max(layer, 0) for name in names}


def _as_place(place: Any) -> tuple[float, ...]:
    return tuple(map(float, place if isinstance(place, Iterable) else (place,)))


def _place_by_expressions(stages: Any) -> Callable[[str], Iterable[float]]:
    if not isinstance(stages, Mapping):
        raise ValueError(f"it returned a {type(stages).__name__}, neither a mapping nor a function")
    expressions: list[tuple[re.Pattern[str], int, Sequence[float]]] = []
    for stage, entry in enumerate(stages.values()):
        pairs = [(entry, ())] if isinstance(entry, str) else entry or ()
        expressions += [(re.compile(expression), stage, tuple(suffix or ())) for expression, suffix in pairs]

    def place_of(name: str) -> Iterable[float]:
        for expression, stage, suffix in expressions:
            found = expression.match(name)
            if found:
                return (stage, *(float(number) for number in found.groups() if number is not None), *suffix)
        return (float("inf"),)

    return place_of


@dataclass(frozen=True)
class _Segment:
    """A part of a module that is one layer, or several by a grouping of its own.

    Attributes:
        path: with a dot at the end.
        module: what is there.
        within: the path of the numbered submodule that it is a block of; its own where it is that.
    """

    path: str
    module: nn.Module
    within: str


def _by_structure(module: nn.Module, names: Sequence[str]) -> dict[str, int]:
    segments = [segment for path, child in _numbered_submodules(module) for segment in _segments_in(path, child)]
    index_of = {segment.path: index for index, segment in enumerate(segments)}
    first_within: dict[str, int] = {}
    for index, segment in enumerate(segments):
        first_within.setdefault(segment.within, index)
    owners: dict[str, int | None] = {}
    current = -1
    for name in names:
        own, outer = _innermost(name, index_of), _innermost(name, first_within)
        if own is not None:
            current = own
        elif outer is not None:
            # Beside the blocks of a stage: with the first, or with the one before.
            current = max(current, outer)
        owners[name] = own if own is not None else outer if outer is None else current
    owned = [index for index, owner in enumerate(owners.values()) if owner is not None]
    if not owned:
        raise ValueError(
            "its layers are not known: it has no group_matcher() and no numbered submodules with parameters, such as "
            f"blocks.0, blocks.1. {_REMEDY}"
        )
    members: dict[int, list[str]] = {}
    for name, owner in owners.items():
        if owner is not None:
            members.setdefault(owner, []).append(name)
    within = {name: place for owner, own in members.items() for name, place in _place_in(segments[owner], own).items()}
    found: dict[str, tuple[int, int]] = {}
    here = (-1, 0)
    for index, (name, owner) in enumerate(owners.items()):
        if owner is not None:
            here = owner, within[name]
        is_above = index > owned[-1] or (owner is None and not _HEADS.isdisjoint(name.split(".")))
        found[name] = (len(segments), 0) if is_above else here
    numbers = {place: number for number, place in enumerate(sorted(set(found.values())))}
    return {name: numbers[place] for name, place in found.items()}


def _place_in(segment: _Segment, names: Sequence[str]) -> dict[str, int]:
    """The layer of each parameter of a segment within it; 0 of all where it has no grouping of its own."""
    inner = {name: name.removeprefix(segment.path) for name in names}
    grouping = _own_grouping(segment.module, list(inner.values())) or {}
    return {name: grouping.get(within, 0) for name, within in inner.items()}


def _innermost(name: str, paths: Mapping[str, int]) -> int | None:
    """What the longest of the paths stands for that a parameter's name begins with."""
    end = name.rfind(".")
    while end >= 0:
        if name[: end + 1] in paths:
            return paths[name[: end + 1]]
        end = name.rfind(".", 0, end)
    return None


def _numbered_submodules(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The paths of the outermost numbered submodules, and of those with a grouping of their own, in order."""
    found = list(_outermost(module, "", set()))
    with_parts = [(path, child) for path, child in found if _has_parts(child)]
    return with_parts or found


def _outermost(module: nn.Module, prefix: str, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    if module in seen:
        return
    seen.add(module)
    series = _series_among(module)
    for name, child in _children(module):
        path = f"{prefix}{name}."
        if name.isdecimal() or name in series or callable(getattr(child, "group_matcher", None)):
            yield path, child
        else:
            yield from _outermost(child, path, seen)


def _segments_in(path: str, module: nn.Module) -> list[_Segment]:
    """The blocks in a numbered submodule, if it is a stage; or the submodule itself."""
    if callable(getattr(module, "group_matcher", None)):
        return [_Segment(path, module, path)]
    sequences = [(path, module), *((f"{path}{name}.", child) for name, child in _children(module))]
    for start, sequence in sequences:
        blocks = list(_children(sequence))
        if "Sequential" in _class_names(sequence) and len(blocks) > 1 and _are_alike(child for _, child in blocks):
            return [_Segment(f"{start}{name}.", block, path) for name, block in blocks]
    return [_Segment(path, module, path)]


def _are_alike(modules: Iterable[nn.Module]) -> bool:
    """Whether modules are of one class, no mere containers, and have parts."""
    each = list(modules)
    kinds = {name for module in each for name in _class_names(module)}
    return len(set(map(type, each))) == 1 and kinds.isdisjoint(_CONTAINERS) and all(map(_has_parts, each))


def _class_names(module: nn.Module) -> set[str]:
    return {kind.__name__ for kind in type(module).__mro__}


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, _uncompiled(child)) for name, child in module.named_children())


def _uncompiled(module: Any) -> Any:
    """What torch.compile has wrapped, of which there is nothing in the names as they are written."""
    return getattr(module, "_orig_mod", module)


def _has_parts(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def _series_among(module: nn.Module) -> set[str]:
    """The children whose names differ in a number at the end only, at least two of one class with parts."""
    series: dict[tuple[str, type], list[str]] = {}
    for name, child in _children(module):
        found = _NUMBERED.fullmatch(name)
        if found and type(child).__name__ not in _CONTAINERS and _has_parts(child):
            series.setdefault((found[1], type(child)), []).append(name)
    return {name for names in series.values() if len(names) > 1 for name in names}
