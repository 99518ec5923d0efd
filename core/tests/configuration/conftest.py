"""A file with a configuration."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from core_support.configuration_files import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else dedent(content).encode())
        return path

    return write
