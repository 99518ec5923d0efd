"""torch.distributed.checkpoint: reading changes nothing, training continues exactly, other groups are refused."""

import itertools

import pytest

pytestmark = pytest.mark.slow

FLOATS = ["warmup cosine", "one cycle", "sgd", "schedule-free"]
TENSORS = ["warmup cosine, tensor", "one cycle, tensor", "sgd, tensor"]
ROUTES = [
    "sharded",
    "full",
    "full, by rank 0",
    "flattened",
    "flattened full",
    "flattened full, by rank 0",
    "on disk",
    "on disk, flattened",
]
each_subject = pytest.mark.parametrize("subject", FLOATS + TENSORS)
each_wrap = pytest.mark.parametrize("wrap", ["ddp", "fsdp"])


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "checkpoint")


@each_wrap
@each_subject
@pytest.mark.parametrize(
    ("layout", "route"),
    [("plain", "sharded"), ("frozen", "flattened full"), ("two groups", "flattened")],
)
def test_reading_a_fresh_optimizer_changes_nothing(two_processes, wrap, subject, layout, route):
    two_processes("checkpoints.reading_changes_nothing", subject, wrap, layout, route)


@each_wrap
@pytest.mark.parametrize("route", ["sharded", "flattened"])
def test_an_optimizer_without_state_stays_where_it_is(two_processes, wrap, route):
    two_processes("checkpoints.stateless_optimizer_stays_where_it_is", wrap, route)


@pytest.mark.parametrize(
    ("subject", "route"),
    [
        *itertools.product(FLOATS, ROUTES),
        *itertools.product(TENSORS, ["sharded", "flattened full, by rank 0", "on disk, flattened"]),
    ],
)
def test_a_fresh_sharded_optimizer_continues_exactly(two_processes, folder, subject, route):
    two_processes("checkpoints.continues_exactly", subject, "fsdp", "plain", route, 5, folder)


@each_subject
@pytest.mark.parametrize("route", ["full", "flattened full, by rank 0"])
def test_a_fresh_data_parallel_optimizer_continues_exactly(two_processes, folder, subject, route):
    two_processes("checkpoints.continues_exactly", subject, "ddp", "plain", route, 5, folder)


@each_subject
@pytest.mark.parametrize(
    ("wrap", "layout", "route"),
    [
        ("fsdp", "two groups", "full, by rank 0"),
        ("fsdp", "named groups", "on disk"),
        ("fsdp", "late group", "on disk, flattened"),
        ("ddp", "frozen", "on disk, flattened"),
        ("ddp", "late group", "flattened"),
    ],
)
def test_groups_and_frozen_parameters_continue_exactly(two_processes, folder, subject, wrap, layout, route):
    two_processes("checkpoints.continues_exactly", subject, wrap, layout, route, 5, folder)


@each_wrap
@pytest.mark.parametrize("subject", FLOATS)
@pytest.mark.parametrize("after", [0, 2])
def test_the_checkpoint_may_be_of_any_moment(two_processes, folder, wrap, subject, after):
    # Before the first update; and in the warmup, where the next rate is higher than the last.
    two_processes("checkpoints.continues_exactly", subject, wrap, "plain", "on disk", after, folder)


@each_wrap
@each_subject
def test_an_optimizer_that_went_on_goes_back_exactly(two_processes, wrap, subject):
    two_processes("checkpoints.rewinds_exactly", subject, wrap, "sharded")


each_move = pytest.mark.parametrize(
    ("subject", "wrap", "layout", "route"),
    [
        *((subject, "ddp", "plain", "on disk") for subject in FLOATS),
        *((subject, "fsdp", "frozen", "on disk") for subject in FLOATS),
        *((subject, "fsdp", "two groups", "on disk, flattened") for subject in FLOATS + TENSORS),
    ],
)


@each_move
def test_what_two_processes_save_one_continues(two_processes, one_process, folder, subject, wrap, layout, route):
    two_processes("checkpoints.save", subject, wrap, layout, route, 5, folder)
    one_process("checkpoints.resume", subject, "none", layout, route, 5, folder)


@each_move
def test_what_one_process_saves_two_continue(two_processes, one_process, folder, subject, wrap, layout, route):
    one_process("checkpoints.save", subject, "none", layout, route, 5, folder)
    two_processes("checkpoints.resume", subject, wrap, layout, route, 5, folder)


# Without names PyTorch finds each parameter's state all the same, and makes up the groups that the optimizer
# has, each with the options of one of the saved groups that its parameters were in: nothing to refuse is left.
@pytest.mark.parametrize("subject", FLOATS)
@pytest.mark.parametrize(
    ("saved", "layout"), [("named groups", "named"), ("named", "named groups"), ("renamed", "plain")]
)
@pytest.mark.parametrize("route", ["sharded", "flattened"])
def test_the_state_of_other_groups_or_names_is_refused_and_changes_nothing(
    two_processes, subject, saved, layout, route
):
    two_processes("checkpoints.refuses", subject, "fsdp", saved, layout, route)
