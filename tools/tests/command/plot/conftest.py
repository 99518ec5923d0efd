"""Keys and a configuration to plot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optim_core.discovery.registry import OPTIMIZER_BUILDER_REGISTRY
from tools_support.plotted_schedules import Cyclic, Failing, Warm


@pytest.fixture(autouse=True)
def _factories(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for key, factory in {"warm": Warm, "cyclic": Cyclic, "failing": Failing}.items():
        OPTIMIZER_BUILDER_REGISTRY.register(key, factory)
    monkeypatch.chdir(folder)


@pytest.fixture
def config(folder: Path) -> Callable[..., str]:
    """Writes a configuration of components to a file, and returns its name."""

    def write(name: str = "config.yaml", /, **components: dict[str, Any]) -> str:
        (folder / name).write_text(json.dumps({"model": {"component_optims": components}}), encoding="utf-8")
        return name

    return write
