"""The texts of the files that a new distribution has, with places to fill in.

A place is `%{name}`; a percent sign of the text itself is doubled. The files end in `.txt`, so that no
tool takes them for what they will become.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from string import Template

__all__ = ["render"]


class _Template(Template):
    # Braces, dollars and at signs have a meaning in the files themselves.
    delimiter = "%"
    idpattern = r"(?!)"  # no place without braces
    braceidpattern = r"[a-z_]+"


def render(name: str, values: Mapping[str, str]) -> str:
    """Fill in the places of a template.

    Args:
        name: its path in this folder.
        values: what to fill in; one that the template doesn't have is left aside.
    """
    text = resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
    return _Template(text).substitute(values)
