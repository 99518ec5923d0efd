"""The call of PyTorch's fused kernel, beside PyTorch's public function for it.

The kernel is called by a private name on a CPU: where that changes, these tests fail.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim.adamw import adamw

from optim_core.pytorch.fused_adamw import TensorLists, update_fused

OPTIONS: dict[str, Any] = {
    "amsgrad": False,
    "lr": 0.05,
    "betas": (0.8, 0.95),
    "weight_decay": 0.1,
    "eps": 1e-6,
    "maximize": False,
    "capturable": False,
}


def lists(*dtypes: torch.dtype, amsgrad: bool = False) -> TensorLists:
    """Parameters of several types and sizes with gradients and state, the same at each call."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(3, 5), (7,), (), (0,), (40_000,)]
    dtypes = (dtypes * len(shapes))[: len(shapes)]

    def tensors() -> list[torch.Tensor]:
        pairs = zip(shapes, dtypes, strict=True)
        return [torch.rand(shape, generator=generator).to(dtype) for shape, dtype in pairs]

    return tensors(), tensors(), tensors(), tensors(), tensors() if amsgrad else [], [torch.tensor(4.0) for _ in shapes]


def as_pytorch_does(tensors: TensorLists, group: dict[str, Any], **scaling: Any) -> None:
    beta1, beta2 = group["betas"]
    options = {name: value for name, value in group.items() if name != "betas"}
    adamw(*tensors, fused=True, foreach=False, beta1=beta1, beta2=beta2, **options, **scaling)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"amsgrad": True, "maximize": True},
        {"weight_decay": 0.0, "capturable": True},
        {"lr": torch.tensor(0.05)},
        {"betas": (torch.tensor(0.8), torch.tensor(0.95))},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "dtypes",
    [(torch.float32,), (torch.float64,), (torch.float32, torch.bfloat16, torch.float64, torch.float16)],
    ids=["float32", "float64", "mixed"],
)
def test_update_is_that_of_pytorchs_function_bit_for_bit(
    changes: dict[str, Any], dtypes: tuple[torch.dtype, ...]
) -> None:
    group = OPTIONS | changes
    ours, theirs = (lists(*dtypes, amsgrad=group["amsgrad"]) for _ in range(2))

    for _ in range(3):
        update_fused(ours, group, None, None)
        as_pytorch_does(theirs, group)

    for found, expected in zip(ours, theirs, strict=True):
        assert all(map(torch.equal, found, expected))
    assert ours[5][0] == 7
    assert not torch.equal(ours[0][0], lists(*dtypes)[0][0])


@pytest.mark.parametrize("overflow", [0.0, 1.0])
def test_scaled_gradients_are_unscaled_and_an_overflow_skips_the_update(overflow: float) -> None:
    scaling = {"grad_scale": torch.tensor(8.0), "found_inf": torch.tensor(overflow)}
    ours, theirs = lists(torch.float32), lists(torch.float32)

    update_fused(ours, OPTIONS, **scaling)
    as_pytorch_does(theirs, OPTIONS, **scaling)

    for found, expected in zip(ours, theirs, strict=True):
        assert all(map(torch.equal, found, expected))
    assert torch.equal(ours[0][0], lists(torch.float32)[0][0]) is bool(overflow)


def test_without_any_gradient_nothing_is_done() -> None:
    update_fused(([], [], [], [], [], []), OPTIONS, None, None)
