"""What the author of a factory claims of the optimizers that it builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

__all__ = ["Claims"]


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What the conformance kit is to hold a factory's optimizers to, as its class attribute `CLAIMS`.

    What is not claimed is not checked, and shown as not claimed; a user learns from it what not to try.

    >>> from typing import ClassVar
    >>> from optim_core import Claims
    >>> class MatrixFactory:
    ...     "An optimizer of matrices, which nobody has tried on complex ones."
    ...     CLAIMS: ClassVar[Claims] = Claims(vectors=False, scalars=False, empty=False)

    Attributes:
        closure: `step(closure)` evaluates the closure and returns its loss.
        needs_closure: `step()` can't do without a closure, as that of `torch.optim.LBFGS`.
        groups: several parameter groups, each with options of its own.
        vectors: parameters of one dimension; without it, every parameter of the checks is a matrix.
        scalars: parameters of no dimension.
        empty: parameters without any element.
        bfloat16: parameters in half precision, of the type that has float32's range.
        complex: complex parameters.
        sparse: sparse gradients.
        unchanged_gradients: `step()` leaves the gradients as they are.
        grad_scaler: `torch.amp.GradScaler` can skip an update.
        distributed_checkpoint: `torch.distributed.checkpoint` saves and restores the optimizer.
        compile: a training step under `torch.compile`, without compiling anew at every step.
        schedule: whether the optimizer drives a learning-rate schedule; None to have that found out.
        horizon: how many updates the schedule covers, or the argument of the factory that says so; None to have
            that found out, from a `ScheduledOptimizer` or from an argument such as `total_steps`.
        expected_failures: identifiers of checks that are known to fail, each with the reason. One
            that passes after all is an error, so that the list stays true.

    Raises:
        TypeError: a flag is neither true nor false, or `expected_failures` is no mapping.
    """

    closure: bool = True
    needs_closure: bool = False
    groups: bool = True
    vectors: bool = True
    scalars: bool = True
    empty: bool = True
    bfloat16: bool = True
    complex: bool = False
    sparse: bool = False
    unchanged_gradients: bool = True
    grad_scaler: bool = True
    distributed_checkpoint: bool = True
    compile: bool = True
    schedule: bool | None = None
    horizon: int | str | None = None
    expected_failures: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        flags = [flag for flag in fields(self) if flag.name not in ("expected_failures", "horizon")]
        wrong = [
            f"{flag.name} = {value!r}: must be true or false"
            for flag in flags
            if not isinstance(value := getattr(self, flag.name), bool) and not (value is None and flag.default is None)
        ]
        if self.needs_closure and not self.closure:
            wrong.append("needs_closure: goes with closure only")
        if not isinstance(self.expected_failures, Mapping):
            wrong.append("expected_failures: must be a mapping of checks to the reasons why they fail")
        if wrong:
            raise TypeError(f"Claims: {'; '.join(wrong)}")
