"""Params with which a factory builds an optimizer: its own example, or a guess that was tried."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from optim_core import InvalidArgumentsError, Problem
from optim_core.for_tools import construct_factory, signature_of, validate_arguments
from optim_tools.inspection.argument_schemas import argument_schemas
from optim_tools.inspection.yaml_text import yaml_text

__all__ = ["example_params", "refusal"]

# What people give to arguments of such names; the first that matches and fits is taken.
_BY_NAME: tuple[tuple[str, tuple[Any, ...]], ...] = (
    (r"(^|_)betas?($|_|\d)", (0.9, 0.999)),
    (r"momentum", (0.9,)),
    (r"(^|_)eps(ilon)?$", (1e-8,)),
    (r"decay$", (0.01,)),
    (r"(start|end|min|final|initial|base).*(lr|learning_rate)|(lr|learning_rate)_(start|end|min|final)", (1e-5,)),
    (r"(^|_)lrs?($|_)|learning_rate", (1e-3,)),
    (r"warm_?up", (100, 0.1)),
    (r"per_epoch", (100,)),
    (r"epochs?$", (10,)),
    (r"steps?$|iterations|horizon|^t_?max$", (1000,)),
)
_NUMBERS = (0.1, 0.5, 1, 2, 10, 100, 1000, 0, 1e-3, -1)
_DEEPEST = 3  # levels of nesting that are looked into; a type may contain itself
_NOTHING: Any = object()
_ROUNDS = 4  # each may give one more argument that the others turn out to need


def example_params(target: type) -> Mapping[str, Any] | None:
    """Params, as YAML gives them, with which `target` built an optimizer just now; None if none are known.

    Those are the class's own `example_params` if they work, else none at all if none are required,
    else values guessed from the names, the types and the constraints.
    """
    own = getattr(target, "example_params", None)
    if isinstance(own, Mapping) and not refusal(target, own):
        return _as_yaml_gives(own)
    guess: dict[str, Any] = {}
    arguments = signature_of(target).arguments
    schemas, definitions = argument_schemas(target)
    wanted = [name for name, argument in arguments.items() if argument.required]
    for _ in range(_ROUNDS):
        for name in wanted:
            fitting = (v for v in _candidates(name, schemas[name], definitions) if _fits(target, name, v))
            guess[name] = next(fitting, _NOTHING)
            if guess[name] is _NOTHING:
                return None
        problems = refusal(target, guess)
        if not problems:
            return guess
        # A rule, or the constructor, may ask for another than those required.
        wanted = [p.path for p in problems if p.path in arguments and p.path not in guess]
        if not wanted:
            return None
    return None


def _as_yaml_gives(params: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = yaml.safe_load(yaml_text(params))
    return given


def refusal(target: type, params: Mapping[str, Any]) -> list[Problem]:
    """Why no optimizer can be built with these params, as YAML gives them; nothing where one can."""
    from optim_tools.inspection.trial import (
        trial_optimizer,  # with torch, which a factory's module has imported nearly always
    )

    try:
        trial_optimizer(construct_factory(target, _as_yaml_gives(params)))
    except InvalidArgumentsError as error:
        return list(error.problems)
    except Exception as error:
        # Whatever a stranger's build() raises, or that YAML has no word for a param.
        return [Problem("", f"{type(error).__name__}: {error}", cause=error)]
    return []


def _fits(target: type, name: str, value: Any) -> bool:
    return not validate_arguments(target, {name: value}, partial=True)[1]


def _candidates(name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int = 0) -> Iterator[Any]:
    """Values that may do for an argument, the likeliest first; none for a text, which has a meaning to somebody."""
    if depth > _DEEPEST:
        return
    reference = schema.get("$ref")
    if isinstance(reference, str):
        schema = definitions.get(reference.rpartition("/")[2], {})
    if "const" in schema:
        yield schema["const"]
    yield from schema.get("enum", ())
    for member in schema.get("anyOf", schema.get("oneOf", ())):
        yield from _candidates(name, member, definitions, depth)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if {"number", "integer"} & set(kinds):
        yield from (*_named(name), *_NUMBERS)
        yield from (schema[bound] for bound in ("minimum", "maximum") if bound in schema)
    elif not schema:
        # An argument without annotation: its name has to tell.
        yield from _named(name)
    if "boolean" in kinds:
        yield False
    if "array" in kinds:
        yield from _lists(name, schema, definitions, depth + 1)
    if "object" in kinds:
        yield from _mappings(schema, definitions, depth + 1)
    if "null" in kinds:
        yield None


def _lists(name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> Iterator[list[Any]]:
    items = schema.get("prefixItems") or [schema.get("items", {})] * max(1, schema.get("minItems", 0))
    named = _named(name)
    if len(named) == len(items):
        yield list(named)
    yield from map(list, zip(*(_candidates(name, item, definitions, depth) for item in items), strict=False))
    yield []


def _mappings(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    fields = schema.get("properties", {})
    required = schema.get("required", ())
    if not required:
        yield {}
    values = (_candidates(name, fields.get(name, {}), definitions, depth) for name in required)
    yield from (dict(zip(required, row, strict=True)) for row in zip(*values, strict=False))


def _named(name: str) -> tuple[Any, ...]:
    snake_case = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return next((values for pattern, values in _BY_NAME if re.search(pattern, snake_case)), ())
