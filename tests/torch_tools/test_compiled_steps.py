"""Compiled steps run the whole schedule without being compiled again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from workspace_support.fresh_process import run_alone
from workspace_support.subject_training import (
    Model,
    assert_rate,
    compilations,
)
from workspace_support.subjects import (
    FREE,
    NAIVE_COSINE,
    PEAK,
    TOTAL,
    WITH_SCHEDULE,
    Checks,
    Subject,
)

check = Checks()


def compiled_training(subject: Subject, **options: Any) -> None:
    model, reference = Model(), Model()
    optimizer = subject.make(model.parameters(), **options)
    oracle = subject.make(reference.parameters())

    assert 1 <= compilations(model, optimizer, reference, oracle) <= 2
    assert_rate(subject, optimizer, TOTAL)


# A torch scheduler fills a tensor rate in place too, and where it drives nothing else that is enough.
@check(*WITH_SCHEDULE, naive_passes=(NAIVE_COSINE,))
def compiled_step_with_a_tensor_rate_runs_the_schedule_in_two_compilations(subject: Subject, _: Path) -> None:
    compiled_training(subject, peak=torch.tensor(PEAK))


@check(FREE)
def compiled_step_of_a_constant_rate_needs_no_more(subject: Subject, _: Path) -> None:
    compiled_training(subject)


def test_compiled_step_that_is_the_first_of_the_process() -> None:
    run_alone(
        __file__,
        """
for subject in module.WITH_SCHEDULE:
    module.compiled_training(subject, peak=module.torch.tensor(module.PEAK))
module.compiled_training(module.FREE)
""",
    )


test_built_in, test_naive_implementation_is_caught = check.tests()
