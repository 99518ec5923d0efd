"""The hooks that plugins may implement, and the marks of specifications and implementations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import torch
    from torch.optim.optimizer import ParamsT

    from optim_core.configuration.specifications import ComponentSpec
    from optim_core.factories.factory import OptimizerFactory

__all__ = ["PROJECT", "hookimpl", "hookspec", "optim_build", "optim_param_groups"]

PROJECT = "optim"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function as the implementation of the hook whose name it has."""


@hookspec(firstresult=True)
def optim_param_groups(
    component: str, module: torch.nn.Module, spec: ComponentSpec, policy: str | None, argument: Any
) -> Iterable[torch.Tensor] | Iterable[dict[str, Any]] | None:
    """Choose the parameters, or parameter groups, of a component; or say what a named policy gives them.

    Without a `policy`, the first implementation that returns something other than None decides what the
    component's factory is given; the core's default, all parameters of the module in one group, comes last.
    The rules and policies that are configured for the component as `param_groups` are then applied to that.

    With a `policy`, only the plugin is asked that names it in its attribute `POLICIES`, a sequence of strings of
    the module or object that is registered. What it returns is a list of dictionaries with "params", of those
    parameters that the policy is about, and beside that options of the optimizer's groups; or what a rule may
    say: "lr_scale", "freeze"; and a "label" of a few words for tables.

    Args:
        component: the component's name in the configuration.
        module: the component, without a wrapper such as DistributedDataParallel.
        spec: what the configuration says of it.
        policy: the name of the policy that is asked for; None for none.
        argument: what stands after that name in the configuration; None for nothing.

    Returns:
        What `torch.optim.Optimizer` takes: parameters, or dictionaries with "params" and options.

    Raises:
        ValueError: the argument is of no use, or the module isn't fit for the policy; it is reported with
            the other problems of the configuration.
    """


@hookspec(firstresult=True)
def optim_build(
    component: str, factory: OptimizerFactory, params: ParamsT, spec: ComponentSpec
) -> torch.optim.Optimizer | None:
    """Build a component's optimizer from its factory and parameters.

    The first implementation that returns something other than None decides; the core's default,
    `factory.build(params)`, comes last. An implementation marked `hookimpl(wrapper=True)` runs
    around the others and may return an optimizer that wraps theirs.

    Args:
        component: the component's name in the configuration.
        factory: constructed from the component's params.
        params: what `optim_param_groups` chose.
        spec: what the configuration says of it.
    """
