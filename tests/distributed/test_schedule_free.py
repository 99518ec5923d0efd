"""The schedule-free optimizer's training and evaluation weights on two processes."""

import pytest

pytestmark = pytest.mark.slow

each_wrap = pytest.mark.parametrize("wrap", ["ddp", "fsdp"])


@each_wrap
def test_the_evaluation_weights_are_the_average(two_processes, wrap):
    two_processes("schedule_free.evaluates_the_average", "schedule-free", wrap)


@pytest.mark.parametrize(
    ("wrap", "route"),
    [
        *(("fsdp", route) for route in ("sharded", "full, by rank 0", "on disk", "on disk, flattened")),
        ("ddp", "full"),
        ("ddp", "on disk, flattened"),
    ],
)
@pytest.mark.parametrize("after", [0, 5])
def test_a_checkpoint_of_the_evaluation_mode_continues_exactly(two_processes, tmp_path, wrap, route, after):
    folder = str(tmp_path / "checkpoint")
    two_processes("schedule_free.continues_from_evaluation_mode", "schedule-free", wrap, route, after, folder)


@each_wrap
@pytest.mark.parametrize("route", ["sharded", "full", "flattened"])
def test_reading_in_evaluation_mode_changes_nothing(two_processes, wrap, route):
    two_processes("schedule_free.reading_in_evaluation_mode_changes_nothing", "schedule-free", wrap, route)


@each_wrap
def test_switching_before_the_first_update_leaves_no_state(two_processes, wrap):
    two_processes("schedule_free.switching_before_the_first_update_leaves_no_state", "schedule-free", wrap)


@pytest.mark.parametrize(("wrap", "reshard"), [("ddp", "never"), ("fsdp", "by hand"), ("fsdp", "never")])
def test_an_evaluation_leaves_training_as_it_was(two_processes, wrap, reshard):
    two_processes("schedule_free.evaluation_leaves_training_as_it_was", "schedule-free", wrap, reshard)


@each_wrap
def test_an_evaluation_is_of_the_evaluation_weights(two_processes, wrap):
    two_processes("schedule_free.evaluation_is_of_the_evaluation_weights", "schedule-free", wrap)
