"""The versions of the core that are compatible with the installed one, as a requirement has them."""

from __future__ import annotations

from packaging.version import Version

from optim_core import __version__

__all__ = ["core_requirement"]


def core_requirement() -> str:
    """`optim-core>=0.1,<0.2` for every 0.1.x, and `optim-core>=1,<2` for every 1.x."""
    version = Version(__version__)
    lower, upper = (version.major + later if version.major else f"0.{version.minor + later}" for later in (0, 1))
    return f"optim-core>={lower},<{upper}"
