"""The scenarios catch what an optimizer that holds a scheduler of PyTorch's (`naive_optimizers.py`) gets wrong.

It gets right, so that these scenarios say nothing against it: updates with one group that is there
from the beginning (LambdaLR: several), accumulated gradients, a ZeroRedundancyOptimizer that is never
saved, and the checkpoints of ComponentOptimizers. The schedulefree package's own optimizer also gets
right: every update, its average, an evaluation under DistributedDataParallel, and states that never
leave memory nor change their form.
"""

import pytest

pytestmark = pytest.mark.slow

COSINE, CYCLE, FREE = "naive warmup cosine", "naive one cycle", "naive schedule-free"
NO_SCHEDULER = "KeyError: 'scheduler'"
each_wrap = pytest.mark.parametrize("wrap", ["ddp", "fsdp"])


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "checkpoint")


def fails(reason):
    """The failure of a scenario, for the reason that it is there for."""
    return pytest.raises(AssertionError, match=reason)


@each_wrap
@pytest.mark.parametrize(
    ("subject", "layout", "reason"),
    [
        # LambdaLR refuses, or in PyTorch 2.6 leaves the group that it doesn't know as it is.
        (COSINE, "late group", r"zip\(\) argument 2 is shorter|in assert_position(.|\n)*item \['lr'\]"),
        (CYCLE, "late group", "KeyError: 'max_lr'"),
        (CYCLE, "two groups", "in assert_position(.|\n)*item \\['lr'\\]"),
    ],
)
def test_groups_of_their_own_rate_or_added_late(two_processes, wrap, subject, layout, reason):
    with fails(reason):
        two_processes("updates.counts_updates", subject, wrap, layout)


@each_wrap
@pytest.mark.parametrize("route", ["sharded", "flattened full"])
@pytest.mark.parametrize(
    ("subject", "reason"),
    [(COSINE, "in assert_position(.|\n)*Expected 0 but got 1"), (CYCLE, "betas is"), (FREE, "states are empty")],
)
def test_reading_moves_it(two_processes, wrap, route, subject, reason):
    with fails(reason):
        two_processes("checkpoints.reading_changes_nothing", subject, wrap, "plain", route)


@pytest.mark.parametrize(
    ("subject", "wrap", "route"),
    [
        *((COSINE, "fsdp", route) for route in ("sharded", "full", "full, by rank 0", "flattened", "flattened full")),
        *((COSINE, "fsdp", route) for route in ("flattened full, by rank 0", "on disk", "on disk, flattened")),
        *((CYCLE, "ddp", route) for route in ("full", "on disk, flattened")),
    ],
)
def test_its_position_is_not_in_a_distributed_checkpoint(two_processes, folder, subject, wrap, route):
    with fails(NO_SCHEDULER):
        two_processes("checkpoints.continues_exactly", subject, wrap, "plain", route, 5, folder)


@each_wrap
@pytest.mark.parametrize(
    ("route", "reason"),
    [
        ("full", "Expected device to be set|assert device is not None"),
        ("flattened full, by rank 0", "Expected device to be set|assert device is not None"),
        ("flattened", "in continues_exactly(.|\n)*not equal"),
        ("on disk", "in continues_exactly(.|\n)*not equal"),
    ],
)
def test_empty_entries_of_the_schedule_free_state_are_taken_for_the_state(two_processes, folder, wrap, route, reason):
    with fails(reason):
        two_processes("checkpoints.continues_exactly", FREE, wrap, "plain", route, 5, folder)


@each_wrap
@pytest.mark.parametrize(("subject", "reason"), [(COSINE, NO_SCHEDULER), (CYCLE, NO_SCHEDULER), (FREE, "keys of the")])
def test_another_number_of_processes(two_processes, one_process, folder, wrap, subject, reason):
    two_processes("checkpoints.save", subject, wrap, "plain", "on disk", 5, f"{folder}-2")
    with fails(reason):
        one_process("checkpoints.resume", subject, "none", "plain", "on disk", 5, f"{folder}-2")
    one_process("checkpoints.save", subject, "none", "plain", "on disk", 5, f"{folder}-1")
    with fails(reason):
        two_processes("checkpoints.resume", subject, wrap, "plain", "on disk", 5, f"{folder}-1")


@pytest.mark.parametrize("subject", [COSINE, FREE])
@pytest.mark.parametrize(
    ("saved", "layout", "route"),
    [
        ("two groups", "plain", "sharded"),
        ("named", "named groups", "flattened"),
        ("renamed", "plain", "flattened"),
    ],
)
def test_the_state_of_other_groups_or_names(two_processes, subject, saved, layout, route):
    # Taken as it is; or refused for want of the scheduler, when the rest is changed already.
    with fails("was taken for|not equal|No comparison pair"):
        two_processes("checkpoints.refuses", subject, "fsdp", saved, layout, route)


@pytest.mark.parametrize("subject", [COSINE, CYCLE])
@pytest.mark.parametrize("way", ["by class", "by partial", "in buckets"])
def test_inside_of_a_zero_redundancy_optimizer_it_starts_again(two_processes, folder, subject, way):
    with fails("in assert_position(.|\n)*Expected 5 but got 0"):
        two_processes("zero_redundancy.continues_exactly", subject, "plain", way, 5, folder)


@each_wrap
def test_the_two_sets_of_weights(two_processes, folder, wrap):
    with fails("not equal"):
        two_processes("schedule_free.continues_from_evaluation_mode", FREE, wrap, "on disk", 5, folder)
    with fails("in reading_in_evaluation_mode"):
        two_processes("schedule_free.reading_in_evaluation_mode_changes_nothing", FREE, wrap, "sharded")
    with fails("in switching_before"):
        two_processes("schedule_free.switching_before_the_first_update_leaves_no_state", FREE, wrap)


def test_an_evaluation_of_a_sharded_network(two_processes):
    with fails("not equal"):
        two_processes("schedule_free.evaluation_leaves_training_as_it_was", FREE, "fsdp", "never")
    with fails("not close"):
        two_processes("schedule_free.evaluation_is_of_the_evaluation_weights", FREE, "fsdp")


@pytest.mark.parametrize("wrap", ["ddp", "ddp of each", "fsdp"])
@pytest.mark.parametrize("how", ["one by one", "flattened", "together"])
def test_components_through_torch_distributed_checkpoint(two_processes, folder, wrap, how):
    with fails(NO_SCHEDULER):
        two_processes("components.continues_exactly", "naive", wrap, how, 5, folder)
