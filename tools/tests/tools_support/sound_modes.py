"""A sound optimizer with modes: schedule-free SGD, which the broken ones of these tests differ from in one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from optim_core import Claims, EvaluationModeError

__all__ = ["SoundModes", "SoundModesFactory", "modes_factory_of"]


class SoundModes(torch.optim.Optimizer):
    """Schedule-free SGD ("The Road Less Scheduled", Defazio et al. 2024).

    In training mode a parameter holds y, the point of the gradients, which is (1 - beta) z + beta x
    for the iterate z and its average x; in evaluation mode it holds x.
    """

    def __init__(self, params: Any, lr: float, beta: float) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "train_mode": True})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        mode = self.param_groups[0]["train_mode"] if self.param_groups else True
        super().add_param_group({**param_group, "train_mode": mode})

    def step(self, closure: Any = None) -> Any:
        self.require_training()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.update(parameter, group["lr"], group["beta"])
        return loss

    def require_training(self) -> None:
        if not all(group["train_mode"] for group in self.param_groups):
            raise EvaluationModeError("call train() first")

    def update(self, y: torch.Tensor, lr: float, beta: float) -> None:
        state, gradient = self.state[y], y.grad
        if not state:
            state["z"], state["step"] = y.clone(memory_format=torch.preserve_format), torch.zeros(())
        state["step"] += 1
        share = (1 / state["step"]).to(y.dtype)
        y.lerp_(state["z"], share)
        y.add_(gradient * (lr * (beta * (1 - share) - 1)))
        state["z"].sub_(gradient, alpha=lr)

    def train(self) -> None:
        self.switch(True, lambda beta: 1 - beta)

    def eval(self) -> None:
        self.switch(False, lambda beta: 1 - 1 / beta)

    @torch.no_grad()
    def switch(self, train_mode: bool, weight: Any) -> None:
        for group in self.param_groups:
            if group["train_mode"] != train_mode:
                group["train_mode"] = train_mode
                for parameter in group["params"]:
                    if parameter in self.state:
                        parameter.lerp_(self.state[parameter]["z"], weight(group["beta"]))


@dataclass(frozen=True, kw_only=True)
class SoundModesFactory:
    """Schedule-free SGD."""

    CLAIMS: ClassVar[Claims] = Claims()
    example_params: ClassVar[dict[str, Any]] = {"lr": 0.5}
    optimizer: ClassVar[Any] = SoundModes

    lr: float
    beta: float = 0.9

    def build(self, params: Any) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self.optimizer(params, self.lr, self.beta)
        return optimizer


def modes_factory_of(cls: type[torch.optim.Optimizer]) -> type:
    """A factory like the sound one, for another class of optimizer."""
    return type(f"{cls.__name__}Factory", (SoundModesFactory,), {"optimizer": cls})
