"""The kit itself: for every check there is a deliberately broken optimizer that only it catches."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from optim_core import Claims
from optim_tools.conformance import CHECKS, Outcome, Subject, verify
from tools_support.broken_construction import BROKEN as BROKEN_CONSTRUCTION
from tools_support.broken_modes import BROKEN as BROKEN_MODES
from tools_support.broken_schedule import BROKEN as BROKEN_SCHEDULE
from tools_support.broken_state import BROKEN as BROKEN_STATE
from tools_support.broken_tools import BROKEN as BROKEN_TOOLS
from tools_support.broken_training import BROKEN as BROKEN_TRAINING
from tools_support.sound_modes import SoundModesFactory
from tools_support.sound_optimizer import SoundAdamW, SoundFactory, factory_of

BROKEN: dict[str, type] = {
    **BROKEN_CONSTRUCTION,
    **BROKEN_TRAINING,
    **BROKEN_SCHEDULE,
    **BROKEN_STATE,
    **BROKEN_TOOLS,
    **BROKEN_MODES,
}
# Without another device than the CPU it can't be seen.
NEEDS_A_DEVICE = ("state-device-move",)


def faults(factory: type) -> dict[str, str]:
    """What each check that fails has seen."""
    return {result.identifier: result.seen for result in verify(Subject(factory)) if result.outcome.is_fault}


@pytest.mark.parametrize("factory", [SoundFactory, SoundModesFactory])
def test_sound_optimizer_passes_all_that_it_claims(factory: type) -> None:
    results = list(verify(Subject(factory)))
    assert {r.identifier: (r.outcome, r.seen) for r in results if r.outcome.is_fault} == {}
    # None is left out for no reason.
    assert sum(r.outcome is Outcome.PASSED for r in results) > 35


def test_every_check_has_a_broken_optimizer() -> None:
    in_process = [check.identifier for check in CHECKS if check.family != "packaging"]
    assert sorted(BROKEN) == sorted(in_process)


@pytest.mark.slow
@pytest.mark.parametrize(
    "identifier", [pytest.param(i, marks=pytest.mark.gpu if i in NEEDS_A_DEVICE else ()) for i in BROKEN]
)
def test_broken_optimizer_is_caught_by_its_check_alone(identifier: str) -> None:
    assert list(faults(BROKEN[identifier])) == [identifier]


class WalksAtRandom(SoundAdamW):
    """Adds noise of the size of its rate."""

    def update(self, closure: Any) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    with torch.no_grad():
                        parameter.add_(torch.randn_like(parameter).sign(), alpha=float(group["lr"]))


def test_falling_by_luck_is_no_training() -> None:
    assert "training-loss-falls" in faults(factory_of(WalksAtRandom))


class Warns(SoundFactory):
    """Warns whenever it builds, and draws a random number."""

    def build(self, params: Any) -> torch.optim.Optimizer:
        torch.rand(1)
        warnings.warn("old", DeprecationWarning, stacklevel=2)
        return super().build(params)


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_warnings_of_a_plugin_make_no_difference(action: Any) -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        results = list(verify(Subject(Warns), [c for c in CHECKS if c.family in ("construction", "training")]))
    assert [r.identifier for r in results if r.outcome is not Outcome.PASSED] == [
        "construction-arguments-unchanged",  # the random number
        "construction-sparse-gradients",
    ]
    assert torch.equal(before, torch.get_rng_state())


def test_a_schedule_that_is_there_cannot_be_denied() -> None:
    subject = Subject(SoundFactory, claims=Claims(complex=True, schedule=False))
    (result,) = verify(subject, [c for c in CHECKS if c.identifier == "construction-builds"])
    assert "Claims(schedule=False)" in result.seen


def test_a_horizon_that_shows_nothing_is_refused() -> None:
    subject = Subject(SoundFactory, {**SoundFactory.example_params, "total_steps": 7})
    (result,) = verify(subject, [c for c in CHECKS if c.identifier == "construction-builds"])
    assert result.seen == "its schedule is over after 7 updates"
