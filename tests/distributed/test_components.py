"""`ComponentOptimizers` over data-parallel and sharded networks, and its own checkpoints by rank 0."""

import pytest

pytestmark = pytest.mark.slow

each_wrap = pytest.mark.parametrize("wrap", ["ddp", "ddp of each", "fsdp"])


@each_wrap
def test_the_updates_are_those_of_one_process(two_processes, wrap):
    two_processes("components.updates_are_those_of_one_process", "built", wrap)


@each_wrap
def test_an_evaluation_leaves_no_trace(two_processes, wrap):
    two_processes("components.evaluation_leaves_no_trace", "built", wrap)


@each_wrap
@pytest.mark.parametrize(("how", "after"), [("one by one", 0), ("one by one", 5), ("flattened", 5), ("together", 5)])
def test_torch_distributed_checkpoint_continues_exactly(two_processes, tmp_path, wrap, how, after):
    two_processes("components.continues_exactly", "built", wrap, how, after, str(tmp_path / "checkpoint"))


@pytest.mark.parametrize("wrap", ["ddp", "ddp of each"])
@pytest.mark.parametrize("after", [0, 5])
def test_what_rank_0_saves_every_process_continues_exactly(two_processes, tmp_path, wrap, after):
    two_processes("components.rank_0_saves_and_all_load", "built", wrap, after, str(tmp_path / "checkpoint"))


def test_a_sharded_network_is_not_saved_in_part(two_processes, tmp_path):
    two_processes("components.sharded_network_is_not_saved_in_part", "built", "fsdp", str(tmp_path / "checkpoint"))
