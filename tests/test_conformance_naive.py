"""The kit says of the obvious ways to write an optimizer with a schedule what is wrong with them."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from optim_tools.conformance import Subject, verify
from workspace_support.naive_optimizers import NaiveOneCycle, NaiveScheduleFree, NaiveWarmupCosine


class Factory:
    """A factory of a class that takes its rate and its horizon by position."""

    example_params: ClassVar[dict[str, Any]] = {"peak_lr": 1e-3, "total_steps": 100}

    def __init__(self, peak_lr: float, total_steps: int) -> None:
        self.arguments = (peak_lr, total_steps)


class WarmupCosineFactory(Factory):
    def build(self, params: Any) -> Any:
        return NaiveWarmupCosine(params, *self.arguments)


class OneCycleFactory(Factory):
    def build(self, params: Any) -> Any:
        return NaiveOneCycle(params, *self.arguments)


class ScheduleFreeFactory:
    example_params: ClassVar[dict[str, Any]] = {"lr": 0.0025}

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def build(self, params: Any) -> Any:
        return NaiveScheduleFree(params, lr=self.lr)


HOLDING_A_SCHEDULER = {
    "construction-arguments-unchanged",  # torch schedulers write into the caller's groups
    "training-late-group",
    "schedule-late-group",
    "state-pickle",
    "state-deepcopy",
    "state-without-schedule",
    "state-memory-freed",
    "tools-step-hooks",
    "tools-distributed-reading",
    "tools-distributed-round-trip",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("factory", "faults"),
    [
        (WarmupCosineFactory, HOLDING_A_SCHEDULER),
        (
            OneCycleFactory,
            HOLDING_A_SCHEDULER | {"schedule-group-peak", "training-group-rate", "schedule-held-past-end"},
        ),
        (
            ScheduleFreeFactory,
            {
                "construction-arguments-unchanged",
                "training-gradients-unchanged",
                "tools-distributed-round-trip",
                "tools-compile",
                "modes-start",
                "modes-idempotent",
                "modes-late-group",
            },
        ),
    ],
)
def test_naive_optimizer_fails_the_checks_of_its_faults(factory: type, faults: set[str]) -> None:
    assert {result.identifier for result in verify(Subject(factory)) if result.outcome.is_fault} == faults
