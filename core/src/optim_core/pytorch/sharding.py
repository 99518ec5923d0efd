"""Tensors that are spread over several processes."""

from __future__ import annotations

from torch import Tensor

__all__ = ["is_sharded"]


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is one over several processes (PyTorch's DTensor), each of which has a part."""
    # Asked by its method: importing torch.distributed.tensor takes a second.
    return hasattr(tensor, "to_local")
