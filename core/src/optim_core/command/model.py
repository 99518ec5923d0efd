"""Building the model that `--model module:callable` names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from torch import nn

from optim_core.command.failures import CommandError
from optim_core.components import Models, named_modules_of
from optim_core.errors import in_one_line
from optim_core.spelling import nearest

__all__ = ["build_model"]


def build_model(reference: str) -> Models:
    """Import and call what `reference` names; modules of the current folder are found first.

    Args:
        reference: `module:callable`; the callable takes no arguments and returns a module, or
            modules by component. It may also be such an object itself.

    Raises:
        CommandError: the reference leads nowhere (status 2), or what it leads to raises.
    """
    module_name, separator, attribute = reference.partition(":")
    if not (separator and module_name and attribute):
        message = f"--model {reference!r}: must be module:callable, as in train:build_model"
        raise CommandError(message, status=2)
    if "/" in module_name or module_name.startswith(".") or module_name.endswith(".py"):
        message = f"--model {reference!r}: {module_name!r} is a file's name, not a module's, as in train:build_model"
        raise CommandError(message, status=2)
    target = _attribute_of(_module_of(module_name, reference), attribute, reference)
    if not isinstance(target, (nn.Module, Mapping)):
        if not callable(target):
            message = f"--model {reference!r}: is neither callable nor a module ({type(target).__name__})"
            raise CommandError(message, status=2)
        try:
            target = target()
        except (Exception, SystemExit) as error:
            # A model's code can raise whatever it likes.
            raise CommandError(
                f"--model {reference!r}: calling it, without arguments, raises {in_one_line(error)}"
            ) from error
    models: Models = target
    try:
        named_modules_of(models)
    except TypeError as error:
        raise CommandError(f"--model {reference!r}: {error}") from error
    return models


def _module_of(name: str, reference: str) -> Any:
    if "" not in sys.path:
        # As `python -m` does; the command itself starts in the folder of its script.
        sys.path.insert(0, "")
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            message = f"--model {reference!r}: there is no module {error.name!r}, here or among what is installed"
            raise CommandError(message, status=2) from error
        raise CommandError(f"--model {reference!r}: importing {name!r} raises {in_one_line(error)}") from error
    except (Exception, SystemExit) as error:
        # A training script can raise whatever it likes.
        raise CommandError(f"--model {reference!r}: importing {name!r} raises {in_one_line(error)}") from error


def _attribute_of(module: Any, path: str, reference: str) -> Any:
    target = module
    for name in path.split("."):
        try:
            found = hasattr(target, name)
        except Exception as error:
            # A module's own __getattr__ can raise whatever it likes.
            raise CommandError(f"--model {reference!r}: looking for {name!r} raises {in_one_line(error)}") from error
        if not found:
            near = nearest(name, [n for n in dir(target) if not n.startswith("_")])
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise CommandError(f"--model {reference!r}: there is no {name!r} in it{hint}", status=2)
        target = getattr(target, name)
    return target
