"""Muon: PyTorch's own where it has one, which is since 2.9, and the same update written out for those before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

__all__ = ["Muon", "MuonBeforePyTorch29"]


class MuonBeforePyTorch29(torch.optim.Optimizer):
    """The update of `torch.optim.Muon`, for matrices only.

    Muon (Keller Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) makes the momentum of a
    matrix's gradient nearly orthogonal: with U S V^T for its singular value decomposition, the update is
    about U V^T, so that all directions move equally far.

    Args:
        params: matrices, in groups or not.
        lr: absolute learning rate.
        weight_decay: decoupled: each update takes `lr * weight_decay` of a weight away.
        momentum: coefficient of the running average of the gradient.
        nesterov: look ahead, as Nesterov's momentum does.
        ns_coefficients: of the polynomial in `orthogonalized`.
        eps: the least that a gradient's norm counts as.
        ns_steps: iterations of `orthogonalized`.
        adjust_lr_fn: "original" multiplies the rate by sqrt(max(1, rows / columns)), as Keller Jordan does;
            "match_rms_adamw" by 0.2 * sqrt(max(rows, columns)), by which the root mean square of an update
            is that of AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training", eq. 4).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state, momentum = self.state[matrix], group["momentum"]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                average = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
                direction = matrix.grad.lerp(average, momentum) if group["nesterov"] else average
                update = orthogonalized(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * _adjustment(group["adjust_lr_fn"], matrix))
        return loss


def orthogonalized(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, least_norm: float = 1e-7
) -> Tensor:
    """The nearly orthogonal matrix next to `matrix`, in bfloat16.

    Each Newton-Schulz iteration takes X to aX + (bA + cA^2)X, with A = XX^T, which moves all singular
    values towards one; the usual coefficients trade accuracy (0.7 to 1.2) for few steps.

    Args:
        matrix: of any two sizes.
        coefficients: a, b and c.
        steps: the number of iterations.
        least_norm: the least that the norm of `matrix` counts as.
    """
    a, b, c = coefficients
    is_tall = matrix.size(0) > matrix.size(1)
    x = matrix.bfloat16()
    # The product of a wide matrix with its transpose is the smaller one.
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=least_norm)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


def _adjustment(name: str | None, matrix: Tensor) -> float:
    rows, columns = matrix.shape
    return 0.2 * math.sqrt(max(rows, columns)) if name == "match_rms_adamw" else math.sqrt(max(1, rows / columns))


Muon: Callable[[ParamsT], torch.optim.Optimizer] = getattr(torch.optim, "Muon", MuonBeforePyTorch29)
"""What makes the updates; the one place where PyTorch's version matters."""
