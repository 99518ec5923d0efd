"""What a class's constructor takes: its arguments, what checks each of them, and their defaults.

Everything here is read from the class once and kept, for a bounded number of classes.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic

__all__ = ["Argument", "Signature", "defaults_of", "signature_of", "type_adapter"]

_REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Argument:
    """One argument of a constructor; `default` is `inspect.Parameter.empty` where it is required."""

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        return self.default is _REQUIRED


@dataclass(frozen=True)
class Signature:
    """The arguments that a class's constructor takes by name.

    Attributes:
        arguments: by name, in the order of the constructor.
        open: whether it takes any further name (`**kwargs`).
        positional_only: required ones that no configuration can give, because they have no keyword.
    """

    arguments: Mapping[str, Argument]
    open: bool
    positional_only: tuple[str, ...]

    @functools.cached_property
    def defaults(self) -> Mapping[str, Any]:
        """The default of each argument that has one; what is made anew for each instance has a placeholder."""
        return {name: argument.default for name, argument in self.arguments.items() if not argument.required}

    @functools.cached_property
    def required(self) -> Sequence[str]:
        """The names of those that have no default."""
        return tuple(name for name, argument in self.arguments.items() if argument.required)

    @functools.cached_property
    def validators(self) -> Mapping[str, Callable[[object], Any]]:
        """By argument, what converts a value to what its annotation says, or raises pydantic's error."""
        # Straight to pydantic's core: a TypeAdapter's own method takes ten times as long as what it calls.
        adapters = {name: type_adapter(argument.annotation) for name, argument in self.arguments.items()}
        return {name: adapter.validator.validate_python for name, adapter in adapters.items()}


@functools.lru_cache(maxsize=256)
def signature_of(target: type) -> Signature:
    """Read the constructor of `target`: a plain class, a dataclass or a pydantic model."""
    hints = _type_hints(target)
    arguments: dict[str, Argument] = {}
    positional_only: list[str] = []
    is_open = False
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            is_open = True
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            positional_only += [parameter.name] if parameter.default is _REQUIRED else []
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            arguments[parameter.name] = Argument(parameter.name, hints.get(parameter.name, Any), parameter.default)
    return Signature(arguments, is_open, tuple(positional_only))


def defaults_of(target: type) -> dict[str, Any]:
    """The defaults of a constructor's arguments, by name."""
    return {**signature_of(target).defaults, **{name: make() for name, make in _makers_of_defaults(target)}}


@functools.lru_cache(maxsize=256)
def _makers_of_defaults(target: type) -> Sequence[tuple[str, Callable[[], Any]]]:
    """What makes defaults anew for each instance, by argument; a signature has a placeholder for them."""
    if issubclass(target, pydantic.BaseModel):
        return tuple(
            (name, functools.partial(field.get_default, call_default_factory=True))
            for name, field in target.model_fields.items()
            # One that is made from the other values can't be told before they are validated.
            if field.default_factory is not None and not getattr(field, "default_factory_takes_validated_data", False)
        )
    fields = dataclasses.fields(target) if dataclasses.is_dataclass(target) else ()
    return tuple(
        (field.name, field.default_factory)
        for field in fields
        if field.init and field.default_factory is not dataclasses.MISSING
    )


def _type_hints(target: type) -> dict[str, Any]:
    """Annotations by argument; those that can't be resolved are left out and so accept anything."""
    if issubclass(target, pydantic.BaseModel):
        # Its signature has the constraints that were given as Field(...), and aliases as names.
        return {name: p.annotation for name, p in inspect.signature(target).parameters.items()}
    if dataclasses.is_dataclass(target):
        return {
            n: h.type if isinstance(h, dataclasses.InitVar) else h for n, h in _resolved_hints(target, target).items()
        }
    initialiser = inspect.getattr_static(target, "__init__")
    # A class that is made by __new__ alone, as a NamedTuple is.
    maker = inspect.getattr_static(target, "__new__") if initialiser is object.__init__ else initialiser
    return _resolved_hints(target, getattr(maker, "__func__", maker))


def _resolved_hints(target: type, source: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(source, include_extras=True)
    except (NameError, AttributeError, TypeError):
        # A name imported for type checkers only: resolve what can be, one annotation at a time.
        namespace = vars(inspect.getmodule(target) or typing)
        hints: dict[str, Any] = {}
        for name, annotation in getattr(source, "__annotations__", {}).items():
            holder = type("Holder", (), {"__annotations__": {name: annotation}})
            try:
                hints.update(typing.get_type_hints(holder, namespace, include_extras=True))
            except (NameError, AttributeError, TypeError):
                continue
        return hints


def type_adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    """What checks values against an annotation; one that pydantic can't make sense of accepts anything."""
    try:
        return _cached_adapter(annotation)
    except TypeError:  # an annotation that can't be hashed, such as Literal[[]]
        return _new_adapter(annotation)


def _new_adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return pydantic.TypeAdapter(annotation)
    except pydantic.errors.PydanticSchemaGenerationError:
        # A class that pydantic knows nothing of: only an instance of it will do.
        config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        try:
            return pydantic.TypeAdapter(annotation, config=config)
        except pydantic.errors.PydanticUserError:
            return pydantic.TypeAdapter(Any)
    except pydantic.errors.PydanticUserError:
        return pydantic.TypeAdapter(Any)


_cached_adapter = functools.lru_cache(maxsize=1024)(_new_adapter)
