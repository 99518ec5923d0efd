"""PyTorch's distributed checkpoints, in one process: reading changes nothing, and training continues exactly."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)

from workspace_support.subject_training import (
    Model,
    assert_goes_on_alike,
    assert_rate,
    assert_same,
    trained,
)
from workspace_support.subjects import (
    ALL,
    NAIVE_FREE,
    PEAK,
    WITH_SCHEDULE,
    Checks,
    Subject,
)

check = Checks()


def reading_changes_nothing(subject: Subject, options: StateDictOptions) -> None:
    model, reference = Model(), Model()
    optimizer = subject.make(model.parameters())
    before = copy.deepcopy(optimizer.state_dict()["param_groups"])

    get_optimizer_state_dict(model, optimizer, options=options)

    assert optimizer.state_dict()["param_groups"] == before
    assert_rate(subject, optimizer, 0)
    assert_same(model, reference)
    assert [float(state["step"]) for state in optimizer.state.values() if "step" in state] in ([], [0.0] * 4)
    assert_goes_on_alike(subject, reference, subject.make(reference.parameters()), model, optimizer)


# The library's class leaves an empty state behind when it switches modes, for which the checkpointer
# takes it as initialised: nothing happens here, and nothing is restored below.
@check(*ALL, naive_passes=(NAIVE_FREE,))
def reading_a_fresh_state_changes_nothing(subject: Subject, _: Path) -> None:
    reading_changes_nothing(subject, StateDictOptions())


@check(*ALL, naive_passes=(NAIVE_FREE,))
def reading_a_fresh_state_flattened_changes_nothing(subject: Subject, _: Path) -> None:
    reading_changes_nothing(subject, StateDictOptions(flatten_optimizer_state_dict=True))


@check(*ALL, naive_passes=(NAIVE_FREE,))
def reading_an_optimizer_of_frozen_parameters_changes_nothing(subject: Subject, _: Path) -> None:
    model, reference = Model(), Model()
    optimizer = subject.make(model.parameters())
    model.requires_grad_(False)
    for _ in range(3):
        get_optimizer_state_dict(model, optimizer)
    assert_rate(subject, optimizer, 0)
    model.requires_grad_(True)
    assert_goes_on_alike(subject, reference, subject.make(reference.parameters()), model, optimizer)


def set_continues_exactly(subject: Subject, options: StateDictOptions) -> None:
    model, optimizer = trained(subject)
    other = Model()
    other.load_state_dict(model.state_dict())
    twin = subject.make(other.parameters())
    # A copy: PyTorch's own load shares the tensors of the state with the optimizer.
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    set_optimizer_state_dict(other, twin, state, options=options)
    assert_goes_on_alike(subject, model, optimizer, other, twin)


@check(*ALL, naive_passes=(NAIVE_FREE,))
def distributed_state_continues_exactly(subject: Subject, _: Path) -> None:
    set_continues_exactly(subject, StateDictOptions())


@check(*ALL)
def flattened_distributed_state_continues_exactly(subject: Subject, _: Path) -> None:
    set_continues_exactly(subject, StateDictOptions(flatten_optimizer_state_dict=True))


@check(*ALL)
def full_distributed_state_continues_exactly(subject: Subject, _: Path) -> None:
    set_continues_exactly(subject, StateDictOptions(full_state_dict=True, cpu_offload=True))


def dcp_round_trip(subject: Subject, folder: Path, options: StateDictOptions, **made_with: Any) -> None:
    model, optimizer = trained(subject, **made_with)
    saved = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer, options=options), strict=True))
    torch.distributed.checkpoint.save(saved, storage_writer=FileSystemWriter(folder))
    other = Model()
    twin = subject.make(other.parameters(), **made_with)
    target = dict(zip(("model", "optimizer"), get_state_dict(other, twin, options=options), strict=True))
    torch.distributed.checkpoint.load(target, storage_reader=FileSystemReader(folder))
    set_state_dict(
        other,
        twin,
        model_state_dict=target["model"],  # type: ignore[arg-type]
        optim_state_dict=target["optimizer"],  # type: ignore[arg-type]
        options=options,
    )
    assert_goes_on_alike(subject, model, optimizer, other, twin)


@check(*ALL)
def checkpoint_on_disk_continues_exactly(subject: Subject, folder: Path) -> None:
    dcp_round_trip(subject, folder, StateDictOptions())


@check(*ALL)
def flattened_checkpoint_on_disk_continues_exactly(subject: Subject, folder: Path) -> None:
    dcp_round_trip(subject, folder, StateDictOptions(flatten_optimizer_state_dict=True))


@check(*WITH_SCHEDULE)
def checkpoint_on_disk_of_tensor_rates_continues_exactly(subject: Subject, folder: Path) -> None:
    dcp_round_trip(subject, folder, StateDictOptions(), peak=torch.tensor(PEAK))


@check(*WITH_SCHEDULE)
def flattened_checkpoint_on_disk_of_tensor_rates_continues_exactly(subject: Subject, folder: Path) -> None:
    dcp_round_trip(subject, folder, StateDictOptions(flatten_optimizer_state_dict=True), peak=torch.tensor(PEAK))


test_built_in, test_naive_implementation_is_caught = check.tests()
