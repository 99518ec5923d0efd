"""Reading YAML: the values, and the line of every key; numbers such as 1e-4, and merge keys, by rules of our own."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path

import yaml

from optim_core.configuration.specifications import KeyPath
from optim_core.errors import ConfigurationError, Problem

__all__ = ["parse_yaml", "read_value", "read_yaml"]

_MERGE = "tag:yaml.org,2002:merge"
_DEEPEST = 6  # model.component_optims.<component>.param_groups.<index>.<name>


def read_yaml(path: Path) -> tuple[object, dict[KeyPath, int]]:
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
    return parse_yaml(text, source)


def parse_yaml(text: str, source: str) -> tuple[object, dict[KeyPath, int]]:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[KeyPath, int] = {}
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


def read_value(text: str) -> object:
    """Read a single value as it would be read in a configuration file, as for a command line.

    Raises:
        ConfigurationError: it is no YAML.
    """
    return parse_yaml(text, repr(text))[0]


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


def _record_lines(
    loader: _Loader, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], open_nodes: set[int], known: set[int]
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
