"""What is raised where a check has nothing to look at."""

from __future__ import annotations

__all__ = ["NotApplicable"]


class NotApplicable(Exception):  # noqa: N818 - no error: there is nothing to be checked
    """There is nothing that a check could look at: no schedule, no modes, no device.

    Attributes:
        reason: what there isn't.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
