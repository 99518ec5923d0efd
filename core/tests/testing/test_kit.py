"""The kit itself: for every check there is a deliberately broken optimizer that only it catches."""

from __future__ import annotations

import pytest
from broken_construction import BROKEN as BROKEN_CONSTRUCTION
from broken_modes import BROKEN as BROKEN_MODES
from broken_schedule import BROKEN as BROKEN_SCHEDULE
from broken_state import BROKEN as BROKEN_STATE
from broken_tools import BROKEN as BROKEN_TOOLS
from broken_training import BROKEN as BROKEN_TRAINING
from sound import SoundFactory
from sound_modes import SoundModesFactory

from optim_core.testing import CHECKS, Outcome, Subject, verify

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
    assert any(r.outcome is Outcome.PASSED for r in results)


def test_every_check_has_a_broken_optimizer() -> None:
    in_process = [check.identifier for check in CHECKS if check.family != "packaging"]
    assert sorted(BROKEN) == sorted(in_process)


@pytest.mark.parametrize(
    "identifier", [pytest.param(i, marks=pytest.mark.gpu if i in NEEDS_A_DEVICE else ()) for i in BROKEN]
)
def test_broken_optimizer_is_caught_by_its_check_alone(identifier: str) -> None:
    assert list(faults(BROKEN[identifier])) == [identifier]
