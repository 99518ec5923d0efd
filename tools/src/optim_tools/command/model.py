"""Building the model that `--model module:callable` names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from optim_core.for_tools import Models, in_one_line, named_modules_of
from optim_tools.command.failures import CommandError
from optim_tools.command.object_reference import referenced_object

__all__ = ["build_model"]


def build_model(reference: str) -> Models:
    """Import and call what `reference` names; modules of the current folder are found first.

    Args:
        reference: `module:callable`; the callable takes no arguments and returns a module, or
            modules by component. It may also be such an object itself.

    Raises:
        CommandError: the reference leads nowhere (status 2), or what it leads to raises.
    """
    _, _, target = referenced_object("--model", reference, form="module:callable", example="train:build_model")
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
