"""Values and configurations as YAML that every reader understands alike, of YAML 1.1 and of 1.2."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from optim_core.for_tools import has_exponent

__all__ = ["configuration_yaml", "yaml_text"]


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which also quotes texts such as 1e5, numbers in YAML 1.2, and keeps a text on one line."""

    def represent_text(self, value: str) -> yaml.ScalarNode:
        style = '"' if has_exponent(value) or "\n" in value else None
        return self.represent_scalar("tag:yaml.org,2002:str", value, style)


_Dumper.add_representer(str, _Dumper.represent_text)


def yaml_text(value: Any) -> str:
    """A value on one line: `1.0e-08`, `[0.9, 0.999]`, `null`.

    Raises:
        ValueError: YAML has no word for it.
    """
    plain = to_jsonable_python(value)
    text: str = yaml.dump(
        plain, Dumper=_Dumper, default_flow_style=True, width=math.inf, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")


def configuration_yaml(key: str, params: Mapping[str, Any], *, remarks: Sequence[str] = ()) -> str:
    """A whole configuration file with one component.

    Args:
        key: its optimizer.
        params: its params; none are written where there are none.
        remarks: lines of comment that stand below its params.

    Raises:
        ValueError: YAML has no word for one of the params.
    """
    lines = [
        "model:",
        "  component_optims:",
        "    my_component: # the component's name",
        f"      type: {yaml_text(key)}",
        *(["      params:"] if params or remarks else []),
        *(f"        {yaml_text(name)}: {yaml_text(value)}" for name, value in params.items()),
        *(f"        # {remark}" for remark in remarks),
    ]
    return "\n".join(lines) + "\n"
