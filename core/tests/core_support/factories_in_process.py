"""Two factories to register in the process of a test; nothing asks them to build."""

from __future__ import annotations


class Mine:
    def build(self, params: object) -> None: ...


class Other:
    def build(self, params: object) -> None: ...
