"""A small network in training, on one process or on two, with any of the optimizers under test."""

import contextlib
import copy
import functools
import math
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from optim_adamw_onecycle import AdamWWithOneCycle
from optim_adamw_warmup_cosine import AdamWWithWarmupCosine
from optim_core import ScheduledOptimizer, WarmupCosine
from optim_schedule_free_radam import ScheduleFreeRAdam
from workspace_support import naive_optimizers as naive

TOTAL, WARMUP, PEAK, LOWEST = 12, 3, 0.05, 0.005
UPDATES = 8
"""How many updates a training makes, if nothing else is said."""
LATE = 2
"""The update before which the layout "late group" adds its second group."""
BETA2 = 0.9
"""Of the schedule-free optimizer: so short an average that the rectification begins with the fifth update."""

assert_same = functools.partial(torch.testing.assert_close, rtol=0, atol=0)
# Where the order of a sum differs: that of a batch's samples over the processes. In double precision.
assert_close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)


class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    """What an outsider writes."""


def warmup_cosine(step, peak):
    """The options that update number `step` is to apply, by the formula, for a group with this peak."""
    if step < WARMUP:
        rate = PEAK * step / WARMUP
    else:
        progress = min(1, (step - WARMUP) / (TOTAL - 1 - WARMUP))
        rate = LOWEST + (PEAK - LOWEST) * (1 + math.cos(math.pi * progress)) / 2
    return {"lr": rate * peak / PEAK}


def one_cycle(step, peak):
    def between(first, last, progress):
        return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2

    # A quarter of the 12 steps rises: the highest is step 2, the last step 11.
    if step <= 2:
        return {"lr": between(peak / 25, peak, step / 2), "betas": (between(0.95, 0.85, step / 2), 0.999)}
    progress = (min(step, 11) - 2) / 9
    return {"lr": between(peak, peak / 25e4, progress), "betas": (between(0.85, 0.95, progress), 0.999)}


def schedule_free(step, peak):
    """The options after `step` updates: their number, and the rate that the last of them applied."""
    if not step:
        return {"lr": peak, "k": 0, "scheduled_lr": 0.0}
    # RAdam's rectification, Liu et al. 2020, where the average is long enough.
    longest = 2 / (1 - BETA2) - 1
    length = longest - 2 * step * BETA2**step / (1 - BETA2**step)
    factor = 1.0
    if length > 4:
        factor = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
    return {"lr": peak, "k": step, "scheduled_lr": peak * factor}


@dataclass(frozen=True)
class Subject:
    """An optimizer under test.

    Attributes:
        kind: its class.
        options: what it is built with, rates aside.
        expected: the group options at a step, by the formula written out.
        rate: the name of the argument for the highest rate.
        number: what a rate is given as.
    """

    kind: type
    options: dict
    expected: object
    rate: str
    number: type = float

    def arguments(self):
        return {**self.options, self.rate: self.number(PEAK)}

    def build(self, params):
        return self.kind(params, **self.arguments())

    def position(self, optimizer):
        """The number of updates, where the class itself says it."""
        optimizer = getattr(optimizer, "optim", optimizer)  # inside of a ZeroRedundancyOptimizer
        if isinstance(optimizer, ScheduledOptimizer):
            return optimizer.schedule_step
        if hasattr(optimizer, "scheduler"):
            return optimizer.scheduler.last_epoch
        return optimizer.param_groups[0]["k"]


_WARMUP_COSINE = {"total_steps": TOTAL, "warmup_steps": WARMUP, "end_lr": LOWEST}
_ONE_CYCLE = {"total_steps": TOTAL, "pct_start": 0.25}
_SGD = {"schedule": WarmupCosine(peak_lr=PEAK, **_WARMUP_COSINE), "momentum": 0.9}
_SCHEDULE_FREE = {"betas": (0.9, BETA2), "silent_sgd_phase": False}

SUBJECTS = {
    "warmup cosine": Subject(AdamWWithWarmupCosine, _WARMUP_COSINE, warmup_cosine, "peak_lr"),
    "warmup cosine, tensor": Subject(AdamWWithWarmupCosine, _WARMUP_COSINE, warmup_cosine, "peak_lr", torch.tensor),
    "one cycle": Subject(AdamWWithOneCycle, _ONE_CYCLE, one_cycle, "max_lr"),
    "one cycle, tensor": Subject(AdamWWithOneCycle, _ONE_CYCLE, one_cycle, "max_lr", torch.tensor),
    "sgd": Subject(ScheduledSGD, _SGD, warmup_cosine, "lr"),
    "sgd, tensor": Subject(ScheduledSGD, _SGD, warmup_cosine, "lr", torch.tensor),
    "schedule-free": Subject(ScheduleFreeRAdam, _SCHEDULE_FREE, schedule_free, "lr"),
    "naive warmup cosine": Subject(naive.NaiveWarmupCosine, _WARMUP_COSINE, warmup_cosine, "peak_lr"),
    "naive one cycle": Subject(naive.NaiveOneCycle, _ONE_CYCLE, one_cycle, "max_lr"),
    "naive schedule-free": Subject(naive.NaiveScheduleFreeInTraining, _SCHEDULE_FREE, schedule_free, "lr"),
}


def network(seed=0):
    """Layers of 5, 3 and 1 outputs: over two processes two are split unevenly, and one isn't split."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def wrapped(model, wrap):
    """The model as it is ("none"), data-parallel ("ddp") or sharded over the processes ("fsdp")."""
    if wrap == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if wrap == "fsdp":
        mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
        fully_shard(model[0], mesh=mesh)
        return fully_shard(model, mesh=mesh)
    return model


def whole(tensor):
    """A copy of a tensor, in one piece where it is sharded."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


def own_part(tensor):
    """A copy of what this process has of a tensor; without communication."""
    tensor = tensor.detach()
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).clone()


class Training:
    """A network, its optimizer, and the number of updates made.

    Args:
        subject: the name of one of SUBJECTS.
        wrap: see `wrapped`; unless it is "none", each process has its half of every batch.
        layout: of the parameters: "plain" is one group with all of them; in "frozen" the middle
            layer is not trainable; "two groups" has the first layer at the peak and the others in a
            group at 0.3 of it; "late group" adds the second of these when training has begun. "named"
            and "named groups" are "plain" and "two groups" with the parameters' names given.
        seed: of the initial weights.
        make: makes the optimizer, given its class, the parameters and what else it takes.
        options: of the optimizer, beside the subject's.
    """

    def __init__(self, subject, wrap, layout="plain", *, seed=0, make=None, **options):
        self.subject = SUBJECTS[subject]
        self.layout = layout
        self.updates = 0
        network_ = network(seed)
        if layout == "frozen":
            network_[2].requires_grad_(False)
        self.model = wrapped(network_, wrap)
        self._distributed = wrap != "none"
        everything = list(network_.named_parameters() if layout.startswith("named") else network_.parameters())
        first, rest = everything[:2], everything[2:]
        self._second_group = {"params": rest, "lr": self.subject.number(0.3 * PEAK)}
        if layout in ("two groups", "named groups"):
            params = [{"params": first}, self._second_group]
        else:
            params = first if layout == "late group" else everything
        make = make or (lambda kind, params, arguments: kind(params, **arguments))
        self.optimizer = make(self.subject.kind, params, {**self.subject.arguments(), **options})

    def batch(self):
        """The samples of the next update: this process's, or all of them."""
        generator = torch.Generator().manual_seed(100 + self.updates)
        inputs = torch.randn(8, 6, generator=generator, dtype=torch.float64)
        targets = inputs[:, :1].cos() + inputs[:, 1:2]
        if not self._distributed:
            return inputs, targets
        rank, share = distributed.get_rank(), 8 // distributed.get_world_size()
        mine = slice(rank * share, (rank + 1) * share)
        return inputs[mine], targets[mine]

    def update(self, parts=1):
        """Make one update, of gradients accumulated over `parts` of the batch."""
        if self.layout == "late group" and self.updates == LATE:
            self.add_second_group()
        self.model.zero_grad()
        inputs, targets = self.batch()
        pieces = list(zip(inputs.chunk(parts), targets.chunk(parts), strict=True))
        for index, (x, y) in enumerate(pieces):
            with self._synchronized(index == parts - 1):
                ((self.model(x) - y).square().mean() / parts).backward()
        self.optimizer.step()
        self.updates += 1

    def _synchronized(self, last):
        if isinstance(self.model, nn.parallel.DistributedDataParallel) and not last:
            return self.model.no_sync()
        if hasattr(self.model, "set_requires_gradient_sync"):
            self.model.set_requires_gradient_sync(last)
        return contextlib.nullcontext()

    def add_second_group(self):
        self.optimizer.add_param_group(self._second_group)

    def named_parameters(self):
        model = self.model.module if isinstance(self.model, nn.parallel.DistributedDataParallel) else self.model
        return dict(model.named_parameters())

    def weights(self):
        """A copy of all weights, each whole, by name; all processes have to ask for it."""
        return {name: whole(parameter) for name, parameter in self.named_parameters().items()}

    def history(self, until):
        """This process's part of the weights after each update, up to that number of updates.

        Every position is checked.
        """
        weights = []
        while self.updates < until:
            self.update()
            self.assert_position()
            weights.append({name: own_part(parameter) for name, parameter in self.named_parameters().items()})
        return weights

    def assert_position(self):
        """Each group is where it is to be after the updates made, by the formula."""
        assert_same(self.subject.position(self.optimizer), self.updates)
        steps, peaks = [self.updates, self.updates], [PEAK, 0.3 * PEAK]
        if self.layout == "late group" and self.subject.expected is schedule_free:
            # No schedule to join: a group's average of weights is of the updates that the group made.
            steps[1] -= LATE
        for group, step, peak in zip(self.optimizer.param_groups, steps, peaks, strict=False):
            expected = self.subject.expected(step, peak)
            actual = {name: _plain(group[name]) for name in expected}
            # A rate that is a tensor is a float32.
            rtol = 1e-12 if self.subject.number is float else 1e-6
            torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-15)


def _plain(value):
    if isinstance(value, torch.Tensor):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def assert_same_options(actual, expected):
    """Two results of `group_options` are the same, whatever the options are."""
    names = [[sorted(group) for group in groups] for groups in (actual, expected)]
    assert names[0] == names[1], f"{names[0]} and not {names[1]}"
    for ours, theirs in zip(actual, expected, strict=True):
        for name, value in ours.items():
            other = theirs[name]
            if isinstance(value, tuple) and isinstance(other, list):
                other = tuple(other)  # PyTorch makes lists of tuples on some routes
            if isinstance(value, list) and isinstance(other, tuple):
                other = list(other)
            assert type(value) is type(other), f"{name} is a {type(value)} and not a {type(other)}"
            assert value == other, f"{name} is {value!r} and not {other!r}"


def group_options(optimizer):
    """A copy of all options of all groups."""
    return [
        {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
