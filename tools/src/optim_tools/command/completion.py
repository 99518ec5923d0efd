"""Shell completion, of keys too: the argument types of the command, and the script for a shell."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from optim_core import OPTIMIZER_BUILDER_REGISTRY

__all__ = ["SHELLS", "FileOrKey", "Key", "completion_script"]

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_OPTIM_COMPLETE"


class Key(click.types.StringParamType):
    """A registry key; completed from those installed, without importing any."""

    name = "key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(key) for key in OPTIMIZER_BUILDER_REGISTRY if key.startswith(incomplete)]


class FileOrKey(Key):
    """A configuration file or a registry key."""

    name = "file or key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        # Files first: bash's script forgets what came before them.
        return [CompletionItem(incomplete, type="file"), *super().shell_complete(ctx, param, incomplete)]


def completion_script(command: click.Command, shell: str) -> str:
    """What the shell has to evaluate to complete `command`."""
    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"shell = {shell!r}: must be one of {', '.join(SHELLS)}")
    # The script asks the command itself; only bash's own class checks the version of a running bash.
    script = kind(command, {}, "optim", _VARIABLE)
    return str(script.source_template % script.source_vars())
