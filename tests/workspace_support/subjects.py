"""The three built-ins and the obvious ways to write them, as subjects of the same checks.

Each check runs on built-ins, and on the obvious way to write them (`naive_optimizers.py`): there it
must fail, or be listed as one that the obvious way happens to pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schedulefree
import torch
from torch import nn

from optim_adamw_onecycle import AdamWWithOneCycle
from optim_adamw_warmup_cosine import AdamWWithWarmupCosine
from optim_schedule_free_radam import ScheduleFreeRAdam
from workspace_support.naive_optimizers import NaiveOneCycle, NaiveScheduleFreeInTraining, NaiveWarmupCosine

TOTAL, PEAK = 12, 0.05


@dataclass(frozen=True)
class Subject:
    """An optimizer to check: how to make it, how to ask for its position, and its rates by formula."""

    name: str
    make: Callable[..., Any]
    position: Callable[[Any], int]
    rate: Callable[[int], float] | None

    def __str__(self) -> str:
        return self.name


def warmup_cosine(step: int) -> float:
    if step < 3:
        return PEAK * step / 3
    return 0.01 + (PEAK - 0.01) * (1 + math.cos(math.pi * (min(step, TOTAL - 1) - 3) / (TOTAL - 1 - 3))) / 2


def one_cycle(step: int) -> float:
    """PyTorch's own, on an optimizer of its own."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, TOTAL, cycle_momentum=False)
    for _ in range(min(step, TOTAL - 1)):
        optimizer.step()
        scheduler.step()
    rate: float = scheduler.get_last_lr()[0]
    return rate


def scheduled(optimizer: Any) -> int:
    return optimizer.schedule_step if hasattr(optimizer, "schedule_step") else optimizer.scheduler.last_epoch


def counted(optimizer: Any) -> int:
    return int(optimizer.param_groups[0]["k"])


def make_warmup_cosine(cls: Any) -> Callable[..., Any]:
    return lambda params, peak=PEAK, **options: cls(params, peak, TOTAL, warmup_steps=3, end_lr=0.01, **options)


def make_one_cycle(cls: Any) -> Callable[..., Any]:
    return lambda params, peak=PEAK, **options: cls(params, peak, TOTAL, **options)


def make_schedule_free(cls: Any) -> Callable[..., Any]:
    def make(params: Any, peak: float = PEAK, **options: Any) -> Any:
        options.pop("fused", None)
        # From the first step on, so that every step moves the parameters.
        return cls(params, lr=peak, silent_sgd_phase=False, **options)

    return make


COSINE = Subject("warmup_cosine", make_warmup_cosine(AdamWWithWarmupCosine), scheduled, warmup_cosine)
CYCLE = Subject("one_cycle", make_one_cycle(AdamWWithOneCycle), scheduled, one_cycle)
FREE = Subject("schedule_free", make_schedule_free(ScheduleFreeRAdam), counted, None)
NAIVE_COSINE = Subject("naive_warmup_cosine", make_warmup_cosine(NaiveWarmupCosine), scheduled, warmup_cosine)
NAIVE_CYCLE = Subject("naive_one_cycle", make_one_cycle(NaiveOneCycle), scheduled, one_cycle)
NAIVE_FREE = Subject("naive_schedule_free", make_schedule_free(NaiveScheduleFreeInTraining), counted, None)
NAIVE_OF = {COSINE: NAIVE_COSINE, CYCLE: NAIVE_CYCLE, FREE: NAIVE_FREE}
ALL = (COSINE, CYCLE, FREE)
WITH_SCHEDULE = (COSINE, CYCLE)

Check = Callable[[Subject, Path], None]


def plain() -> list[Any]:
    """Optimizers that aren't checked, but of which making one changes its class for good."""
    parameter = [nn.Parameter(torch.ones(1))]
    return [torch.optim.AdamW(parameter), schedulefree.RAdamScheduleFree(parameter)]


class Checks:
    """The checks of one test file, each a function of a subject and a folder; calling it registers one."""

    def __init__(self) -> None:
        self._registered: dict[str, tuple[Check, tuple[Subject, ...], tuple[Subject, ...]]] = {}

    def __call__(self, *subjects: Subject, naive_passes: tuple[Subject, ...] = ()) -> Callable[[Check], Check]:
        """Have a function run on built-ins, and on the naive ones, of which some pass all the same."""

        def register(function: Check) -> Check:
            self._registered[function.__name__] = (function, subjects, naive_passes)
            return function

        return register

    def tests(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """The tests that the file has to name `test_built_in` and `test_naive_implementation_is_caught`."""
        checked = [(name, subject) for name, (_, subjects, _) in self._registered.items() for subject in subjects]

        @pytest.mark.parametrize(("name", "subject"), [pytest.param(n, s, id=f"{n}-{s}") for n, s in checked])
        def test_built_in(name: str, subject: Subject, tmp_path: Path) -> None:
            self._registered[name][0](subject, tmp_path)

        @pytest.mark.filterwarnings("ignore")  # of no matter in what must fail
        @pytest.mark.parametrize(
            ("name", "subject"), [pytest.param(n, NAIVE_OF[s], id=f"{n}-{NAIVE_OF[s]}") for n, s in checked]
        )
        def test_naive_implementation_is_caught(name: str, subject: Subject, tmp_path: Path) -> None:
            function, _, passing = self._registered[name]
            if subject in passing:
                function(subject, tmp_path)
                return
            with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever way it fails
                function(subject, tmp_path)
            assert not isinstance(caught.value, KeyboardInterrupt)

        return test_built_in, test_naive_implementation_is_caught
