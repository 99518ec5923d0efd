"""What a factory is and takes, in words for somebody who writes YAML."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optim_core.for_tools import defaults_of, rules_of, signature_of
from optim_tools.inspection.argument_schemas import UNWRITABLE, argument_schemas
from optim_tools.inspection.docstrings import documentation_of
from optim_tools.inspection.yaml_text import yaml_text

__all__ = ["ArgumentDescription", "FactoryDescription", "describe"]

_Schema = Mapping[str, Any]
_NAMES = {
    "number": "float",
    "integer": "int",
    "boolean": "bool",
    "string": "str",
    "null": "null",
    "array": "list",
    "object": "mapping",
}
_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
# As of what fits into 64 bits, and beyond.
_MEANINGLESS = 2**63 - 1
_DEEPEST = 3  # levels of nesting that are looked into; a type may contain itself
_LONGEST = 60  # characters of the type of a nested value that is spelt out


@dataclass(frozen=True)
class ArgumentDescription:
    """One argument of a factory's constructor.

    Attributes:
        name: its name.
        type: what it may be, as `float`, `cos | linear`, `[float, float]`, `float | null`.
        default: the default as YAML would write it; empty where there is none, or YAML has no word
            for it.
        required: whether it must be given.
        constraint: what holds for it by itself, as `> 0` or `>= 0, < 1 each`; may be empty.
        meaning: from the docstring, on one line; may be empty.
    """

    name: str
    type: str
    default: str
    required: bool
    constraint: str
    meaning: str


@dataclass(frozen=True)
class FactoryDescription:
    """A factory, as its docstring and the signature of its constructor describe it.

    Attributes:
        summary: what it is, on one line; may be empty.
        details: the rest of what the docstring says of it; may be empty.
        arguments: in the order of the constructor.
        rules: those across arguments, as "warmup_steps must be less than total_steps".
        open: whether it takes any further argument.
    """

    summary: str
    details: str
    arguments: tuple[ArgumentDescription, ...]
    rules: tuple[str, ...]
    open: bool


def describe(target: type) -> FactoryDescription:
    """Describe a factory class; nothing is constructed."""
    signature = signature_of(target)
    documentation = documentation_of(target)
    schemas, definitions = argument_schemas(target)
    defaults = defaults_of(target)
    arguments = tuple(
        ArgumentDescription(
            name,
            _type(schemas[name], definitions),
            "" if argument.required else _default(defaults[name]),
            argument.required,
            _constraint(schemas[name], definitions),
            documentation.meanings.get(name, schemas[name].get("description", "")),
        )
        for name, argument in signature.arguments.items()
    )
    rules = tuple(f"{rule.arguments[0]} {rule.requirement}" for rule in rules_of(target))
    return FactoryDescription(documentation.summary, documentation.details, arguments, rules, signature.open)


def _default(value: Any) -> str:
    try:
        return yaml_text(value)
    except ValueError:
        return ""


def _type(schema: _Schema, definitions: Mapping[str, _Schema], depth: int = 0) -> str:
    schema = _resolved(schema, definitions)
    if schema == UNWRITABLE:
        return "nothing that YAML can write"
    if "const" in schema:
        return yaml_text(schema["const"])
    if "enum" in schema:
        return " | ".join(yaml_text(value) for value in schema["enum"])
    members = schema.get("anyOf") or schema.get("oneOf")
    if members:
        return " | ".join(dict.fromkeys(_type(member, definitions, depth) for member in members))
    kinds = schema.get("type", [])
    texts = (_kind(kind, schema, definitions, depth) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    return " | ".join(texts) or "any"


def _kind(kind: str, schema: _Schema, definitions: Mapping[str, _Schema], depth: int) -> str:
    text = _spelt_out(kind, schema, definitions, depth) if depth < _DEEPEST else ""
    return text if 0 < len(text) <= _LONGEST else _NAMES.get(kind, kind)


def _spelt_out(kind: str, schema: _Schema, definitions: Mapping[str, _Schema], depth: int) -> str:
    """The type of a nested value; nothing for others."""
    if kind == "array":
        items = schema.get("items")
        texts = [_type(item, definitions, depth + 1) for item in _items(schema)]
        if not _is_fixed(schema) and isinstance(items, Mapping) and items:
            texts += [_type(items, definitions, depth + 1), "..."]
        return f"[{', '.join(texts)}]" if texts else ""
    if kind == "object" and "properties" in schema:
        fields = (f"{name}: {_type(field, definitions, depth + 1)}" for name, field in schema["properties"].items())
        return f"{{{', '.join(fields)}}}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"{{name: {_type(schema['additionalProperties'], definitions, depth + 1)}, ...}}"
    return ""


def _constraint(schema: _Schema, definitions: Mapping[str, _Schema], depth: int = 0) -> str:
    if depth >= _DEEPEST:
        return ""
    schema = _resolved(schema, definitions)
    members = schema.get("anyOf") or schema.get("oneOf") or ()
    parts = [" or ".join(dict.fromkeys(filter(None, (_constraint(m, definitions, depth) for m in members))))]
    parts += [f"{sign} {_bound(schema[name])}" for name, sign in _BOUNDS.items() if _is_meaningful(schema.get(name))]
    if not any(parts) and schema.get("maximum") == -schema.get("minimum", 0) == sys.float_info.max:
        parts.append("finite")
    if "multipleOf" in schema:
        parts.append(f"multiple of {_bound(schema['multipleOf'])}")
    if "pattern" in schema:
        parts.append(f"matches {schema['pattern']}")
    parts += _lengths(schema, "Length", "characters")
    if not _is_fixed(schema):
        parts += _lengths(schema, "Items", "items")
    parts.append(_each(schema, definitions, depth + 1))
    return ", ".join(filter(None, parts))


def _each(schema: _Schema, definitions: Mapping[str, _Schema], depth: int) -> str:
    """What holds for the items of a list."""
    fixed = [_constraint(item, definitions, depth) for item in _items(schema)]
    items = schema.get("items")
    if not _is_fixed(schema) and isinstance(items, Mapping):
        fixed.append(_constraint(items, definitions, depth))
    if len(set(fixed)) <= 1:
        return f"{fixed[0]} each" if fixed and fixed[0] else ""
    return "; ".join(f"item {number}: {text}" for number, text in enumerate(fixed, 1) if text)


def _items(schema: _Schema) -> list[_Schema]:
    """The schema of each item of which there must be just one in each place."""
    if "prefixItems" in schema:
        return list(schema["prefixItems"])
    return [schema["items"]] * schema["minItems"] if _is_fixed(schema) and "items" in schema else []


def _is_fixed(schema: _Schema) -> bool:
    return "minItems" in schema and schema["minItems"] == schema.get("maxItems")


def _lengths(schema: _Schema, what: str, unit: str) -> Iterable[str]:
    least = schema.get(f"min{what}", 0)
    if least:
        yield "not empty" if least == 1 else f"at least {least} {unit}"
    if f"max{what}" in schema:
        yield f"at most {schema[f'max{what}']} {unit}"


def _is_meaningful(bound: Any) -> bool:
    return bound is not None and abs(bound) < _MEANINGLESS


def _bound(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _resolved(schema: _Schema, definitions: Mapping[str, _Schema]) -> _Schema:
    reference = schema.get("$ref")
    return definitions.get(reference.rpartition("/")[2], {}) if isinstance(reference, str) else schema
