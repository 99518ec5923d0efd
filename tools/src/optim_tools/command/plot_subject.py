"""What `optim plot` is to plot: a configuration file, or a key with its parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optim_core import OPTIMIZER_BUILDER_REGISTRY, ConfigurationError, OptimizerFactory, UnknownOptimizerError
from optim_core.for_tools import component_factories, effective_params, in_order, nearest
from optim_tools.command.configuration_file import SUFFIXES, no_such_file, read_file, refusal
from optim_tools.command.failures import CommandError
from optim_tools.command.given_params import constructed, given_params
from optim_tools.command.key_factory import key_factory
from optim_tools.command.plugins import import_factories, quiet_log

__all__ = ["Subject", "subject_of"]


@dataclass(frozen=True)
class Subject:
    """What is to be plotted: factories, their types and their params, by component."""

    title: str
    factories: Mapping[str, OptimizerFactory]
    types: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]


def subject_of(target: str, params: Sequence[str]) -> Subject:
    """Find what `target` and the parameters behind it stand for.

    Raises:
        CommandError: it is neither a file nor a key (status 2), or something is wrong with it.
    """
    # Not those of Path, which raise for a name that is too long.
    is_folder = os.path.isdir(target)
    is_file = os.path.exists(target) and not is_folder
    if is_file and params and target not in OPTIMIZER_BUILDER_REGISTRY:
        raise CommandError(f"{target} is a file; {params[0]!r} and the like go with a key", status=2)
    if is_file and not params:
        return _configuration(Path(target))
    if target in OPTIMIZER_BUILDER_REGISTRY:
        return _key(target, params)
    if is_folder:
        raise CommandError(f"{target} is a folder, neither a configuration file nor a key", status=2)
    raise _unknown(target)


def _configuration(path: Path) -> Subject:
    try:
        configuration = read_file(path)
    except ConfigurationError as error:
        raise refusal(str(path), error.problems) from error
    import_factories(spec.type for spec in configuration.specs.values())
    with quiet_log():
        found = component_factories(configuration, OPTIMIZER_BUILDER_REGISTRY)
    problems = [*configuration.problems, *found.all_problems]
    if problems:
        raise refusal(str(path), in_order(problems), f"Run `optim check {path}` for more")
    types = {name: configuration.specs[name].type for name in found.factories}
    return Subject(path.name, found.factories, types, found.params)


def _key(key: str, params: Sequence[str]) -> Subject:
    given = given_params(params)
    target = key_factory(key).target
    factory = constructed("plot", key, target, given)
    return Subject(key, {key: factory}, {key: key}, {key: effective_params(target, given)})


def _unknown(target: str) -> CommandError:
    path = Path(target)
    if path.suffix.lower() in SUFFIXES or path.name != target:
        return no_such_file(path)
    keys = list(OPTIMIZER_BUILDER_REGISTRY)
    try:
        OPTIMIZER_BUILDER_REGISTRY.get(target)
    except UnknownOptimizerError as error:
        if error.reason:
            return CommandError(str(error), status=2)
    near = nearest(target, keys)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Keys: {', '.join(keys) or 'none'}"
    return CommandError(f"{target!r} is neither a file nor a key. {hint}", status=2)
