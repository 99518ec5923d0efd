"""Each optimizer inside of PyTorch's ZeroRedundancyOptimizer, under DistributedDataParallel."""

import pytest

pytestmark = pytest.mark.slow

FLOATS = ["warmup cosine", "one cycle", "sgd", "schedule-free"]
TENSORS = ["warmup cosine, tensor", "one cycle, tensor", "sgd, tensor"]


@pytest.mark.parametrize(
    ("subject", "layout", "way"),
    [
        (subject, layout, way)
        for subject in FLOATS + TENSORS
        for layout, way in [
            ("plain", "by class"),
            ("plain", "in buckets"),
            ("frozen", "by class"),
            ("two groups", "by class"),
            ("two groups", "by partial"),
            ("late group", "by class"),
            ("late group", "by partial"),
        ]
        # PyTorch would put its argument peak_lr in place of the new group's own.
        if not (subject.startswith("warmup cosine") and (layout, way) == ("late group", "by class"))
    ],
)
def test_every_update_counts_once_and_a_consolidated_state_continues_exactly(
    two_processes, tmp_path, subject, layout, way
):
    two_processes("zero_redundancy.continues_exactly", subject, layout, way, 5, str(tmp_path / "state"))


@pytest.mark.parametrize("subject", FLOATS)
def test_a_process_without_parameters_keeps_up(two_processes, subject):
    two_processes("zero_redundancy.process_without_parameters_keeps_up", subject)


@pytest.mark.parametrize("subject", FLOATS)
def test_overlapping_with_the_backward_pass_is_not_supported_by_pytorch(two_processes, subject):
    two_processes("zero_redundancy.overlapping_is_not_supported", subject)
