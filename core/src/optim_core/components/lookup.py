"""Components: the modules that a configuration names, found in what the caller trains."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from optim_core.arguments.spelling import nearest
from optim_core.components.module_parameters import NamedParameters, all_distinct, parameters_of, walks_as_usual
from optim_core.errors import Problem
from optim_core.pytorch.wrappers import unwrapped

__all__ = ["Component", "ComponentSource", "FoundComponents", "Models", "named_modules_of", "size_of"]

Models = nn.Module | Mapping[str, nn.Module]
"""What is trained: modules by component, or one module whose submodules are the components."""


@dataclass(frozen=True)
class Component:
    """A module of its own optimizer.

    Attributes:
        name: as the configuration has it.
        module: without any wrapper.
        parameters: its parameters by their names within it, at the time when it was looked up; one that it uses
            twice is there once.
        tensors: what `module.parameters()` gave then.
    """

    name: str
    module: nn.Module
    parameters: NamedParameters
    tensors: Sequence[nn.Parameter]

    @property
    def is_frozen(self) -> bool:
        """Whether none of its parameters is trainable."""
        return not any(p.requires_grad for p in self.tensors)


@dataclass(frozen=True)
class FoundComponents:
    """The components of some names.

    Attributes:
        components: by name, those that there are.
        problems: by name, what is wrong with each of the others (with an empty path).
        distinct: whether no parameter is known to be there twice, within one component or in two.
        overlapping: pairs of names of which the second is of a part of the first, or of the same.
    """

    components: Mapping[str, Component]
    problems: Mapping[str, Problem]
    distinct: bool
    overlapping: Sequence[tuple[str, str]] = ()


class ComponentSource:
    """Looks components up by name in a mapping of modules or in one module."""

    def __init__(self, models: Models) -> None:
        self.roots = named_modules_of(models)
        self._given = [models] if isinstance(models, nn.Module) else list(models.values())

    def find(self, name: str) -> Component | Problem:
        """The component of that name, or what is wrong with the name (with an empty path)."""
        found = self.find_all([name])
        return found.problems[name] if name in found.problems else found.components[name]

    def find_all(self, names: Iterable[str]) -> FoundComponents:
        """The components of these names; their parameters are walked once, here."""
        walks: dict[str, tuple[nn.Module, NamedParameters, Sequence[nn.Parameter] | None]] = {}
        places: dict[tuple[str, str], str] = {}
        problems: dict[str, Problem] = {}
        ids: list[int] = []
        for name in names:
            place = self._place_of(name)
            if place is None:
                problems[name] = Problem("", "no such component", self._hint(name))
                continue
            module, root, path = place
            places[root, path] = name
            named, listed = parameters_of(module)
            walks[name] = module, named, listed
            ids += named.ids()
        distinct = all_distinct(ids)
        components = {
            name: Component(name, module, named, named.tensors(distinct) if listed is None else listed)
            for name, (module, named, listed) in walks.items()
        }
        return FoundComponents(components, problems, distinct, list(_overlapping(places)))

    def _place_of(self, name: str) -> tuple[nn.Module, str, str] | None:
        """The module of a name, without its wrappers, and the root and the path by which it was found."""
        for root, path in _splits(name):
            found = _submodule(self.roots[root], path) if root in self.roots else None
            if found is not None:
                return unwrapped(found), root, path
        return None

    def nothing_outside(self, components: Iterable[Component]) -> bool:
        """Whether there is nothing to train beside the modules of these components."""
        # A module that hides some of its parameters is looked at in detail.
        done = {component.module for component in components if walks_as_usual(component.module)}
        return not any(_has_trainable(module, done) for module in self.roots.values())

    def uncovered(self, covered: Set[int]) -> dict[str, int]:
        """How many trainable parameters are not among `covered` (by `id`), by the part that has them."""
        counts = {
            part: sum(size_of(p) for p in parameters if p.requires_grad)
            for part, parameters in self.parts_without(covered).items()
        }
        return {part: count for part, count in counts.items() if count}

    def parts_without(self, covered: Set[int]) -> dict[str, list[nn.Parameter]]:
        """The parameters that are not among `covered` (by `id`), by the part that has them.

        A part is the outermost module of which nothing is covered; or a parameter, where something
        else of its module is.
        """
        parts: dict[str, list[nn.Parameter]] = {}
        seen = set(covered)

        def visit(module: nn.Module, path: str) -> None:
            fresh = [p for p in module.parameters() if id(p) not in seen]
            if fresh and path and not any(id(p) in covered for p in module.parameters()):
                parts[path] = fresh
                seen.update(map(id, fresh))
            elif fresh:
                for name, parameter in module.named_parameters(path, recurse=False):
                    if id(parameter) not in seen:
                        parts[name] = [parameter]
                        seen.add(id(parameter))
                for name, child in module.named_children():
                    visit(unwrapped(child), f"{path}.{name}" if path else name)

        for root, module in self.roots.items():
            visit(module, root)
        return parts

    def reduced_by_ddp(self) -> set[int]:
        """The `id`s of the parameters whose gradients a DistributedDataParallel expects."""
        ddp = nn.parallel.DistributedDataParallel
        wrappers = [m for given in self._given for m in given.modules() if isinstance(m, ddp)]
        return {id(p) for wrapper in wrappers for p in wrapper.parameters() if p.requires_grad}

    def sharding_modules(self) -> list[Any]:
        """The modules that `fully_shard` was applied to, each with PyTorch's `reshard()`."""
        # Where nobody has imported it, nothing is sharded; importing it takes a second.
        fsdp = sys.modules.get("torch.distributed.fsdp")
        if fsdp is None:
            return []
        # It makes the class of a module one of these; as long as there is none, nothing was sharded.
        if not fsdp.FSDPModule.__subclasses__():
            return []
        return [m for root in self.roots.values() for m in root.modules() if isinstance(m, fsdp.FSDPModule)]

    def _hint(self, name: str) -> str:
        names = [
            ".".join(filter(None, (root, path)))
            for root, module in self.roots.items()
            for path, _ in module.named_modules()
        ]
        near = nearest(name, [n for n in names if n])
        if near:
            return "Did you mean " + " or ".join(map(repr, near)) + "?"
        top = [n for n in names if n and "." not in n]
        return "Known: " + ", ".join(top) if top else "There are no components to name"


def size_of(parameter: Tensor) -> int:
    """The number of elements; none of a parameter that a lazy module is still to make."""
    return 0 if is_lazy(parameter) else parameter.numel()


def named_modules_of(models: Models) -> dict[str, nn.Module]:
    """The modules to look in by name, without their wrappers; a single module has the empty name.

    Raises:
        TypeError: it is neither a module nor a mapping from strings to modules.
    """
    if not isinstance(models, (nn.Module, Mapping)):
        raise TypeError(
            f"models must be a torch.nn.Module or a mapping from component to torch.nn.Module, "
            f"not {type(models).__name__}"
        )
    if isinstance(models, nn.Module):
        module = unwrapped(models)
        # A dictionary of modules is its entries, whether a plain one or PyTorch's.
        owns = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if not isinstance(module, nn.ModuleDict) or owns:
            return {"": module}
        models = dict(module.items())
    for name, module in models.items():
        if not isinstance(name, str):
            raise TypeError(f"models must have strings as component names, not {name!r}")
        if not isinstance(module, nn.Module):
            raise TypeError(f"models[{name!r}] must be a torch.nn.Module, not {type(module).__name__}")
    return {name: unwrapped(module) for name, module in models.items()}


def _has_trainable(module: nn.Module, done: set[nn.Module]) -> bool:
    """Whether a module may have something to train; adds to the modules that are `done` with."""
    if module in done:
        return False
    done.add(module)
    return (
        not walks_as_usual(module)
        or any(p is not None and p.requires_grad for p in module._parameters.values())
        or any(child is not None and _has_trainable(child, done) for child in module._modules.values())
    )


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """The ways to read a name as that of a root and a path within it, the longest root first."""
    yield name, ""
    dot = name.rfind(".")
    while dot > 0:
        yield name[:dot], name[dot + 1 :]
        dot = name.rfind(".", 0, dot)
    if name:
        yield "", name


def _overlapping(places: Mapping[tuple[str, str], str]) -> Iterator[tuple[str, str]]:
    """The names of components of which the second lies within the first, by their roots and paths."""
    for (root, path), name in places.items():
        end = len(path)
        while end > 0:
            end = max(path.rfind(".", 0, end), 0)
            if (root, path[:end]) in places:
                yield places[root, path[:end]], name


def _submodule(module: nn.Module, path: str) -> nn.Module | None:
    for name in path.split(".") if path else ():
        if not name:
            return None
        try:
            # Not named_children(), which leaves out the second name of a module that has two.
            module = unwrapped(module).get_submodule(name)
        except AttributeError:
            return None
    return module
