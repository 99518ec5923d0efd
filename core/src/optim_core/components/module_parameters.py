"""The parameters of a module by name, found in one walk that is as short as can be.

A bare optimizer's constructor spends most of its time in `module.parameters()`, and a component's parameters are
needed for several ends: so they are walked once, without PyTorch's generators, and named only if somebody asks.

What a module has is in its attributes `_parameters` and `_modules`, for which PyTorch's public names are those
generators. They have been there since its first version, and the tests hold the walk to PyTorch's own.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch import nn

__all__ = ["NamedParameters", "all_distinct", "parameters_of", "walks_as_usual"]

_NONE = id(None)
_WALKS = ("parameters", "named_parameters", "named_modules", "_named_members")


class NamedParameters(Mapping[str, nn.Parameter]):
    """A module's parameters by their names within it, as they were when it was walked.

    One that the module uses twice is there once, under its first name.

    Args:
        walked: every parameter of every module below, in order; None where one is left out.
        names: the name of each within its own module.
        prefixes: the paths of the modules that have any, with a dot at the end.
        counts: how many each of these modules has.
    """

    def __init__(
        self, walked: list[nn.Parameter], names: Sequence[str], prefixes: Sequence[str], counts: Sequence[int]
    ) -> None:
        self._walked, self._names, self._prefixes, self._counts = walked, names, prefixes, counts

    def ids(self) -> Iterable[int]:
        """What `all_distinct` takes of it."""
        return map(id, self._walked)

    def tensors(self, distinct: bool) -> Sequence[nn.Parameter]:
        """The parameters in order, each once; `distinct` says that `all_distinct` has found them so."""
        return self._walked if distinct or all_distinct(self.ids()) else list(self._by_name.values())

    def names_of(self, tensors: Sequence[nn.Parameter]) -> list[str]:
        """The names of some of the parameters, in their order."""
        if tensors is self._walked:
            # Each is there once, as `tensors()` has found.
            names = iter(self._names)
            paths = zip(self._prefixes, self._counts, strict=True)
            return [prefix + name for prefix, count in paths for name in islice(names, count)]
        name_of = {id(parameter): name for name, parameter in self._by_name.items()}
        return [name_of[id(parameter)] for parameter in tensors]

    @functools.cached_property
    def _by_name(self) -> dict[str, nn.Parameter]:
        pairs = zip(self._names, self._walked, strict=True)
        named: dict[str, nn.Parameter] = {}
        seen = {_NONE}
        for prefix, count in zip(self._prefixes, self._counts, strict=True):
            for name, parameter in islice(pairs, count):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    named[prefix + name] = parameter
        return named

    def __repr__(self) -> str:
        return repr(self._by_name)

    def __getitem__(self, name: str) -> nn.Parameter:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def all_distinct(ids: Iterable[int]) -> bool:
    """Whether no parameter is there twice, by `id`, and None isn't there at all."""
    # Sorted, as parameters lie in memory about in the order in which they were made: a set takes twice as long.
    ordered = [_NONE, *ids]
    ordered.sort()
    return not any(map(operator.eq, ordered, islice(ordered, 1, None)))


def parameters_of(module: nn.Module) -> tuple[NamedParameters, Sequence[nn.Parameter] | None]:
    """What `module.named_parameters()` gives, in a third of the time.

    Returns:
        The parameters by name; and, where a class of modules has a walk of its own, what
        `module.parameters()` gives.
    """
    if walks_as_usual(module):
        tensors: list[nn.Parameter] = []
        names: list[str] = []
        prefixes: list[str] = []
        counts: list[int] = []
        walked = {module}
        try:
            _walk(module, "", tensors, names, prefixes, counts, walked)
            as_usual = all(map(_has_usual_walks, set(map(type, walked))))
        except TypeError:
            # Of a scripted module within, these attributes are something else.
            as_usual = False
        if as_usual:
            return NamedParameters(tensors, names, prefixes, counts), None
    named = dict(module.named_parameters())
    return NamedParameters(list(named.values()), list(named), [""], [len(named)]), list(module.parameters())


def _walk(
    module: nn.Module,
    prefix: str,
    tensors: list[nn.Parameter],
    names: list[str],
    prefixes: list[str],
    counts: list[int],
    walked: set[nn.Module],
) -> None:
    own = module._parameters
    if own:
        tensors += own.values()  # type: ignore[arg-type]
        names += own
        prefixes.append(prefix)
        counts.append(len(own))
    for name, child in module._modules.items():
        if child is None or child in walked:
            continue
        walked.add(child)
        if child._modules:
            _walk(child, f"{prefix}{name}.", tensors, names, prefixes, counts, walked)
        elif own := child._parameters:
            # As above: most modules are leaves, and a call for each would take a tenth longer.
            tensors += own.values()  # type: ignore[arg-type]
            names += own
            prefixes.append(f"{prefix}{name}.")
            counts.append(len(own))


def walks_as_usual(module: nn.Module) -> bool:
    """Whether a module leaves it to `nn.Module` what its parameters are."""
    kind: type = type(module)
    return _has_usual_walks(kind) and vars(module).keys().isdisjoint(_WALKS)


@functools.lru_cache(maxsize=1024)
def _has_usual_walks(kind: type) -> bool:
    same = all(getattr(kind, walk) is getattr(nn.Module, walk) for walk in _WALKS)
    return same and not issubclass(kind, torch.jit.ScriptModule)
