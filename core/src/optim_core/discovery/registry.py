"""The registry of optimizer factories: which keys there are, and the class behind a key when asked.

Listing the keys takes hardly longer than finding the entry points does. That is why entries and
errors, whose dataclasses take a while to make, are imported in the functions that need them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, KeysView, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

from optim_core.discovery.entry_points import (
    DISABLE_VARIABLE,
    FACTORIES_GROUP,
    disabled_distributions,
    find_entry_points,
)

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint

    from optim_core.discovery.factory_entry import FactoryEntry
    from optim_core.errors import UnknownOptimizerError

__all__ = ["OPTIMIZER_BUILDER_REGISTRY", "OptimizerRegistry", "contested_keys", "is_well_formed", "load_factory"]

_KEY = re.compile(r"[a-z0-9_.-]+")
_FactoryT = TypeVar("_FactoryT", bound=type)


class OptimizerRegistry:
    """Optimizer factories by key: those of installed distributions, and those registered in process.

    Distributions are scanned once, at the first question; a factory is imported when its key is
    first asked for, and no other with it. A key that two distributions claim is listed like any
    other, and raises when it is used. The metadata of a distribution is read when one of its keys,
    or `entries`, is asked for; where that can't be read, the keys are left out from then on.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._points: dict[str, list[EntryPoint]] | None = None
        self._claims: dict[str, tuple[FactoryEntry, ...]] = {}
        self._disabled: list[FactoryEntry] = []
        self._loaded: dict[str, type] = {}
        self._registered: dict[str, tuple[FactoryEntry, type]] = {}
        self._replacing: set[str] = set()

    def get(self, key: str) -> type:
        """The factory class of `key`; imports the distribution that provides it, once.

        Unlike a dictionary's, this `get` raises for a key that isn't there: a name misspelt in a
        configuration must not become None further on.

        Raises:
            UnknownOptimizerError: nobody provides the key, or who does is disabled or unreadable.
            DuplicateOptimizerError: two distributions do.
            FactoryLoadError: importing the factory fails; the cause is chained.
            InvalidFactoryError: what was imported is no factory.
        """
        return self[key]

    def __getitem__(self, key: str) -> type:
        with self._lock:
            found = self._claims_of(key)
            registered = self._registered.get(key)
            # A plugin may register the very class that its own entry point names.
            same = registered is not None and [entry.value for entry in found] == [registered[0].value]
            if registered is not None and (not found or same or key in self._replacing):
                return registered[1]
            if registered is not None or len(found) > 1:
                from optim_core.errors import DuplicateOptimizerError

                claims = [entry.provider for entry in found] + ([registered[0].provider] if registered else [])
                remedy = (
                    f"Uninstall one of them, or name one distribution in {DISABLE_VARIABLE}"
                    if registered is None
                    else "Register under another key, or with replace=True to use the registered one"
                )
                raise DuplicateOptimizerError(key, claims, remedy)
            if not found:
                raise self._unknown(key)
            if key not in self._loaded:
                self._loaded[key] = load_factory(found[0])
            return self._loaded[key]

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._registered or key in self._points_by_key()

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(sorted({*self._points_by_key(), *self._registered}))

    def __len__(self) -> int:
        with self._lock:
            return len({*self._points_by_key(), *self._registered})

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(self) or 'no keys'}>"

    def keys(self) -> KeysView[str]:
        """Every key, sorted."""
        return dict.fromkeys(self).keys()

    def entries(self, *, include_disabled: bool = False) -> tuple[FactoryEntry, ...]:
        """Who provides what, sorted by key, without importing anything.

        A contested key has an entry for each claimant. What `OPTIM_DISABLE_PLUGINS` blocks is left
        out, or is there with `disabled` set when asked for.
        """
        with self._lock:
            points = self._points_by_key()
            self._read_claims([key for key in points if key not in self._claims], points)
            entries = [entry for claims in self._claims.values() for entry in claims]
            entries += [entry for entry, _ in self._registered.values()]
            return tuple(sorted([*entries, *(self._disabled if include_disabled else [])]))

    @overload
    def register(self, key: str, *, replace: bool = False) -> Callable[[_FactoryT], _FactoryT]: ...
    @overload
    def register(self, key: str, factory: _FactoryT, *, replace: bool = False) -> _FactoryT: ...
    def register(
        self, key: str, factory: _FactoryT | None = None, *, replace: bool = False
    ) -> _FactoryT | Callable[[_FactoryT], _FactoryT]:
        """Make a factory known in this process, as a call or as a class decorator.

        Args:
            key: lower-case letters, digits and the characters `_ . -`.
            factory: the class; leave it out to use the result as a decorator.
            replace: take the place of whatever the key stands for now.

        Raises:
            ValueError: the key is malformed.
            DuplicateOptimizerError: another class is registered under the key already.
            InvalidFactoryError: it is not a class with a `build` method.
        """
        from optim_core.discovery.factory_entry import FactoryEntry
        from optim_core.errors import DuplicateOptimizerError

        _check_key(key)
        if factory is None:
            return lambda decorated: self.register(key, decorated, replace=replace)
        value = f"{getattr(factory, '__module__', '?')}:{getattr(factory, '__qualname__', factory)}"
        entry = FactoryEntry(key, "", "", value, "in-process")
        _check_factory(factory, entry)
        with self._lock:
            known = self._registered.get(key)
            if known is not None and known[1] is not factory and not replace:
                remedy = "Choose another key, unregister() the first, or pass replace=True"
                raise DuplicateOptimizerError(key, [known[0].provider, entry.provider], remedy)
            self._registered[key] = (entry, factory)
            if replace:
                self._replacing.add(key)
        return factory

    def unregister(self, key: str) -> None:
        """Undo `register`; a factory that an installed distribution has under the key is back.

        Raises:
            UnknownOptimizerError: nothing was registered under the key in this process.
        """
        with self._lock:
            if key not in self._registered:
                raise self._unknown(key, registered_only=True)
            del self._registered[key]
            self._replacing.discard(key)

    def refresh(self) -> None:
        """Forget what was found and imported, and scan again at the next question.

        What was registered in this process stays. Python itself keeps modules it has imported.
        """
        with self._lock:
            self._points = None
            self._loaded.clear()

    def _points_by_key(self) -> dict[str, list[EntryPoint]]:
        """The entry points of each key, found once."""
        if self._points is None:
            points: dict[str, list[EntryPoint]] = {}
            for point in find_entry_points(FACTORIES_GROUP):
                points.setdefault(point.name, []).append(point)
            self._claims, self._disabled = {}, []
            disabled = disabled_distributions()
            # Whether these are keys depends on whose they are, and a warning names it.
            unsure = [key for key in points if disabled or not is_well_formed(key)]
            if unsure:
                self._read_claims(unsure, points, disabled)
            self._points = points
        return self._points

    def _claims_of(self, key: str) -> tuple[FactoryEntry, ...]:
        """Who provides a key, found out once."""
        points = self._points_by_key()
        if key in points and key not in self._claims:
            self._read_claims([key], points)
        return self._claims.get(key, ())

    def _read_claims(
        self, keys: Sequence[str], points: dict[str, list[EntryPoint]], disabled: Collection[str] = ()
    ) -> None:
        """Find out who provides these keys, and drop the entry points of those that nobody does."""
        from optim_core.discovery.factory_entry import read_entries

        claims: dict[str, list[FactoryEntry]] = {key: [] for key in keys}
        for entry in read_entries([point for key in keys for point in points[key]], disabled):
            (self._disabled if entry.disabled else claims[entry.key]).append(entry)
        for key, usable in claims.items():
            if is_well_formed(key):
                self._claims[key] = tuple(usable)
            else:
                _log_malformed(usable)
            if not self._claims.get(key):
                del points[key]

    def _unknown(self, key: object, *, registered_only: bool = False) -> UnknownOptimizerError:
        from optim_core.arguments.spelling import nearest
        from optim_core.errors import UnknownOptimizerError

        name = str(key)
        claims = self._claims_of(name)
        known = tuple(self)
        near = nearest(name, known)
        reason = None
        blocked = [entry.provider for entry in self._disabled if entry.key == key]
        if registered_only and claims:
            reason = (
                f"not registered in this process, but provided by {claims[0].provider}; "
                f"to block a distribution, name it in {DISABLE_VARIABLE}"
            )
        elif blocked:
            reason = f"{' and '.join(blocked)} would provide it, but is disabled by {DISABLE_VARIABLE}"
        elif name in self._claims and not claims:
            reason = "the metadata of the distribution that provides it can't be read; reinstall what the log warns of"
        return UnknownOptimizerError(name, known, near, reason)


def load_factory(entry: FactoryEntry) -> type:
    """Import an installed factory.

    Raises:
        FactoryLoadError: importing it fails; the cause is chained.
        InvalidFactoryError: what was imported is no factory.
    """
    from optim_core.errors import FactoryLoadError

    try:
        loaded = entry.load()
    except (Exception, SystemExit) as error:
        # Whatever a plugin does while it is imported, it must not take other keys with it.
        raise FactoryLoadError(entry.key, entry.distribution, entry.version, entry.value, error) from error
    return _check_factory(loaded, entry)


def _check_factory(factory: object, entry: FactoryEntry) -> type:
    from optim_core.errors import InvalidFactoryError

    if not isinstance(factory, type):
        raise InvalidFactoryError(entry.key, entry.provider, f"{factory!r} is not a class")
    if not callable(getattr(factory, "build", None)):
        raise InvalidFactoryError(entry.key, entry.provider, "it has no method 'build'")
    return factory


def is_well_formed(key: str) -> bool:
    """Whether a key can be asked for: lower-case letters, digits and the characters `_ . -`."""
    return _KEY.fullmatch(key) is not None


def contested_keys(entries: Iterable[FactoryEntry]) -> dict[str, tuple[FactoryEntry, ...]]:
    """The keys that several distributions claim, with their claimants; of those that can be used at all."""
    claims: dict[str, tuple[FactoryEntry, ...]] = {}
    for entry in entries:
        if not entry.disabled and is_well_formed(entry.key):
            claims[entry.key] = (*claims.get(entry.key, ()), entry)
    return {key: claimants for key, claimants in claims.items() if len(claimants) > 1}


def _log_malformed(entries: Iterable[FactoryEntry]) -> None:
    import logging

    for entry in entries:
        logging.getLogger(__name__).warning(
            "%s offers the malformed key %r, which is ignored", entry.provider, entry.key
        )


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not is_well_formed(key):
        raise ValueError(f"key = {key!r}: must be lower-case letters, digits and the characters _ . - only")


OPTIMIZER_BUILDER_REGISTRY = OptimizerRegistry()
"""The registry of this process: what `build_optimizers` looks names up in."""
