"""The built-in optimizers pass all that they claim, as any plugin has to."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch

from optim_tools.conformance import CHECKS, OptimizerConformance, Outcome, Subject, verify

pytestmark = pytest.mark.slow


class TestAdamWWithWarmupCosine(OptimizerConformance):
    factory = "adamw_warmup_cosine_decay"


class TestAdamWWithOneCycle(OptimizerConformance):
    factory = "adamw_cosine_schedule"


class TestScheduleFreeRAdam(OptimizerConformance):
    factory = "schedule_free_radam"


@pytest.mark.parametrize(
    ("key", "families", "more"),
    [
        ("adamw_warmup_cosine_decay", {"modes"}, set()),
        ("adamw_cosine_schedule", {"modes"}, set()),
        (
            "schedule_free_radam",
            {"schedule"},
            {
                "construction-complex-parameters",
                "training-gradients-unchanged",
                "state-scheduler-key",
                "state-without-schedule",
            },
        ),
    ],
)
def test_no_check_is_left_out_that_applies(key: str, families: set[str], more: set[str]) -> None:
    left_out = {"construction-sparse-gradients", *more}
    if not torch.cuda.is_available():
        left_out.add("state-device-move")
    results = list(verify(Subject(key)))
    assert {r.identifier for r in results if r.outcome is not Outcome.PASSED} == left_out | {
        check.identifier for check in CHECKS if check.family in families
    }


def test_the_command_says_the_same() -> None:
    # One of them, for the sake of time.
    script = Path(sysconfig.get_path("scripts"), "optim")
    command = [script, "verify", TestAdamWWithWarmupCosine.factory, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=580)
    document = json.loads(result.stdout)
    assert [check for check in document["checks"] if check["outcome"] in ("failed", "unexpected pass")] == []
    assert [check["identifier"] for check in document["checks"]] == [check.identifier for check in CHECKS]
    assert (result.returncode, document["ok"]) == (0, True)
