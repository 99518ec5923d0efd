"""The built-in optimizers pass all that they claim, as any plugin has to."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

from optim_core.testing import CHECKS, OptimizerConformance


class TestAdamWWithWarmupCosine(OptimizerConformance):
    factory = "adamw_warmup_cosine_decay"


class TestAdamWWithOneCycle(OptimizerConformance):
    factory = "adamw_cosine_schedule"


class TestScheduleFreeRAdam(OptimizerConformance):
    factory = "schedule_free_radam"


def test_the_command_says_the_same() -> None:
    # One of them, for the sake of time.
    script = Path(sysconfig.get_path("scripts"), "optim")
    command = [script, "verify", TestAdamWWithWarmupCosine.factory, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=580)
    document = json.loads(result.stdout)
    assert [check for check in document["checks"] if check["outcome"] in ("failed", "unexpected pass")] == []
    assert [check["identifier"] for check in document["checks"]] == [check.identifier for check in CHECKS]
    assert (result.returncode, document["ok"]) == (0, True)
