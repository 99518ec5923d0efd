"""The arguments of an optimizer class's constructor, those that it hands on to its base classes included."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from optim_core import OptimError
from optim_core.for_tools import signature_of

__all__ = ["ConstructorArgument", "NotWrappableError", "constructor_arguments", "require_optimizer_class"]

_REQUIRED = inspect.Parameter.empty
_MODULES = ("model", "module", "net", "network")
_OPTIMIZERS = ("optimizer", "base", "base_optimizer", "inner", "inner_optimizer")


class NotWrappableError(OptimError):
    """A class around which no factory can be put; the message says why."""


@dataclass(frozen=True)
class ConstructorArgument:
    """An argument of a constructor.

    Attributes:
        name: its name.
        annotation: its type; `typing.Any` where there is none, or none that can be resolved.
        default: its default, or `inspect.Parameter.empty`.
        positional: it can be given by position only.
        forwarded: it is a base class's, and reached through `**kwargs`, if it is reached.
    """

    name: str
    annotation: Any
    default: Any
    positional: bool = False
    forwarded: bool = False

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        # As PyTorch marked it when arguments without a default came after others; other packages still do.
        return self.default is _REQUIRED or type(self.default).__name__ == "_RequiredParameter"


def require_optimizer_class(target: object) -> type[Optimizer]:
    """Refuse what is no optimizer class, or one of which there can be no instance.

    Raises:
        NotWrappableError: with the reason.
    """
    if not isinstance(target, type):
        raise NotWrappableError(f"is a {type(target).__name__}, not a class")
    if not issubclass(target, Optimizer):
        quacks = callable(getattr(target, "step", None)) and callable(getattr(target, "zero_grad", None))
        remedy = "; let it inherit from it" if quacks else ""
        raise NotWrappableError(f"is no torch.optim.Optimizer{remedy}")
    if inspect.isabstract(target):
        lacking = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
        raise NotWrappableError(f"is abstract: it lacks {lacking}")
    if target.step is Optimizer.step:
        raise NotWrappableError("has no step() of its own, and so updates nothing")
    return target


def constructor_arguments(target: type[Optimizer]) -> tuple[ConstructorArgument, tuple[ConstructorArgument, ...]]:
    """The argument for the parameters, and those that follow it.

    Where a constructor takes `**kwargs`, those of the base class that it may hand them on to come last.

    Raises:
        NotWrappableError: the signature can't be read, or doesn't begin with parameters.
    """
    classes = [cls for cls in target.__mro__ if "__init__" in cls.__dict__ and cls not in (Optimizer, object)]
    found: dict[str, ConstructorArgument] = {}
    first: ConstructorArgument | None = None
    for number, cls in enumerate(classes or [target]):
        own, takes_more = _own_arguments(target if number == 0 else cls, forwarded=number > 0)
        if first is None and own:
            first, *own = own
        for argument in own:
            # What a base class requires is given to it by the derived class, unless that names nothing itself.
            if number == 0 or not argument.required or not found:
                found.setdefault(argument.name, argument)
        if not takes_more:
            break
    if first is None:
        raise NotWrappableError("takes no parameters to optimize")
    _require_parameters(first)
    return first, tuple(argument for argument in found.values() if argument.name != first.name)


def _own_arguments(cls: type, *, forwarded: bool) -> tuple[Sequence[ConstructorArgument], bool]:
    """The named arguments of one constructor, and whether it takes any others by name."""
    try:
        parameters = inspect.signature(cls).parameters.values()
        known = signature_of(cls).arguments
    except (ValueError, TypeError) as error:
        raise NotWrappableError(f"has a constructor whose arguments can't be read: {error}") from error
    return list(_named(parameters, known, forwarded)), any(p.kind is p.VAR_KEYWORD for p in parameters)


def _named(parameters: Any, known: Any, forwarded: bool) -> Iterator[ConstructorArgument]:
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        positional = parameter.kind is parameter.POSITIONAL_ONLY
        annotation = known[parameter.name].annotation if parameter.name in known else parameter.annotation
        if annotation is _REQUIRED or isinstance(annotation, str):
            annotation = Any
        yield ConstructorArgument(parameter.name, annotation, parameter.default, positional, forwarded)


def _require_parameters(first: ConstructorArgument) -> None:
    kind = first.annotation if isinstance(first.annotation, type) else type(None)
    if first.name in _OPTIMIZERS or issubclass(kind, Optimizer):
        raise NotWrappableError(
            f"is put around another optimizer ({first.name}), not around parameters; write a hook for it, "
            "optim_build, as the page on hooks shows"
        )
    if first.name in _MODULES or _is_module(kind):
        raise NotWrappableError(f"takes a whole model ({first.name}), and a factory is given parameters only")


def _is_module(kind: type) -> bool:
    from torch.nn import Module  # torch.optim alone doesn't need it

    return issubclass(kind, Module)
