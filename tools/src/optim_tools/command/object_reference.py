"""What `module:name` on the command line leads to."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from optim_core.for_tools import in_one_line, nearest
from optim_tools.command.failures import CommandError

__all__ = ["referenced_object"]


def referenced_object(option: str, reference: str, *, form: str, example: str) -> tuple[ModuleType, str, Any]:
    """Import what a reference names; modules of the current folder are found first.

    Args:
        option: the option that it was given to.
        reference: `module:name`, with dots in the name where it is within something else.
        form: what such a reference consists of, as `module:callable`.
        example: what one looks like.

    Returns:
        The module, the name in it, and the object.

    Raises:
        CommandError: the reference leads nowhere (status 2), or what it leads to raises.
    """
    where = f"{option} {reference!r}"
    module_name, separator, path = reference.partition(":")
    if not (separator and module_name and path):
        raise CommandError(f"{where}: must be {form}, as in {example}", status=2)
    if "/" in module_name or module_name.startswith(".") or module_name.endswith(".py"):
        raise CommandError(f"{where}: {module_name!r} is a file's name, not a module's, as in {example}", status=2)
    module = _module_of(module_name, where)
    return module, path, _attribute_of(module, path, where)


def _module_of(name: str, where: str) -> ModuleType:
    if "" not in sys.path:
        # As `python -m` does; the command itself starts in the folder of its script.
        sys.path.insert(0, "")
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            message = f"{where}: there is no module {error.name!r}, here or among what is installed"
            raise CommandError(message, status=2) from error
        raise CommandError(f"{where}: importing {name!r} raises {in_one_line(error)}") from error
    except (Exception, SystemExit) as error:
        # A stranger's module can raise whatever it likes.
        raise CommandError(f"{where}: importing {name!r} raises {in_one_line(error)}") from error


def _attribute_of(module: ModuleType, path: str, where: str) -> Any:
    target: Any = module
    for name in path.split("."):
        try:
            found = hasattr(target, name)
        except Exception as error:
            # A module's own __getattr__ can raise whatever it likes.
            raise CommandError(f"{where}: looking for {name!r} raises {in_one_line(error)}") from error
        if not found:
            near = nearest(name, [n for n in dir(target) if not n.startswith("_")])
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise CommandError(f"{where}: there is no {name!r} in it{hint}", status=2)
        target = getattr(target, name)
    return target
