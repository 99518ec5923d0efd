"""torch.distributed.checkpoint: models whose layers are in another order continue exactly, other groups are refused."""

import pytest

pytestmark = pytest.mark.slow

each_subject = pytest.mark.parametrize("subject", ["warmup cosine", "one cycle", "schedule-free", "adamw"])
each_way = pytest.mark.parametrize("how", ["one by one", "flattened", "together"])


@each_subject
@pytest.mark.parametrize(
    ("rules", "how"), [("ordered groups", "one by one"), ("rates", "flattened"), ("two groups", "together")]
)
def test_a_reordered_sharded_model_continues_exactly(two_processes, subject, rules, how):
    two_processes("reordered.continues_exactly", subject, "fsdp", rules, how, None)


@each_subject
@each_way
def test_a_reordered_sharded_model_continues_exactly_from_disk(two_processes, tmp_path, subject, how):
    two_processes("reordered.continues_exactly", subject, "fsdp", "two groups", how, str(tmp_path / "checkpoint"))


@each_subject
@each_way
def test_a_reordered_model_of_one_process_continues_exactly(one_process, subject, how):
    one_process("reordered.continues_exactly", subject, "none", "ordered groups", how, None)


@each_subject
@pytest.mark.parametrize(
    ("before", "after"), [("one group", "two groups"), ("two groups", "one group"), ("ordered groups", "two groups")]
)
@pytest.mark.parametrize("how", ["one by one", "flattened"])
def test_the_state_of_other_rules_is_refused(two_processes, subject, before, after, how):
    two_processes("reordered.refuses", subject, "fsdp", before, after, how)


@pytest.mark.parametrize("subject", ["warmup cosine", "adamw"])
@pytest.mark.parametrize("how", ["one by one", "flattened"])
def test_what_was_saved_without_names_is_taken(two_processes, tmp_path, subject, how):
    two_processes("reordered.takes_what_was_saved_without_names", subject, "fsdp", how, str(tmp_path / "checkpoint"))
