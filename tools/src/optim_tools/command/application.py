"""The interface of the `optim` command: its subcommands with their arguments and options.

What a subcommand does is in a module of its own, imported when it runs: help, completion and `list`
answer in a moment, and import neither torch nor any plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from optim_core import __version__
from optim_tools.command.completion import SHELLS, FileOrKey, Key, completion_script
from optim_tools.command.failures import Command, CommandGroup
from optim_tools.command.report import Report, emit, report_stream

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
      optim verify KEY                   whether a plugin does all that training needs
      optim new NAME                     a plugin of your own, complete and working

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
    from optim_tools.command.list_keys import list_keys

    _finish(list_keys(load=load, timeout=timeout), as_json)


@optim.command("show", cls=Command, short_help="Show a key's parameters, and a YAML snippet.")
@click.argument("key", type=Key())
@click.option("--yaml", "only_yaml", is_flag=True, help="Print the YAML snippet only, as for `> config.yaml`.")
@_json
def show_command(key: str, only_yaml: bool, as_json: bool) -> NoReturn:
    """Show what KEY is: its parameters, their meaning, and a YAML snippet.

    Each parameter has its type, default, constraint and meaning. The snippet works as pasted.
    """
    from optim_tools.command.show_key import show_key

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
@click.option("--verbose", is_flag=True, help="With --model: list every parameter, by name, with its group.")
@_json
def check_command(config: Path, model: str | None, verbose: bool, as_json: bool) -> NoReturn:
    """Check the configuration file CONFIG, and report every problem at once.

    With --model, a table says which parameters are in which group, and which rule decided it. Notes say what is
    legal but surprising; they don't change the exit status.
    """
    from optim_core import ConfigurationError
    from optim_tools.command.configuration_file import UnreadableConfiguration, read_file

    if verbose and model is None:
        raise click.UsageError("--verbose lists the parameters of a model: give it with --model")
    try:
        configuration = read_file(config)
    except ConfigurationError as error:
        _finish(UnreadableConfiguration(error.subject, error.problems), as_json)
    # Only now: it imports torch.
    from optim_tools.command.check_configuration import check_configuration

    _finish(check_configuration(configuration, model=model, verbose=verbose), as_json)


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
    from optim_tools.command.plot_schedules import plot_schedules

    _finish(plot_schedules(target, params, output=output, steps=steps, scale=scale), as_json)


@optim.command("schema", cls=Command, short_help="Print the JSON Schema of a configuration or a key.")
@click.argument("key", type=Key(), required=False)
@_timeout
@click.option("--json", "as_json", is_flag=True, help="No difference: a schema is JSON anyway.")
def schema_command(key: str | None, timeout: int, as_json: bool) -> NoReturn:
    """Print the JSON Schema of a configuration, or of the parameters of one KEY.

    Give it to an editor, and it completes and checks the YAML.
    """
    from optim_tools.command.print_schema import print_schema

    _finish(print_schema(key, timeout=timeout), as_json)


@optim.command("new", cls=Command, short_help="Write a new plugin, complete and working.")
@click.argument("name")
@click.option("--bare", is_flag=True, help="Write only a factory, for an optimizer class that exists.")
@click.option(
    "--wrap",
    metavar="PACKAGE.MODULE:CLASS",
    help="Write a factory for this optimizer class: its arguments become the configuration's keys. The current "
    "folder's modules are found too.",
)
@click.option("--key", metavar="KEY", help="What a configuration says as `type`, if it isn't to be the name.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Where the new folder is made; here if not given.",
)
@click.option(
    "--license",
    "license_name",
    type=click.Choice(["MIT", "Apache-2.0", "BSD-3-Clause", "proprietary"], case_sensitive=False),
    default="MIT",
    show_default=True,
    help="The licence.",
)
@click.option("--author", metavar="NAME", help="Who it is by; git is asked if not given.")
@click.option("--email", metavar="ADDRESS", help="The author's address.")
@click.option(
    "--no-verify",
    is_flag=True,
    help="Don't hold a wrapped class to the conformance kit, from which its factory claims what is true of it.",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 86_400),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long one check of a wrapped class may take.",
)
@_json
def new_command(as_json: bool, no_verify: bool, **options: Any) -> NoReturn:
    """Write a new plugin into the folder optim-NAME: a distribution that installs and passes its own tests.

    It has an optimizer on a schedule that trains as it stands, for you to put your own formula into; with
    --wrap it is about an optimizer class that exists.

    \b
    optim new my-lion
    optim new nadam --wrap torch.optim:NAdam
    """
    from optim_tools.command.new_plugin import new_plugin

    _finish(new_plugin(**options, verify=not no_verify), as_json)


@optim.command("verify", cls=Command, short_help="Check that a key's optimizer does all that training needs.")
@click.argument("key", type=Key(), required=False)
@click.argument("params", nargs=-1, metavar="[PARAM=VALUE]...")
@click.option(
    "--check",
    "checks",
    multiple=True,
    metavar="ID",
    help="Carry out this check, or this family of checks (as `state`), and no other; can be given repeatedly.",
)
@click.option("--list", "only_list", is_flag=True, help="List the checks and why they matter; goes without KEY.")
@click.option(
    "--timeout",
    type=click.IntRange(1, 86_400),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="How long one check may take.",
)
@_json
def verify_command(
    key: str | None, params: tuple[str, ...], checks: tuple[str, ...], only_list: bool, timeout: int, as_json: bool
) -> NoReturn:
    """Check that the optimizer of KEY does all that training needs, and all that its author claims.

    It is built with its factory's example_params, or with the parameters given. The checks run in a process of
    their own: a plugin that crashes or hangs costs the check in which it does.

    \b
    optim verify adamw_warmup_cosine_decay
    optim verify adamw_warmup_cosine_decay --check state --check packaging
    """
    from optim_tools.command.verify_key import list_checks, verify_key

    if only_list and key is None:
        _finish(list_checks(checks), as_json)
    if only_list:
        raise click.UsageError("--list is about all keys: leave KEY out, or --list")
    if key is None:
        raise click.UsageError("Missing argument 'KEY'. `optim list` has those there are")
    _finish(verify_key(key, params, checks, timeout=timeout), as_json)


@optim.command("doctor", cls=Command, short_help="Examine the environment and every plugin.")
@_timeout
@_json
def doctor_command(timeout: int, as_json: bool) -> NoReturn:
    """Examine the environment: versions, and every plugin in a process of its own.

    Says what is broken and the command that mends it; the exit status is 1 then.
    """
    from optim_tools.command.examine_environment import examine_environment

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
