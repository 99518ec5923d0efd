"""Reading YAML: the values, and the line of every key; numbers such as 1e-4, and merge keys, by rules of our own."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from optim_core.errors import ConfigurationError, Problem

__all__ = ["KeyPath", "SourceLines", "read_value", "read_yaml"]

_MERGE = "tag:yaml.org,2002:merge"
_Pairs = dict[Hashable, tuple[yaml.Node, yaml.Node]]

KeyPath = tuple[Hashable, ...]
"""The keys and list indices that lead from the document to a place in it."""


@dataclass(frozen=True)
class SourceLines:
    """The lines of a document's keys and list items; of one that is no file's, there are none.

    They are looked up when asked for: aliases of aliases can make a short file have endlessly many places.
    """

    root: yaml.Node | None = None
    pairs: Mapping[int, _Pairs] = field(default_factory=dict)

    def get(self, path: KeyPath) -> int | None:
        """The line, counted from 1, where the last key or item of a path is written; None if the document lacks it."""
        node, line = self.root, None
        for key in path:
            if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
                line = node.start_mark.line + 1
            elif (pair := self.pairs.get(id(node), {}).get(key)) is not None:
                line = pair[0].start_mark.line + 1
                node = pair[1]
            else:
                return None
        return line


def read_yaml(path: Path) -> tuple[object, SourceLines]:
    """The document of a YAML file, and the lines of its keys."""
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


def _parse(text: str, source: str) -> tuple[object, SourceLines]:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
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
    return document, SourceLines(node, loader.pairs)


def read_value(text: str) -> object:
    """Read a single value as it would be read in a configuration file, as for a command line.

    Raises:
        ConfigurationError: it is no YAML.
    """
    return _parse(text, repr(text))[0]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also reads 1e-4 as a number and refuses a key that one mapping has twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        # The keys and values of each mapping, by the `id` of its node.
        self.pairs: dict[int, _Pairs] = {}

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace the merge keys (`<<`) of a mapping by the keys that they bring into it.

        The mapping's own keys win, then those of the first mapping merged. Releases of PyYAML differ in that, so
        theirs is replaced. A merged key stays the node that was written, and so it knows its line.
        """
        if id(node) in self.pairs:
            return
        own: _Pairs = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in own:
                problem = f"key {key!r} stands twice in one mapping (first on line {own[key][0].start_mark.line + 1})"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            own[key] = (key_node, value_node)
        pairs: _Pairs = {}
        if "<<" in own and own["<<"][0].tag == _MERGE:
            _, value_node = own.pop("<<")
            merged = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for mapping in reversed(merged):
                if not isinstance(mapping, yaml.MappingNode):
                    problem = "'<<' takes a mapping or a list of mappings"
                    raise yaml.constructor.ConstructorError(None, None, problem, mapping.start_mark)
                self.flatten_mapping(mapping)
                pairs |= self.pairs[id(mapping)]
        self.pairs[id(node)] = pairs | own
        node.value = list(self.pairs[id(node)].values())

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
