"""The interface of the `optim` command: its subcommands with their arguments and options.

What a subcommand does is in a module of its own, imported when it runs: help, completion and `list`
answer in a moment, and import neither torch nor any plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from optim_core import __version__
from optim_core.command.completion import SHELLS, FileOrKey, Key, completion_script
from optim_core.command.failures import Command, CommandGroup
from optim_core.command.report import Report, emit, report_stream

__all__ = ["main"]

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
_timeout = click.option(
    "--timeout",
    type=click.IntRange(1, 86_400),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long one plugin may take to be imported and checked, where every one is.",
)


@click.group(cls=CommandGroup, context_settings=_CONTEXT)
@click.version_option(__version__, "--version", prog_name="optim-core", message="%(prog)s %(version)s")
def optim() -> None:
    """Optimizers for PyTorch as plugins: see what is installed, check a configuration before training,
    look at its schedules.

    \b
    Start with:
      optim list                         the keys there are
      optim show KEY                     one key's parameters, and YAML to paste
      optim check config.yaml            every problem of a configuration
      optim plot config.yaml             its learning rates, drawn

    Exit status: 0 fine, 1 problems were found, 2 the command was called wrongly.
    """


@optim.command("list", cls=Command, short_help="List every optimizer key and who provides it.")
@click.option("--load", is_flag=True, help="Import every plugin (each in a process of its own) for its description.")
@_timeout
@_json
def list_command(load: bool, timeout: int, as_json: bool) -> NoReturn:
    """List every optimizer key and who provides it.

    Nothing is imported unless --load is given. A key that two distributions claim, or whose
    distribution is disabled, is marked with the reason.
    """
    from optim_core.command.list_keys import list_keys

    _finish(list_keys(load=load, timeout=timeout), as_json)


@optim.command("show", cls=Command, short_help="Show a key's parameters, and a YAML snippet.")
@click.argument("key", type=Key())
@click.option("--yaml", "only_yaml", is_flag=True, help="Print the YAML snippet only, as for `> config.yaml`.")
@_json
def show_command(key: str, only_yaml: bool, as_json: bool) -> NoReturn:
    """Show what KEY is: its parameters, their meaning, and a YAML snippet.

    Each parameter has its type, default, constraint and meaning. The snippet works as pasted.
    """
    from optim_core.command.show_key import show_key

    if only_yaml and as_json:
        raise click.UsageError("--yaml and --json exclude each other")
    _finish(show_key(key, only_yaml=only_yaml), as_json)


@optim.command("check", cls=Command, short_help="Check a configuration; report every problem at once.")
@click.argument("config", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--model",
    metavar="MODULE:CALLABLE",
    help="Build this model, and show who owns which of its parameters. The current folder's modules are found too.",
)
@_json
def check_command(config: Path, model: str | None, as_json: bool) -> NoReturn:
    """Check the configuration file CONFIG, and report every problem at once.

    Notes say what is legal but surprising; they don't change the exit status.
    """
    from optim_core.command.configuration_file import UnreadableConfiguration, read_file
    from optim_core.errors import ConfigurationError

    try:
        configuration = read_file(config)
    except ConfigurationError as error:
        _finish(UnreadableConfiguration(error.subject, error.problems), as_json)
    # Only now: it imports torch.
    from optim_core.command.check_configuration import check_configuration

    _finish(check_configuration(configuration, model=model), as_json)


@optim.command("plot", cls=Command, short_help="Draw the learning rates of a configuration or a key.")
@click.argument("target", metavar="CONFIG|KEY", type=FileOrKey())
@click.argument("params", nargs=-1, metavar="[PARAM=VALUE]...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="A .png or .svg file."
)
@click.option(
    "--steps",
    type=click.IntRange(1, 20_000_000),
    metavar="N",
    help="How many optimizer updates to draw, in place of each component's own horizon.",
)
@click.option(
    "--scale",
    type=click.Choice(["auto", "linear", "log"]),
    default="auto",
    show_default=True,
    help="The axis of the learning rate; auto takes log where the rates span decades.",
)
@_json
def plot_command(
    target: str, params: tuple[str, ...], output: Path | None, steps: int | None, scale: str, as_json: bool
) -> NoReturn:
    """Draw the learning rate of every component of CONFIG, or of one KEY with its parameters.

    Betas and momentum are drawn too where they move. Without --output it is drawn in the terminal.

    \b
    optim plot config.yaml -o schedules.png
    optim plot adamw_warmup_cosine_decay peak_lr=1e-3 total_steps=1000 warmup_steps=100
    """
    from optim_core.command.plot_schedules import plot_schedules

    _finish(plot_schedules(target, params, output=output, steps=steps, scale=scale), as_json)


@optim.command("schema", cls=Command, short_help="Print the JSON Schema of a configuration or a key.")
@click.argument("key", type=Key(), required=False)
@_timeout
@click.option("--json", "as_json", is_flag=True, help="No difference: a schema is JSON anyway.")
def schema_command(key: str | None, timeout: int, as_json: bool) -> NoReturn:
    """Print the JSON Schema of a configuration, or of the parameters of one KEY.

    Give it to an editor, and it completes and checks the YAML.
    """
    from optim_core.command.print_schema import print_schema

    _finish(print_schema(key, timeout=timeout), as_json)


@optim.command("doctor", cls=Command, short_help="Examine the environment and every plugin.")
@_timeout
@_json
def doctor_command(timeout: int, as_json: bool) -> NoReturn:
    """Examine the environment: versions, and every plugin in a process of its own.

    Says what is broken and the command that mends it; the exit status is 1 then.
    """
    from optim_core.command.examine_environment import examine_environment

    _finish(examine_environment(timeout=timeout), as_json)


@optim.command("completion", cls=Command, short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print what makes SHELL complete commands, options, files and keys.

    \b
    bash:  eval "$(optim completion bash)"         in ~/.bashrc
    zsh:   eval "$(optim completion zsh)"          in ~/.zshrc
    fish:  optim completion fish | source          in ~/.config/fish/config.fish
    """
    click.echo(completion_script(optim, shell), file=report_stream())


def _finish(report: Report, as_json: bool) -> NoReturn:
    emit(report, as_json)
    raise click.exceptions.Exit(report.status)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the `optim` command and exit with its status.

    Args:
        arguments: those of the command line if None.
    """
    optim.main(args=None if arguments is None else list(arguments), prog_name="optim")
