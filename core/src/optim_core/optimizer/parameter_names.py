"""Names of parameters: where PyTorch keeps them in a parameter group, and how a person writes them."""

from __future__ import annotations

import re

__all__ = ["PARAM_NAMES", "written_name"]

PARAM_NAMES = "param_names"
"""The key of a parameter group that has the names of its parameters: a list beside its "params"."""

_COMPILED = re.compile(r"(^|\.)_orig_mod\.")


def written_name(name: str) -> str:
    """A parameter's name as a person writes it: without what torch.compile puts into it."""
    return _COMPILED.sub(r"\1", name)
