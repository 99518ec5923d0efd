"""The factory behind a key that was named on the command line, or why there is none."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optim_core import (
    OPTIMIZER_BUILDER_REGISTRY,
    DuplicateOptimizerError,
    FactoryEntry,
    FactoryLoadError,
    InvalidFactoryError,
    UnknownOptimizerError,
)
from optim_core.for_tools import signature_of
from optim_tools.command.failures import CommandError
from optim_tools.command.plugins import patience
from optim_tools.inspection.yaml_text import yaml_text

__all__ = ["KeyFactory", "command_line", "imported_factory", "key_factory"]


@dataclass(frozen=True)
class KeyFactory:
    """A factory, and who provides it."""

    entry: FactoryEntry
    target: type


def key_factory(key: str) -> KeyFactory:
    """Import the factory of a key, with a word to whoever waits for it.

    Raises:
        CommandError: nobody provides the key (status 2), or what is provided can't be used (status 1).
    """
    with patience(f"the plugin of {key!r}"):
        return imported_factory(key)


def imported_factory(key: str) -> KeyFactory:
    """As `key_factory`, where nobody waits for it."""
    try:
        target = OPTIMIZER_BUILDER_REGISTRY.get(key)
        unusable = signature_of(target).positional_only
    except UnknownOptimizerError as error:
        raise _unknown(error) from error
    except (DuplicateOptimizerError, FactoryLoadError, InvalidFactoryError) as error:
        raise CommandError(" ".join(str(error).split())) from error
    except (ValueError, TypeError) as error:
        # Not every class has a constructor that can be asked for its arguments.
        message = f"the factory of {key!r} can't be described: {error}. Its authors must mend that"
        raise CommandError(" ".join(message.split())) from error
    if unusable:
        names = ", ".join(unusable)
        what = f"its constructor takes {names} by position only, so that no configuration can give it"
        raise CommandError(f"the factory of {key!r} can't be used: {what}. Its authors must mend that")
    claims = [entry for entry in OPTIMIZER_BUILDER_REGISTRY.entries() if entry.key == key]
    # One that is registered in this process and can be used is the one that is used.
    return KeyFactory(next((c for c in claims if not c.distribution), claims[0]), target)


def command_line(command: str, key: str, params: Mapping[str, Any]) -> str:
    """The subcommand for a key with these params, fit to be pasted into a shell."""
    return shlex.join(["optim", command, key, *(f"{name}={yaml_text(value)}" for name, value in params.items())])


def _unknown(error: UnknownOptimizerError) -> CommandError:
    if error.reason or not error.known:
        return CommandError(str(error), status=2)
    near = " or ".join(repr(key) for key in error.near)
    hint = f"; did you mean {near}?" if near else "; `optim list` has those that are"
    details = f"Known: {', '.join(error.known)}. If it is another distribution's, install that with pip"
    return CommandError(f"no optimizer is known as {error.key!r}{hint}", details=[details], status=2)
