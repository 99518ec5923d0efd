"""From a YAML file or a mapping to one `ComponentSpec` for each component, or every problem in it."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from optim_core.arguments.spelling import nearest
from optim_core.configuration.group_rules import GroupEntry, read_group_entries
from optim_core.errors import ConfigurationError, Problem

__all__ = ["ComponentSpec", "Configuration", "in_order", "read_configuration", "read_value"]

_SPEC_KEYS = ("type", "params", "param_groups")
_ROOT = ("model", "component_optims")
_MERGE = "tag:yaml.org,2002:merge"
_DEEPEST = 6  # model.component_optims.<component>.param_groups.<index>.<name>
_Path = tuple[Hashable, ...]


@dataclass(frozen=True)
class ComponentSpec:
    """What the configuration says of one component.

    Attributes:
        component: its name.
        type: the registry key of its optimizer's factory.
        params: the arguments of the factory's constructor, as they were written.
        path: where in the configuration it stands, dotted.
        param_groups: rules and policies that part its parameters into groups, in their order.
    """

    component: str
    type: str
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    path: str = ""
    param_groups: tuple[GroupEntry, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """Component specifications as read, with what is wrong and where each part stands.

    Attributes:
        source: the file, or "configuration".
        specs: by component, those that are well formed.
        problems: everything else.
    """

    source: str
    specs: Mapping[str, ComponentSpec]
    problems: tuple[Problem, ...]
    _lines: Mapping[_Path, int] = field(default_factory=dict, repr=False)
    _prefix: _Path = ()

    def locate(self, problem: Problem, spec: ComponentSpec, *below: str) -> Problem:
        """Give a problem within `spec` its full path and, from a file, its line.

        `below` leads from the component to where the problem's own path starts; the line is that of
        the innermost part that is in the file.
        """
        parts = re.findall(r"[^.\[\]]+", problem.path)
        place: _Path = (*self._prefix, spec.component, *below, *(int(p) if p.isdecimal() else p for p in parts))
        line = next((self._lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self._lines), None)
        located = problem.below(".".join([spec.path, *below]))
        return Problem(located.path, located.message, located.hint, line, located.cause)

    def error(self, problems: Iterable[Problem]) -> ConfigurationError:
        """The one error for all problems; it is caused by the first that has a cause."""
        error = ConfigurationError(self.source, in_order(problems))
        error.__cause__ = next((problem.cause for problem in error.problems if problem.cause), None)
        return error


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems in the order of the file; those without a line first, as they were found."""
    return sorted(problems, key=lambda problem: problem.line or 0)


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
        return _interpret(source, "configuration", {})
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"component_optims must be a mapping or the path of a YAML file, not {type(source).__name__}")
    name = str(os.fspath(source))
    document, lines = _load(Path(name))
    return _interpret(document, name, lines)


def read_value(text: str) -> object:
    """Read a single value as it would be read in a configuration file, as for a command line.

    Raises:
        ConfigurationError: it is no YAML.
    """
    return _parse(text, repr(text))[0]


def _interpret(document: object, source: str, lines: Mapping[_Path, int]) -> Configuration:
    prefix: _Path = ()
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


def _component_optims_elsewhere(document: Mapping[Any, Any], path: _Path = ()) -> _Path | None:
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


def _spec_problems(
    component: object, spec: object, path: str, place: _Path, lines: Mapping[_Path, int]
) -> Iterator[Problem]:
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


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also reads 1e-4 as a number and refuses a key that one mapping has twice."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace the merge keys (`<<`) of a mapping by the keys that they bring into it.

        The mapping's own keys win, then those of the first mapping merged. Releases of PyYAML differ in that, so
        theirs is replaced. A merged key stays the node that was written, and so it knows its line.
        """
        own: dict[Hashable, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in own:
                problem = f"key {key!r} stands twice in one mapping (first on line {own[key][0].start_mark.line + 1})"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            own[key] = (key_node, value_node)
        pairs: dict[Hashable, tuple[yaml.Node, yaml.Node]] = {}
        if "<<" in own and own["<<"][0].tag == _MERGE:
            _, value_node = own.pop("<<")
            merged = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for mapping in reversed(merged):
                if not isinstance(mapping, yaml.MappingNode):
                    problem = "'<<' takes a mapping or a list of mappings"
                    raise yaml.constructor.ConstructorError(None, None, problem, mapping.start_mark)
                self.flatten_mapping(mapping)
                pairs |= {self._key(key_node): (key_node, value) for key_node, value in mapping.value}
        node.value = list((pairs | own).values())

    def _key(self, node: yaml.Node) -> Hashable:
        # A key that is a collection, which can't be hashed, is left for PyYAML to refuse.
        key: Hashable = id(node) if isinstance(node, yaml.CollectionNode) else self.construct_object(node)
        return key


def _as_written(_: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(node.value)


# `<<` and `=` as keys; what a merge key means is told by its tag.
for _tag in (_MERGE, "tag:yaml.org,2002:value"):
    _Loader.add_constructor(_tag, _as_written)
# YAML 1.2 reads these as numbers; PyYAML follows YAML 1.1, which wants a dot and a signed exponent.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def _load(path: Path) -> tuple[object, dict[_Path, int]]:
    """The document of a YAML file, and the line of every key in it by its path."""
    source = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start}: {error.reason})"
        raise ConfigurationError(source, [Problem("the file", message, cause=error)]) from error
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(source, [Problem("the file", f"can't be read: {what}", cause=error)]) from error
    return _parse(text, source)


def _parse(text: str, source: str) -> tuple[object, dict[_Path, int]]:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[_Path, int] = {}
        if node is not None:
            _record_lines(loader, node, (), lines, set(), set())
        document = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        message = (error.problem or error.context or "can't be read").removesuffix(".")
        if message.startswith("but ") and error.context:
            message = f"{error.context}, {message}"
        hint = "YAML is indented with spaces, not tabs" if "\\t" in message else None
        if "escape character" in message or "alias" in message:
            hint = "Signs have meanings of their own in YAML: put regular expressions in single quotes"
        elif "expected ',' or" in message or "expected <block end>" in message:
            hint = "Texts with signs in them, such as regular expressions, go in single quotes"
        raise ConfigurationError(source, [Problem("is no valid YAML", message, hint, line, error)]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"the character #x{ord(text[error.position]):04x} is not allowed"
        raise ConfigurationError(source, [Problem("is no valid YAML", message, None, line, error)]) from error
    except RecursionError as error:
        raise ConfigurationError(source, [Problem("the file", "is nested too deeply", cause=error)]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigurationError(source, [Problem("is no valid YAML", str(error), cause=error)]) from error
    finally:
        if loader is not None:
            loader.dispose()
    return document, lines


def _record_lines(
    loader: _Loader, node: yaml.Node, path: _Path, lines: dict[_Path, int], open_nodes: set[int], known: set[int]
) -> None:
    """Note the line of every key below `node`.

    A node that aliases repeat has its keys noted at each place, but only as deep as components'
    params lie: aliases of aliases would make a short file endless.
    """
    repeated_too_deep = id(node) in known and len(path) > _DEEPEST
    if not isinstance(node, (yaml.SequenceNode, yaml.MappingNode)) or id(node) in open_nodes or repeated_too_deep:
        return
    known.add(id(node))
    open_nodes.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _record_lines(loader, item, (*path, index), lines, open_nodes, known)
        open_nodes.discard(id(node))
        return
    loader.flatten_mapping(node)
    for key_node, value_node in node.value:
        if isinstance(key_node, yaml.ScalarNode):
            key = loader.construct_object(key_node)
            lines[(*path, key)] = key_node.start_mark.line + 1
            _record_lines(loader, value_node, (*path, key), lines, open_nodes, known)
    open_nodes.discard(id(node))
