"""The wrappers that PyTorch puts around modules, and what is inside."""

from __future__ import annotations

from torch import nn

__all__ = ["unwrapped"]


def unwrapped(module: nn.Module) -> nn.Module:
    """The module that was wrapped for data-parallel training or compilation, or the module itself."""
    while True:
        if isinstance(module, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            # torch.compile(module) has no public name for what it wraps.
            module = inner
        else:
            return module
