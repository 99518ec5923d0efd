"""How `build_optimizers` parts the parameters of a component that is configured for this distribution's key."""

from __future__ import annotations

from typing import Any

from optim_core import ComponentSpec, hookimpl
from torch import nn

from optim_muon.assignment import parameter_groups
from optim_muon.factory import KEY

__all__ = ["optim_param_groups"]


@hookimpl
def optim_param_groups(module: nn.Module, spec: ComponentSpec) -> list[dict[str, Any]] | None:
    """The groups of `parameter_groups`; None for the components of other keys."""
    if spec.type != KEY:
        return None
    return parameter_groups(module, spec.params.get("adamw_names"))
