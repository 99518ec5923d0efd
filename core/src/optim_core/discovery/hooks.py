"""Hook specifications, and the plugin manager that calls their implementations.

Distributions offer implementations under the entry-point group `optim.hooks`: modules or objects
with functions marked by `hookimpl`. They are loaded at the first build.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

from optim_core.discovery import hook_specifications
from optim_core.discovery.factory_entry import DISABLE_VARIABLE, HOOKS_GROUP, FactoryEntry, find_entries
from optim_core.discovery.hook_specifications import PROJECT, hookimpl, hookspec, optim_build, optim_param_groups
from optim_core.errors import HookLoadWarning

if TYPE_CHECKING:
    import torch
    from torch.optim.optimizer import ParamsT

    from optim_core.factories.factory import OptimizerFactory

__all__ = [
    "asking_policy",
    "hook_manager",
    "hookimpl",
    "hookspec",
    "only_default",
    "optim_build",
    "optim_param_groups",
    "policies_by_name",
    "problem_of_hooks",
]

_log = logging.getLogger(__name__)


class _Defaults:
    """What the core does where no implementation has decided before it."""

    @staticmethod
    @hookimpl(trylast=True)
    def optim_param_groups(module: torch.nn.Module, policy: str | None) -> list[torch.nn.Parameter] | None:
        return list(module.parameters()) if policy is None else None

    @staticmethod
    @hookimpl(trylast=True)
    def optim_build(factory: OptimizerFactory, params: ParamsT) -> torch.optim.Optimizer:
        # Only where something is built: this module is imported without torch.
        from torch.optim import Optimizer

        from optim_core.optimizer.state_matching import match_loaded_state

        optimizer = factory.build(params)
        # A wrapper that another implementation puts around it may have it load its state.
        if isinstance(optimizer, Optimizer):
            match_loaded_state(optimizer)
        return optimizer


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
    """Whether the core's own implementations of a hook are the only ones."""
    return _OWN.issuperset([implementation.plugin_name for implementation in hook.get_hookimpls()])


_OWN = frozenset({"optim-core", "optim-core:policies"})


def policies_by_name(manager: pluggy.PluginManager) -> Mapping[str, Sequence[object]]:
    """The registered plugins that offer each named policy, by its name."""
    offered: dict[str, list[object]] = {}
    for implementation in manager.hook.optim_param_groups.get_hookimpls():
        plugin = implementation.plugin
        names = getattr(plugin, "POLICIES", ())
        if not isinstance(names, (str, Collection)):
            message = f"POLICIES of {manager.get_name(plugin)} must be names of policies, not {names!r}; it is left out"
            warnings.warn(message, HookLoadWarning, stacklevel=2)
            continue
        for name in [names] if isinstance(names, str) else names:
            offered.setdefault(str(name), []).append(plugin)
    return offered


def asking_policy(manager: pluggy.PluginManager, plugin: object) -> pluggy.HookCaller:
    """The hook `optim_param_groups` of one plugin alone."""
    others = [p for p in manager.get_plugins() if p is not plugin]
    return manager.subset_hook_caller("optim_param_groups", remove_plugins=others)


def problem_of_hooks(entry: FactoryEntry) -> str | None:
    """What keeps an entry's hooks from being used, found by loading them apart from all others."""
    return _register(_bare_manager(), entry)


def _bare_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hook_specifications)
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
