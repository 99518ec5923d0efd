"""Requirements for the versions of the core and of its tools that are compatible with the installed ones."""

from __future__ import annotations

from packaging.version import Version

from optim_core import __version__

__all__ = ["core_requirement", "tools_requirement"]


def core_requirement() -> str:
    """`optim-core>=0.2,<0.3` for every 0.2.x, and `optim-core>=1,<2` for every 1.x."""
    return f"optim-core{_compatible_range()}"


def tools_requirement() -> str:
    """The same range of `optim-tools`, which has the core's version."""
    return f"optim-tools{_compatible_range()}"


def _compatible_range() -> str:
    version = Version(__version__)
    lower, upper = (version.major + later if version.major else f"0.{version.minor + later}" for later in (0, 1))
    return f">={lower},<{upper}"
