"""Importing plugins in this process, with a word to whoever waits for one that doesn't come back."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from optim_core import OPTIMIZER_BUILDER_REGISTRY, OptimError

__all__ = ["import_factories", "patience", "quiet_log"]

_PATIENCE = 10.0  # seconds; PyTorch alone takes a few, the first time even more


def import_factories(keys: Iterable[str]) -> None:
    """Import what a configuration names, whatever comes of it: what fails is reported where it is used."""
    for key in dict.fromkeys(keys):
        with patience(f"the plugin of {key!r}"), suppress(OptimError):
            OPTIMIZER_BUILDER_REGISTRY.get(key)


@contextmanager
def quiet_log() -> Iterator[None]:
    """Without log lines below errors, of which building an optimizer only to look at it would give many."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def patience(what: str) -> Iterator[None]:
    """Around the import of plugins; where that takes long, standard error says so."""
    message = (
        f"optim: still importing {what} after {_PATIENCE:g} s; Ctrl-C ends this. "
        "`optim doctor` finds plugins that hang\n"
    )
    timer = threading.Timer(_PATIENCE, sys.stderr.write, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
