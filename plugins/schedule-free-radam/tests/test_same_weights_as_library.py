"""Schedule-free RAdam trains the weights that the schedulefree library's own class does, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from optim_core import (
    ScheduleWarning,
    build_optimizers,
)
from optim_schedule_free_radam import ScheduleFreeRAdam, ScheduleFreeRAdamFactory
from radam_support.plain_training import give_gradients, identical, model, of_library, trained, update, weights

KEY = "schedule_free_radam"


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("silent_sgd_phase", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.05},
        {"lr": 0.05, "weight_decay": 0.1, "r": 1.0, "eps": 1e-6},
        {"lr": 0.05, "betas": (0.8, 0.9), "weight_lr_power": 0.0},
    ],
    ids=str,
)
def test_parameters_are_bit_for_bit_the_librarys_through_switches_of_mode(
    foreach: bool, silent_sgd_phase: bool, options: dict[str, Any]
) -> None:
    options = {**options, "foreach": foreach, "silent_sgd_phase": silent_sgd_phase}
    ours, theirs = model(), model()
    optimizer = ScheduleFreeRAdamFactory(**options).build(ours.parameters())
    oracle = of_library(theirs, **options)

    for step in range(14):
        if step in (2, 6, 7, 11):
            optimizer.eval()
            oracle.eval()
            assert identical(ours, theirs)
            optimizer.train()
            oracle.train()
        update(theirs, oracle, step)
        update(ours, optimizer, step)

        assert identical(ours, theirs)
    assert not identical(ours, model())


def test_closure_is_called_once_with_gradients_enabled() -> None:
    _, optimizer = trained(0)
    calls: list[bool] = []

    def closure() -> float:
        calls.append(torch.is_grad_enabled())
        return 7.5

    assert optimizer.step(closure) == 7.5
    assert calls == [True]


def test_late_group_trains_as_the_librarys_group_in_training_mode() -> None:
    ours, theirs = model(), model()
    optimizer, oracle = ScheduleFreeRAdam(ours[0].parameters(), lr=0.05), of_library(theirs[0], lr=0.05)
    for module, each in ((ours, optimizer), (theirs, oracle)):
        for step in range(6):
            update(module, each, step)
        each.add_param_group({"params": list(module[2].parameters()), "lr": 0.02})
        each.train()
        for step in range(8):
            update(module, each, step)
        each.eval()

    assert identical(ours, theirs)


HOOKS = """
import sys
import schedulefree
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from optim_schedule_free_radam import ScheduleFreeRAdam

def of_library():
    return schedulefree.RAdamScheduleFree([torch.nn.Parameter(torch.ones(1))])

if sys.argv[1] == "library first":
    of_library()
optimizer = ScheduleFreeRAdam([torch.nn.Parameter(torch.ones(1))])
if sys.argv[1] == "library last":
    of_library()
calls = []
register_optimizer_step_pre_hook(lambda *_: calls.append("global pre"))
register_optimizer_step_post_hook(lambda *_: calls.append("global post"))
optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
optimizer.register_step_post_hook(lambda *_: calls.append("post"))
optimizer.step()
print(*sorted(calls), sep=",")
"""


@pytest.mark.parametrize("order", ["library first", "library last"])
def test_step_hooks_run_once_whatever_was_made_before(order: str) -> None:
    # In a process of its own: making the library's optimizer anywhere changes its class for good.
    result = subprocess.run([sys.executable, "-c", HOOKS, order], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "global post,global pre,post,pre"


def test_step_without_gradients_counts() -> None:
    _, optimizer = trained(0)

    optimizer.step()

    assert optimizer.param_groups[0]["k"] == 1


def test_configured_optimizer_evaluates_with_the_averaged_weights() -> None:
    ours, theirs = model(), model()
    optimizers = build_optimizers({"net": ours}, {"net": {"type": KEY, "params": {"lr": "5e-2", "betas": [0.8, 0.9]}}})
    oracle = of_library(theirs, lr=0.05, betas=(0.8, 0.9))
    for step in range(8):
        update(theirs, oracle, step)
        update(ours, optimizers["net"], step)
    training = weights(theirs)

    oracle.eval()
    with optimizers.eval_mode():
        assert identical(ours, theirs)

    torch.testing.assert_close(weights(ours), training)
    optimizers.step()


def test_rate_changed_from_outside_is_warned_of_once_and_used() -> None:
    module, reference = model(), model()
    optimizer = ScheduleFreeRAdam(module.parameters(), lr=0.1, silent_sgd_phase=False)
    oracle = of_library(reference, lr=0.1, silent_sgd_phase=False)
    for step in range(4):
        for each in (optimizer, oracle):
            each.param_groups[0]["lr"] = 0.1 / (step + 1)
        if step == 1:
            give_gradients(module, optimizer, step)
            with pytest.warns(ScheduleWarning, match=r"from 0\.1 to 0\.05.*take away the scheduler") as caught:
                optimizer.step()
            assert caught[0].filename == __file__
        else:
            update(module, optimizer, step)
        update(reference, oracle, step)
    assert identical(module, reference)
