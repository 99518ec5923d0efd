"""Where failures of the command end: one clear line on standard error, and an exit status.

Status 2 is a command line that can't be followed: a wrong option, a file that isn't there, a key
that nobody provides. Status 1 is everything that was found wrong while following it.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from optim_core import OptimizerRegistry
from optim_core.for_tools import in_one_line
from optim_tools.command.report import kept_for_reports, printable

__all__ = ["Command", "CommandError", "CommandGroup"]

_INTERRUPTED = 130  # what a shell reports for a command that SIGINT ended
_END_OF_PIPE = 141  # and for one that SIGPIPE did
_TRACEBACK = "optim.traceback"


class CommandError(Exception):
    """A command that can't do what it was asked for.

    Attributes:
        message: one line: what is wrong and what to do.
        details: further lines, of use once the first is understood.
        status: the exit status.
    """

    def __init__(self, message: str, *, details: Sequence[str] = (), status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.status = status


class Command(click.Command):
    """A subcommand: it has `--traceback`, and its standard output is for its report alone.

    Whatever a plugin or a model prints while it is imported goes to standard error.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        flag = click.Option(
            ["--traceback"],
            is_flag=True,
            expose_value=False,
            callback=_remember,
            is_eager=True,
            help="Where the command fails, print the traceback too.",
        )
        self.params.append(flag)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with kept_for_reports(), _short_warnings(), _quiet_registry():
                return super().invoke(ctx)
        except BrokenPipeError:
            # Who reads the output has seen enough, as `head` does.
            raise click.exceptions.Exit(_END_OF_PIPE) from None
        except SystemExit as error:
            # It would pass for this command's own end.
            raise CommandError(f"a plugin, or the model, ended Python ({error!r})") from error


class CommandGroup(click.Group):
    """The command itself: finds the subcommand, and turns every failure into a line and a status."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from optim_core.for_tools import nearest  # only a mistake needs it

            names = self.list_commands(ctx)
            near = nearest(args[0], names)
            hint = f"Did you mean {near[0]!r}?" if near else f"Commands: {', '.join(names)}"
            raise click.UsageError(f"there is no command {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, args: Any = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run the command and exit."""
        context: dict[str, Any] = {}
        try:
            # A subcommand that ends by Exit has its status returned.
            status = super().main(args, prog_name, standalone_mode=False, obj=context, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            status = error.exit_code
        except click.ClickException as error:
            _print_failure(error.format_message(), _usage_of(error))
            status = error.exit_code
        except CommandError as error:
            _print_failure(error.message, error.details, error if context.get(_TRACEBACK) else None)
            status = error.status
        except (click.Abort, KeyboardInterrupt):
            _print_failure("interrupted")
            status = _INTERRUPTED
        except Exception as error:
            # A fault of this command itself, or of a plugin where none was expected.
            hint = [] if context.get(_TRACEBACK) else ["Run it again with --traceback to see where"]
            shown = error if context.get(_TRACEBACK) else None
            _print_failure(f"unexpected failure: {in_one_line(error)}", hint, shown)
            status = 1
        sys.exit(status if isinstance(status, int) else 0)


def _remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.obj, dict):
        ctx.obj[_TRACEBACK] = True


def _usage_of(error: click.ClickException) -> Sequence[str]:
    context = getattr(error, "ctx", None)
    return [] if context is None else [context.get_usage(), f"Help: {context.command_path} --help"]


def _print_failure(message: str, details: Sequence[str] = (), error: BaseException | None = None) -> None:
    lines = [f"optim: error: {printable(message)}", *map(printable, details)]
    if error is not None:
        lines += [line.rstrip() for line in traceback.format_exception(error)]
    # Nothing is left to be done where standard error is closed, too.
    with contextlib.suppress(OSError):
        click.echo("\n".join(lines), err=True)


@contextlib.contextmanager
def _quiet_registry() -> Iterator[None]:
    """Malformed keys are not logged: `list` and `doctor` show them, and elsewhere they are beside the point."""
    log = logging.getLogger(OptimizerRegistry.__module__)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def _short_warnings() -> Iterator[None]:
    """Warnings as one line each, without the source line that gave them."""

    def show(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        name = "" if category.__module__.startswith(("optim_core", "optim_tools")) else f"{category.__name__}: "
        click.echo(f"optim: warning: {name}{' '.join(str(message).split())}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
