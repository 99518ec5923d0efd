"""The parameters of a key that are given on the command line, each as `name=value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optim_core import ConfigurationError, InvalidArgumentsError, OptimizerFactory
from optim_core.for_tools import construct_factory, read_value
from optim_tools.command.configuration_file import refusal
from optim_tools.command.failures import CommandError
from optim_tools.command.key_factory import command_line
from optim_tools.inspection.example import example_params

__all__ = ["constructed", "given_params"]


def given_params(params: Sequence[str]) -> dict[str, object]:
    """The parameters by name, each value as YAML reads it.

    Raises:
        CommandError: they can't be read (status 2).
    """
    given: dict[str, object] = {}
    for param in params:
        name, equals, text = param.partition("=")
        if not equals or not name:
            raise CommandError(f"{param!r} is no parameter: write it as name=value", status=2)
        if name in given:
            raise CommandError(f"{name} is given twice", status=2)
        try:
            given[name] = read_value(text)
        except ConfigurationError as error:
            raise CommandError(f"{name}: {error}", status=2) from error
    return given


def constructed(command: str, key: str, target: type, given: Mapping[str, Any]) -> OptimizerFactory:
    """The factory of `key`, constructed with what was given to `optim <command>`.

    Raises:
        CommandError: with every problem of the params, and with some that work.
    """
    try:
        return construct_factory(target, given)
    except InvalidArgumentsError as error:
        example = example_params(target)
        advice = None if example is None else f"For example: {command_line(command, key, example)}"
        raise refusal(key, error.problems, advice) from error
