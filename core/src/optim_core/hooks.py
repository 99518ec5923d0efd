"""Hook specifications, and the plugin manager that calls their implementations.

Distributions offer implementations under the entry-point group `optim.hooks`: modules or objects
with functions marked by `hookimpl`. They are loaded at the first build.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

from optim_core.discovery import DISABLE_VARIABLE, HOOKS_GROUP, FactoryEntry, find_entries
from optim_core.errors import OptimWarning

if TYPE_CHECKING:
    import torch
    from torch.optim.optimizer import ParamsT

    from optim_core.configuration import ComponentSpec
    from optim_core.factory import OptimizerFactory

__all__ = ["HookLoadWarning", "hook_manager", "hookimpl", "hookspec", "only_default", "problem_of_hooks"]

PROJECT = "optim"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function as the implementation of the hook whose name it has."""

_log = logging.getLogger(__name__)


class HookLoadWarning(OptimWarning):
    """A distribution's hooks can't be used; everything else goes on without them."""


@hookspec(firstresult=True)
def optim_param_groups(
    component: str, module: torch.nn.Module, spec: ComponentSpec
) -> Iterable[torch.Tensor] | Iterable[dict[str, Any]] | None:
    """Choose the parameters, or parameter groups, that a component's factory is given.

    The first implementation that returns something other than None decides; the core's default,
    all parameters of the module in one group, comes last.

    Args:
        component: the component's name in the configuration.
        module: the component, without a wrapper such as DistributedDataParallel.
        spec: what the configuration says of it.

    Returns:
        What `torch.optim.Optimizer` takes: parameters, or dictionaries with "params" and options.
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


class _Defaults:
    """What the core does where no implementation has decided before it."""

    @staticmethod
    @hookimpl(trylast=True)
    def optim_param_groups(module: torch.nn.Module) -> list[torch.nn.Parameter]:
        return list(module.parameters())

    @staticmethod
    @hookimpl(trylast=True)
    def optim_build(factory: OptimizerFactory, params: ParamsT) -> torch.optim.Optimizer:
        return factory.build(params)


_lock = threading.RLock()
_manager: pluggy.PluginManager | None = None


def hook_manager() -> pluggy.PluginManager:
    """The plugin manager of this process, with every usable distribution's hooks registered.

    Register hooks of your own with `hook_manager().register(module_or_object)`; a name that is no
    hook's is an error at the next build.
    """
    global _manager
    failures: list[str] = []
    with _lock:
        if _manager is None:
            # Set before anything is loaded: what is loaded may ask for the manager itself.
            _manager = _bare_manager()
            usable = [entry for entry in find_entries(HOOKS_GROUP) if not entry.disabled]
            reasons = [(entry, _register(_manager, entry)) for entry in usable]
            failures += [_failure(entry, reason) for entry, reason in reasons if reason]
        manager = _manager
    # Last: a warning may be an error, and is to be one only once.
    for failure in failures:
        warnings.warn(failure, HookLoadWarning, stacklevel=2)
    return manager


def only_default(hook: pluggy.HookCaller) -> bool:
    """Whether the core's own implementation of a hook is the only one."""
    return [type(implementation.plugin) for implementation in hook.get_hookimpls()] == [_Defaults]


def problem_of_hooks(entry: FactoryEntry) -> str | None:
    """What keeps an entry's hooks from being used, found by loading them apart from all others."""
    return _register(_bare_manager(), entry)


def _bare_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(sys.modules[__name__])
    manager.register(_Defaults(), name="optim-core")
    return manager


def _register(manager: pluggy.PluginManager, entry: FactoryEntry) -> str | None:
    """Load and register an entry's hooks; returns why that failed, where it did."""
    name = f"{entry.distribution}:{entry.key}"
    plugin: object = None
    try:
        plugin = entry.load()
        manager.register(plugin, name=name)
        manager.check_pending()
        if not manager.get_hookcallers(plugin):
            raise TypeError("nothing in it is marked with optim_core.hookimpl")
    except (Exception, SystemExit) as error:
        # Anything can go wrong in a stranger's import; it costs that stranger's hooks only.
        if manager.get_name(plugin) == name:
            manager.unregister(plugin)
        _log.debug("loading the hooks %s failed", entry.value, exc_info=error)
        return f"{type(error).__name__}: {error}"
    return None


def _failure(entry: FactoryEntry, reason: str) -> str:
    return (
        f"the hooks {entry.key!r} of {entry.provider} can't be used and are left out: {reason}. "
        f"Upgrade or uninstall {entry.distribution}, or name it in {DISABLE_VARIABLE}"
    )
