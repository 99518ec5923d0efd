"""The `optim` command: what is installed, what a configuration means, what its schedules look like."""

from optim_tools.command.application import main

__all__ = ["main"]
