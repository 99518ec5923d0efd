"""From a YAML file or a mapping to one `ComponentSpec` for each component, or every problem in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from optim_core.arguments.spelling import nearest
from optim_core.configuration.group_rules import GroupEntry, read_group_entries
from optim_core.configuration.specifications import ComponentSpec, Configuration
from optim_core.configuration.yaml_documents import KeyPath, SourceLines, read_yaml
from optim_core.errors import ConfigurationError, Problem

__all__ = ["read_configuration"]

_SPEC_KEYS = ("type", "params", "param_groups")
_ROOT = ("model", "component_optims")


def read_configuration(source: Mapping[str, Any] | str | os.PathLike[str]) -> Configuration:
    """Read component specifications, without looking up or importing any optimizer.

    Args:
        source: the mapping from component to `{type, params}`, a whole configuration that has it
            under `model.component_optims`, or the path of a YAML file with either.

    Raises:
        ConfigurationError: the file can't be read, or there is nothing in it to build. Problems of
            single components are returned instead, to be reported with those found later.
    """
    if isinstance(source, Mapping):
        return _interpret(source, "configuration", SourceLines())
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"component_optims must be a mapping or the path of a YAML file, not {type(source).__name__}")
    name = str(os.fspath(source))
    document, lines = read_yaml(Path(name))
    return _interpret(document, name, lines)


def _interpret(document: object, source: str, lines: SourceLines) -> Configuration:
    prefix: KeyPath = ()
    components = document
    if document is None:
        raise _unusable(source, "", "is empty", "Write the components under model.component_optims")
    if not isinstance(document, Mapping):
        raise _unusable(source, "", f"must be a mapping, not {_kind(document)}")
    model = document.get("model")
    # A component may be called "model", too.
    is_component = isinstance(model, Mapping) and "type" in model and "component_optims" not in model
    if "model" in document and not is_component:
        if not isinstance(model, Mapping) or "component_optims" not in model:
            near = nearest("component_optims", [str(k) for k in model]) if isinstance(model, Mapping) else []
            hint = f"Did you mean {near[0]!r} to be 'component_optims'?" if near else None
            raise _unusable(source, "model", "has no 'component_optims'", hint, lines.get(("model",)))
        prefix, components = _ROOT, model["component_optims"]
    path = ".".join(map(str, prefix)) or "component_optims"
    line = lines.get(prefix)
    if components is None or components == {}:
        raise _unusable(source, path, "is empty", "List at least one component with its optimizer's type", line)
    if not isinstance(components, Mapping):
        raise _unusable(source, path, f"must map components to optimizers, not be {_kind(components)}", None, line)
    if not prefix and not any(map(_looks_like_spec, components.values())):
        misplaced = _component_optims_elsewhere(components)
        if misplaced is None:
            message = "has neither 'model.component_optims' nor a component with a 'type' at its top"
            raise _unusable(source, "", message, "Write the components under model.component_optims")
        dotted = ".".join(map(str, misplaced))
        message = "the components are looked for under 'model.component_optims', or at the top"
        raise _unusable(source, dotted, message, "Rename or move it", lines.get(misplaced))
    specs: dict[str, ComponentSpec] = {}
    problems: list[Problem] = []
    for component, spec in components.items():
        below = f"{path}.{component}" if prefix else str(component)
        found = list(_spec_problems(component, spec, below, (*prefix, component), lines))
        problems += found
        entries: tuple[GroupEntry, ...] = ()
        if isinstance(spec, Mapping):
            entries, wrong = read_group_entries(spec.get("param_groups"))
            here = Configuration(source, {}, (), lines, prefix)
            problems += [here.locate(problem, ComponentSpec(component, "", {}, below)) for problem in wrong]
        # A spec whose type is known goes on to have its params checked, whatever else is wrong.
        if isinstance(component, str) and isinstance(spec, Mapping) and isinstance(spec.get("type"), str):
            params = spec.get("params")
            usable = {k: v for k, v in params.items() if isinstance(k, str)} if isinstance(params, Mapping) else {}
            if params is None or isinstance(params, Mapping):
                specs[component] = ComponentSpec(component, spec["type"], usable, below, entries)
    return Configuration(source, specs, tuple(problems), lines, prefix)


def _component_optims_elsewhere(document: Mapping[Any, Any], path: KeyPath = ()) -> KeyPath | None:
    """Where something called like `component_optims` stands, not too deep."""
    for key, value in document.items():
        if nearest(key, ["component_optims"]):
            return (*path, key)
        found = (
            _component_optims_elsewhere(value, (*path, key)) if isinstance(value, Mapping) and len(path) < 2 else None
        )
        if found:
            return found
    return None


def _looks_like_spec(value: object) -> bool:
    return isinstance(value, Mapping) and any(nearest(key, _SPEC_KEYS) for key in value)


def _spec_problems(component: object, spec: object, path: str, place: KeyPath, lines: SourceLines) -> Iterator[Problem]:
    line = lines.get(place)
    if not isinstance(component, str):
        yield Problem(path, f"a component's name must be a string, not {_kind(component)}", None, line)
    if not isinstance(spec, Mapping):
        yield Problem(path, f"must be a mapping with 'type' and 'params', not {_kind(spec)}", None, line)
        return
    unknown = [key for key in spec if key not in _SPEC_KEYS]
    for key in unknown:
        near = nearest(key, _SPEC_KEYS)
        known = "A component has 'type', and may have 'params' and 'param_groups'"
        hint = f"Did you mean {near[0]!r}?" if near else known
        yield Problem(f"{path}.{key}", "no such key", hint, lines.get((*place, key)))
    if "type" not in spec:
        yield Problem(f"{path}.type", "required, but not given", "It names the optimizer", line)
    elif not isinstance(spec["type"], str):
        message = f"must be an optimizer's name, not {_kind(spec['type'])}"
        yield Problem(f"{path}.type", message, None, lines.get((*place, "type")))
    params = spec.get("params")
    if params is not None and not isinstance(params, Mapping):
        message = f"must map names to values, not be {_kind(params)}"
        yield Problem(f"{path}.params", message, None, lines.get((*place, "params")))
    elif params is not None:
        for key in params:
            if not isinstance(key, str):
                message = f"an argument's name must be a string, not {_kind(key)}"
                yield Problem(f"{path}.params.{key}", message, None, lines.get((*place, "params", key)))


def _unusable(
    source: str, path: str, message: str, hint: str | None = None, line: int | None = None
) -> ConfigurationError:
    return ConfigurationError(source, [Problem(path or "the document", message, hint, line)])


def _kind(value: object) -> str:
    kinds = {dict: "a mapping", list: "a list", tuple: "a list", str: "a string", bool: "true or false"}
    kinds |= {int: "a number", float: "a number", type(None): "empty"}
    name = kinds.get(type(value), type(value).__name__)
    return name if isinstance(value, (Mapping, list, tuple)) or value is None else f"{name} ({value!r})"
