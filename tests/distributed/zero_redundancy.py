"""Scenarios: PyTorch's ZeroRedundancyOptimizer, where each process updates some of the parameters.

What it does not support:

- To switch a schedule-free optimizer between training and evaluation weights. `train()` and `eval()`
  are those of the optimizer inside, `.optim`, and move the parameters of their own process only;
  nothing public sends them to the others.
- To overlap updates with the backward pass (`overlap_with_ddp`), for a class that PyTorch has no
  functional form of, as it has of some of its own.
- To add a group with a rate of its own where one of the arguments has the name of a group option that
  the optimizer inside sets, as `peak_lr` has: it makes every argument an option of every group, and
  puts its own groups' options into those inside before each update. In a `functools.partial` there
  is no argument that it knows of.
"""

import copy
import functools
import warnings

import torch
from checkpoints import fresh, uninterrupted
from torch import distributed
from training import UPDATES, Training, assert_same

from optim_core import WarmupCosine

with warnings.catch_warnings():
    # PyTorch's package compiles its functional optimizers by what it calls deprecated itself.
    warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
    from torch.distributed.optim import ZeroRedundancyOptimizer


def _by_class(kind, params, arguments, **options):
    """As PyTorch's documentation has it."""
    return ZeroRedundancyOptimizer(params, optimizer_class=kind, **options, **arguments)


def _by_partial(kind, params, arguments, **options):
    return ZeroRedundancyOptimizer(params, optimizer_class=functools.partial(kind, **arguments), **options)


def _in_buckets(kind, params, arguments):
    return _by_class(kind, params, arguments, parameters_as_bucket_view=True)


WAYS = {"by class": _by_class, "by partial": _by_partial, "in buckets": _in_buckets}


def continues_exactly(subject, layout, way, after, folder):
    """So does the optimizer itself, without a ZeroRedundancyOptimizer around it, from the same state."""
    if layout == "late group":
        # It has the new group's highest rate for its current one until the next update has been made.
        warnings.filterwarnings("ignore", "the learning rate of parameter group 1 of .* was changed from outside")
    training = Training(subject, "ddp", layout, make=WAYS[way])
    weights = _history(training, after)
    assert_same(weights, uninterrupted(subject, "ddp", layout)[:after])

    training.optimizer.consolidate_state_dict(to=0)
    if distributed.get_rank() == 0:
        torch.save([training.optimizer.state_dict(), training.model.state_dict()], f"{folder}.pt")
    distributed.barrier()
    # ZeroRedundancyOptimizer has put the schedule that it was given into every group.
    with torch.serialization.safe_globals([WarmupCosine]):
        state, weights = torch.load(f"{folder}.pt", weights_only=True)
    for options in ({"make": WAYS[way]}, {}):
        resumed = fresh(subject, "ddp", layout, after, **options)
        resumed.model.load_state_dict(weights)
        # A copy: optimizers keep the tensors they load, and a ZeroRedundancyOptimizer takes its part out.
        resumed.optimizer.load_state_dict(copy.deepcopy(state))
        resumed.updates = after
        assert_same(_history(resumed, UPDATES), uninterrupted(subject, "ddp", layout)[after:])
    assert_same(_history(training, UPDATES), uninterrupted(subject, "ddp", layout)[after:])


def process_without_parameters_keeps_up(subject):
    """Where there are more processes than parameters, too, all are at the same step."""
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(6, 1, bias=False).double())
    training = Training(subject, "ddp")
    optimizer = WAYS["by class"](training.subject.kind, model.parameters(), training.subject.arguments())
    for update in range(3):
        optimizer.zero_grad()
        model(torch.ones(4, 6, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        assert_same(training.subject.position(optimizer), update + 1)
    owned = [len(group["params"]) for group in optimizer.optim.param_groups]
    everywhere = [None] * distributed.get_world_size()
    distributed.all_gather_object(everywhere, owned)
    assert sorted(everywhere) == [[0], [1]]


def overlapping_is_not_supported(subject):
    training = Training(subject, "ddp")
    refusal = ""
    try:
        ZeroRedundancyOptimizer(
            training.model.parameters(), optimizer_class=training.subject.kind, overlap_with_ddp=True
        )
    except ValueError as error:
        refusal = str(error)
    assert "no supported functional optimizer" in refusal, f"PyTorch says: {refusal!r}"


def _history(training, until):
    """The weights after each update; the positions inside and outside are checked, before the first too."""
    weights = []
    while True:
        outer, training.optimizer = training.optimizer, getattr(training.optimizer, "optim", training.optimizer)
        training.assert_position()
        training.optimizer = outer
        if training.updates == until:
            return weights
        weights += training.history(training.updates + 1)
