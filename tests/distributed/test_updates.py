"""On two processes the schedule counts optimizer updates, and the weights are those of one process."""

import pytest

pytestmark = pytest.mark.slow

FLOATS = ["warmup cosine", "one cycle", "sgd", "schedule-free"]
TENSORS = ["warmup cosine, tensor", "one cycle, tensor", "sgd, tensor"]
each_subject = pytest.mark.parametrize("subject", FLOATS + TENSORS)
each_wrap = pytest.mark.parametrize("wrap", ["ddp", "fsdp"])


@each_wrap
@each_subject
@pytest.mark.parametrize("layout", ["plain", "frozen", "two groups", "late group"])
def test_every_update_counts_once_and_moves_the_weights_as_on_one_process(two_processes, wrap, subject, layout):
    two_processes("updates.counts_updates", subject, wrap, layout)


@each_wrap
@each_subject
def test_accumulated_gradients_are_one_update(two_processes, wrap, subject):
    two_processes("updates.counts_updates_and_not_backward_passes", subject, wrap)


# PyTorch has no fused SGD for sharded parameters.
@pytest.mark.parametrize(
    ("subject", "wrap", "implementation"),
    [
        *(("warmup cosine", wrap, way) for wrap in ("ddp", "fsdp") for way in ("foreach", "fused")),
        *(("one cycle", wrap, way) for wrap in ("ddp", "fsdp") for way in ("foreach", "fused")),
        ("sgd", "ddp", "foreach"),
        ("sgd", "ddp", "fused"),
        ("sgd", "fsdp", "foreach"),
    ],
)
def test_the_way_an_update_is_calculated_makes_no_difference(two_processes, subject, wrap, implementation):
    two_processes("updates.implementation_makes_no_difference", subject, wrap, implementation)
