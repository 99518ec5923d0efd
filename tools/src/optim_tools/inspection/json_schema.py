"""JSON Schemas: of a factory's params, and of a whole configuration.

They are made from the annotations that arguments are checked against, so that what an editor
accepts is what building accepts. Not in them: rules across arguments (which the description of the
argument they are reported on mentions), code in constructors, and that a number may also be
written as text, as `"1e-4"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from optim_core.for_tools import defaults_of, rules_of, signature_of
from optim_tools.inspection.argument_schemas import argument_schemas, as_json
from optim_tools.inspection.docstrings import documentation_of

__all__ = ["DIALECT", "configuration_schema", "factory_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""What the schemas are written in, for their keyword `$schema`."""

_DEFINITIONS = "#/$defs/"


# Options of the optimizer's groups and names of policies are anyone's.
_PARAM_GROUPS: dict[str, Any] = {
    "ParamGroups": {
        "title": "rules and policies",
        "description": "Which parameters get other options: a list of rules, of which the first that matches a "
        "parameter counts, and of named policies.",
        "anyOf": [
            {"type": "array", "items": {"$ref": f"{_DEFINITIONS}ParamGroupEntry"}},
            {"$ref": f"{_DEFINITIONS}ParamGroupEntry"},
            {"type": "null"},
        ],
    },
    "ParamGroupEntry": {
        "anyOf": [
            {"title": "policy", "type": "string", "minLength": 1},
            {
                "title": "policy with an argument",
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "propertyNames": {"not": {"enum": ["match", "ndim", "type", "lr_scale", "freeze"]}},
            },
            {
                "title": "rule",
                "type": "object",
                "properties": {
                    "match": {"description": "A regular expression, searched in the name.", "type": "string"},
                    "ndim": {"description": "The number of dimensions.", "type": "integer", "minimum": 0},
                    "type": {"description": "The class of the module.", "type": "string", "minLength": 1},
                    "lr_scale": {
                        "description": "What the learning rate is multiplied by.",
                        "type": ["number", "string"],
                        "minimum": 0,
                    },
                    "freeze": {"description": "Whether not to train it.", "type": "boolean"},
                    "params": False,
                    "param_names": False,
                },
                "anyOf": [{"required": ["match"]}, {"required": ["ndim"]}, {"required": ["type"]}],
                "not": {"anyOf": [{"required": list(pair)} for pair in combinations(("lr", "peak_lr", "lr_scale"), 2)]},
            },
        ]
    },
}


def factory_schema(target: type) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the params that a factory class takes."""
    signature = signature_of(target)
    documentation = documentation_of(target)
    properties, definitions = argument_schemas(target)
    defaults = defaults_of(target)
    for name, schema in properties.items():
        description = _description(
            documentation.meanings.get(name, schema.get("description", "")), _requirements(target, name)
        )
        if description:
            schema["description"] = description
        try:
            schema["default"] = as_json(defaults[name])
        except (KeyError, ValueError):
            schema.pop("default", None)
    required = [name for name, argument in signature.arguments.items() if argument.required]
    return {
        **({"description": documentation.summary} if documentation.summary else {}),
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        **({} if signature.open else {"additionalProperties": False}),
        **({"$defs": definitions} if definitions else {}),
    }


def configuration_schema(factories: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON Schema of a configuration file, or of its part `component_optims` alone.

    Args:
        factories: by registry key, the schema of its factory's params.
    """
    definitions: dict[str, Any] = {}
    choices = []
    for key, schema in factories.items():
        # Editors name what they expect by its title.
        params = {"title": f"params of {key}"} | {name: value for name, value in schema.items() if name != "$defs"}
        required = bool(schema.get("required"))
        # Nothing at all may stand after `params:` where nothing has to.
        params["type"] = "object" if required else ["object", "null"]
        definitions[key] = _moved(params, key)
        definitions |= {f"{key}:{name}": _moved(inner, key) for name, inner in schema.get("$defs", {}).items()}
        chosen = {"properties": {"params": {"$ref": f"{_DEFINITIONS}{key}"}}}
        choices.append(
            {
                "if": {"properties": {"type": {"const": key}}, "required": ["type"]},
                "then": chosen | ({"required": ["params"]} if required else {}),
            }
        )
    component = {
        "title": "component (type, params and param_groups)",
        "type": "object",
        "properties": {
            "type": {
                "description": "The optimizer of this component: a key of the registry.",
                "enum": list(factories),
                "enumDescriptions": [schema.get("description", "") for schema in factories.values()],
            },
            "params": {"description": "The arguments of this optimizer's factory.", "type": ["object", "null"]},
            "param_groups": {"$ref": f"{_DEFINITIONS}ParamGroups"},
        },
        "required": ["type"],
        "additionalProperties": False,
        **({"allOf": choices} if choices else {}),
    }
    components = {
        "title": "components by name",
        "description": "The optimizer of each component of the model, by the component's name.",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"$ref": f"{_DEFINITIONS}Component"},
    }
    model = {
        "title": "model with component_optims",
        "type": "object",
        "properties": {"component_optims": {"$ref": f"{_DEFINITIONS}Components"}},
        "required": ["component_optims"],
    }
    # A component may have the name "model"; then it has a type, and no components below it.
    a_component = {"type": "object", "required": ["type"], "not": {"required": ["component_optims"]}}
    return {
        "type": "object",
        "properties": {"model": {"description": "Its component_optims has the optimizer of each component."}},
        "if": {"properties": {"model": {"not": a_component}}, "required": ["model"]},
        "then": {"properties": {"model": model}},
        "else": {"$ref": f"{_DEFINITIONS}Components"},
        # The keys' names have lower-case letters only.
        "$defs": {"Components": components, "Component": component, **_PARAM_GROUPS, **definitions},
    }


def _requirements(target: type, name: str) -> Iterator[str]:
    return (rule.requirement for rule in rules_of(target) if rule.arguments[0] == name)


def _description(meaning: str, requirements: Iterator[str]) -> str:
    sentences = [meaning, *(f"{text[:1].upper()}{text[1:]}" for text in requirements)]
    if len(sentences) == 1:
        return meaning
    return " ".join(f"{sentence.removesuffix('.')}." for sentence in sentences if sentence)


def _moved(schema: Any, key: str) -> Any:
    """A factory's schema with its own definitions found below its key."""
    if isinstance(schema, Mapping):
        return {
            name: f"{_DEFINITIONS}{key}:{value.removeprefix(_DEFINITIONS)}"
            if name == "$ref" and isinstance(value, str)
            else _moved(value, key)
            for name, value in schema.items()
        }
    return [_moved(item, key) for item in schema] if isinstance(schema, list) else schema
