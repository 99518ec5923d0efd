"""Optimizer classes as others write them: some can be wrapped by a factory, others can't."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable
from typing import Any, Literal, Optional

import torch
from torch.optim import Optimizer


class Plain(Optimizer):
    """Moves by the gradient. And does more.

    Args:
        lr: the rate. Should be small.
        mode (str): how to go (default: "fast")
        betas: two of them (default: (0.9, 0.99))
    """

    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 1e-2,
        betas: tuple[float, float] = (0.9, 0.99),
        mode: Literal["fast", "slow"] = "fast",
        every=10,
        limit=None,
        scale: float = None,  # noqa: RUF013
        hook: Optional[Callable[[], None]] = None,  # noqa: UP045
        dtype=torch.float32,
        tags: list[str] = [],  # noqa: B006
        _private: int = 0,
        cap=float("inf"),
    ) -> None:
        if not lr > 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError("out of range")
        super().__init__(params, {"lr": lr, "betas": betas})

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data -= group["lr"] * parameter.grad


class Derived(Plain):
    def __init__(self, params: Any, extra: int = 3, **kwargs: Any) -> None:
        super().__init__(params, mode="slow", **kwargs)


class Handing(Plain):
    """Hands everything on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Inheriting(Plain):
    pass


class Required(Plain):
    def __init__(self, params: Any, total_steps: int, lr) -> None:
        super().__init__(params, lr)


class ByPosition(Plain):
    def __init__(self, params: Any, lr: float = 0.1, /, momentum: float = 0.0) -> None:
        super().__init__(params, lr)


class Decorated(Plain):
    @functools.wraps(Plain.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class NoStep(Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


class OverModel(Plain):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model.parameters())


class OverOptimizer(Plain):
    def __init__(self, inner: Optimizer) -> None:
        super().__init__(inner.param_groups)


class OverNames(Plain):
    def __init__(self, params: Any) -> None:
        super().__init__([parameter for _, parameter in params])


class NeedsCallable(Plain):
    def __init__(self, params: Any, hook: Callable[[], None]) -> None:
        super().__init__(params)


class NeedsText(Plain):
    def __init__(self, params: Any, path: str) -> None:
        super().__init__(params)


class Raises(Plain):
    def __init__(self, params: Any) -> None:
        raise RuntimeError("no GPU")


class Quacks:
    def step(self) -> None: ...

    def zero_grad(self) -> None: ...


class MatricesOnly(Plain):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        params = list(params)
        if any(parameter.ndim != 2 for parameter in params):
            raise ValueError("matrices only")
        super().__init__(params, lr)


class NeedsClosure(Plain):
    def step(self, closure: Any) -> Any:
        return closure()


class LivesInGroups(Plain):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__([parameter for group in params for parameter in group["params"]], lr)


class TestOfPatience(Plain):
    """By its name pytest would take it for tests."""

    __test__ = False  # here


class Deprecated(Plain):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        warnings.warn("another is better", DeprecationWarning, stacklevel=2)
        super().__init__(params, lr)


class Talking(Plain):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        print("hello")  # noqa: T201
        logging.getLogger("talking").warning("hello")
        super().__init__(params, lr)
