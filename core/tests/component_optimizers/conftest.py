"""Two components, one after the other."""

from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture
def models() -> dict[str, nn.Linear]:
    torch.manual_seed(0)
    return {"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)}
