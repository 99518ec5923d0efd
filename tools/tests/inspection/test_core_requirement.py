"""The versions of the core that a plugin requires."""

from __future__ import annotations

import pytest

from optim_tools.inspection import core_requirement as module


@pytest.mark.parametrize(
    ("version", "requirement"),
    [
        ("0.1.0", "optim-core>=0.1,<0.2"),
        ("0.9.3.dev1", "optim-core>=0.9,<0.10"),
        ("1.4.2", "optim-core>=1,<2"),
    ],
)
def test_requirement_admits_the_series_of_the_installed_core(
    monkeypatch: pytest.MonkeyPatch, version: str, requirement: str
) -> None:
    monkeypatch.setattr(module, "__version__", version)

    assert module.core_requirement() == requirement
    assert module.tools_requirement() == requirement.replace("core", "tools")
