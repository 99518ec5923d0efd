"""The JSON Schema of each of a constructor's arguments, from its annotation."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticSerializationError, core_schema, to_jsonable_python

from optim_core.for_tools import signature_of, type_adapter

__all__ = ["UNWRITABLE", "argument_schemas", "as_json"]

UNWRITABLE: dict[str, Any] = {"not": {}}
"""The schema of what no YAML can give, as a tensor or a function."""

_YAML_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (float,),
    "string": (str, date, datetime),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
# Of a constraint on a union, pydantic passes on its own name.
_KEYWORDS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
}


def argument_schemas(target: type) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """A schema for each argument, and the definitions that they refer to."""
    adapters = {name: type_adapter(a.annotation) for name, a in signature_of(target).arguments.items()}
    known = {name: adapter for name, adapter in adapters.items() if _has_schema(name, adapter)}
    found, definitions = _schemas_of(known)
    return {name: _with_keywords(found.get(name, {})) for name in adapters}, definitions


def as_json(value: Any) -> Any:
    """A value in the types of JSON.

    Raises:
        ValueError: JSON has no word for it.
    """
    result = to_jsonable_python(value)
    json.dumps(result, allow_nan=False)
    return result


class _YamlSchema(GenerateJsonSchema):
    """What pydantic's validation accepts from YAML, in the words of JSON Schema.

    Where pydantic's own generator gives up, the schema accepts anything; what only Python can make
    is left out of unions.
    """

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        result = super().float_schema(schema)
        if schema.get("allow_inf_nan") is False:
            # YAML can write infinity.
            if not result.keys() & {"minimum", "exclusiveMinimum"}:
                result["minimum"] = -sys.float_info.max
            if not result.keys() & {"maximum", "exclusiveMaximum"}:
                result["maximum"] = sys.float_info.max
        return result

    def tuple_schema(self, schema: core_schema.TupleSchema) -> JsonSchemaValue:
        result = super().tuple_schema(schema)
        first, *others = result.get("prefixItems", [None])
        if first is not None and "items" not in result and all(other == first for other in others):
            # The same, in words that older tools know too.
            del result["prefixItems"]
            result["items"] = first
        return result

    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        return _of_any_list(super().set_schema(schema))

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        return _of_any_list(super().frozenset_schema(schema))

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        if inner == UNWRITABLE:
            return {"type": "null"}
        if isinstance(inner.get("type"), str) and "const" not in inner:
            # As one schema, of which an editor can say what is wrong with a value.
            values = {"enum": [*inner["enum"], None]} if "enum" in inner else {}
            return {**inner, "type": list(dict.fromkeys([inner["type"], "null"])), **values}
        return super().nullable_schema(schema)

    def union_schema(self, schema: core_schema.UnionSchema) -> JsonSchemaValue:
        result = super().union_schema(schema)
        writable = [member for member in result.get("anyOf", []) if member != UNWRITABLE]
        if len(writable) == 1:
            return dict(writable[0])
        return {**result, "anyOf": writable} if writable else result

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        result = super().tagged_union_schema(schema)
        result.pop("discriminator", None)  # OpenAPI's, and full of references
        return result

    def is_instance_schema(self, schema: core_schema.IsInstanceSchema) -> JsonSchemaValue:
        try:
            kinds = [n for n, types in _YAML_TYPES.items() if any(issubclass(t, schema["cls"]) for t in types)]
        except TypeError:
            return {}
        if len(kinds) == len(_YAML_TYPES):
            return {}
        return {"type": kinds} if kinds else dict(UNWRITABLE)

    def callable_schema(self, schema: core_schema.CallableSchema) -> JsonSchemaValue:
        return dict(UNWRITABLE)

    def is_subclass_schema(self, schema: core_schema.IsSubclassSchema) -> JsonSchemaValue:
        return dict(UNWRITABLE)

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def encode_default(self, dft: Any) -> Any:
        try:
            return as_json(dft)
        except ValueError as error:
            raise PydanticSerializationError(str(error)) from error

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Keep quiet: what is left out of a schema was never in reach of YAML."""


def _of_any_list(schema: JsonSchemaValue) -> JsonSchemaValue:
    """The schema of a set, which is made of a list that may have an item twice."""
    return {name: value for name, value in schema.items() if name != "uniqueItems"}


def _schemas_of(adapters: Mapping[str, pydantic.TypeAdapter[Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    inputs: Any = [(name, "validation", adapter) for name, adapter in adapters.items()]
    found, shared = pydantic.TypeAdapter.json_schemas(inputs, schema_generator=_YamlSchema)
    schemas = {str(name): dict(schema) for (name, _), schema in found.items()}
    json.dumps([schemas, shared], allow_nan=False)
    return schemas, shared.get("$defs", {})


def _has_schema(name: str, adapter: pydantic.TypeAdapter[Any]) -> bool:
    try:
        _schemas_of({name: adapter})
    except Exception:
        # A stranger's type may make its own schema, and fail in any way; then it accepts anything.
        return False
    return True


def _with_keywords(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {_KEYWORDS.get(name, name): value for name, value in schema.items()}
