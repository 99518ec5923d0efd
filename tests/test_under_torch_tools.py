"""The three built-ins under the tools of PyTorch that never expected an optimizer with a schedule.

Each check runs on every built-in, and on the obvious way to write it (`naive_optimizers.py`): there
it must fail, or be listed as one that the obvious way happens to pass.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import io
import itertools
import math
import pickle
import re
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from optim_adamw_onecycle import AdamWWithOneCycle
from optim_adamw_warmup_cosine import AdamWWithWarmupCosine
from optim_core import ComponentOptimizers, EvaluationModeError, ScheduleWarning, StateMismatchError, build_optimizers
from optim_schedule_free_radam import ScheduleFreeRAdam
from workspace_support.naive_optimizers import (
    NaiveOneCycle,
    NaiveScheduleFree,
    NaiveScheduleFreeInTraining,
    NaiveWarmupCosine,
)

TOTAL, PEAK = 12, 0.05


@dataclasses.dataclass(frozen=True)
class Subject:
    """An optimizer to check: how to make it, how to ask for its position, and its rates by formula."""

    name: str
    make: Callable[..., Any]
    position: Callable[[Any], int]
    rate: Callable[[int], float] | None

    def __str__(self) -> str:
        return self.name


def warmup_cosine(step: int) -> float:
    if step < 3:
        return PEAK * step / 3
    return 0.01 + (PEAK - 0.01) * (1 + math.cos(math.pi * (min(step, TOTAL - 1) - 3) / (TOTAL - 1 - 3))) / 2


def one_cycle(step: int) -> float:
    """PyTorch's own, on an optimizer of its own."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, TOTAL, cycle_momentum=False)
    for _ in range(min(step, TOTAL - 1)):
        optimizer.step()
        scheduler.step()
    rate: float = scheduler.get_last_lr()[0]
    return rate


def scheduled(optimizer: Any) -> int:
    return optimizer.schedule_step if hasattr(optimizer, "schedule_step") else optimizer.scheduler.last_epoch


def counted(optimizer: Any) -> int:
    return int(optimizer.param_groups[0]["k"])


def make_warmup_cosine(cls: Any) -> Callable[..., Any]:
    return lambda params, peak=PEAK, **options: cls(params, peak, TOTAL, warmup_steps=3, end_lr=0.01, **options)


def make_one_cycle(cls: Any) -> Callable[..., Any]:
    return lambda params, peak=PEAK, **options: cls(params, peak, TOTAL, **options)


def make_schedule_free(cls: Any) -> Callable[..., Any]:
    def make(params: Any, peak: float = PEAK, **options: Any) -> Any:
        options.pop("fused", None)
        # From the first step on, so that every step moves the parameters.
        return cls(params, lr=peak, silent_sgd_phase=False, **options)

    return make


COSINE = Subject("warmup_cosine", make_warmup_cosine(AdamWWithWarmupCosine), scheduled, warmup_cosine)
CYCLE = Subject("one_cycle", make_one_cycle(AdamWWithOneCycle), scheduled, one_cycle)
FREE = Subject("schedule_free", make_schedule_free(ScheduleFreeRAdam), counted, None)
NAIVE_COSINE = Subject("naive_warmup_cosine", make_warmup_cosine(NaiveWarmupCosine), scheduled, warmup_cosine)
NAIVE_CYCLE = Subject("naive_one_cycle", make_one_cycle(NaiveOneCycle), scheduled, one_cycle)
NAIVE_FREE = Subject("naive_schedule_free", make_schedule_free(NaiveScheduleFreeInTraining), counted, None)
NAIVE_OF = {COSINE: NAIVE_COSINE, CYCLE: NAIVE_CYCLE, FREE: NAIVE_FREE}
ALL = (COSINE, CYCLE, FREE)
WITH_SCHEDULE = (COSINE, CYCLE)

Check = Callable[[Subject, Path], None]
CHECKS: dict[str, tuple[Check, tuple[Subject, ...], tuple[Subject, ...]]] = {}


def check(*subjects: Subject, naive_passes: tuple[Subject, ...] = ()) -> Callable[[Check], Check]:
    """Have a function run on built-ins, and on the naive ones, of which some pass all the same."""

    def register(function: Check) -> Check:
        CHECKS[function.__name__] = (function, subjects, naive_passes)
        return function

    return register


class Model(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4, dtype=dtype), nn.Linear(4, 2, dtype=dtype)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(inputs).tanh())
        return result


def loss_of(model: nn.Module, batch: int = 0) -> torch.Tensor:
    dtype = next(model.parameters()).dtype
    inputs = torch.linspace(batch, batch + 1, 12, dtype=dtype).reshape(4, 3)
    return (model(inputs) - inputs[:, :2].cos()).square().mean()


def train(model: nn.Module, optimizer: Any, batches: range) -> None:
    for batch in batches:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def assert_same(first: nn.Module, second: nn.Module) -> None:
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)


def assert_rate(subject: Subject, optimizer: Any, step: int) -> None:
    assert subject.position(optimizer) == step
    if subject.rate is not None:
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(subject.rate(step))


def assert_goes_on_alike(subject: Subject, model: nn.Module, optimizer: Any, other: nn.Module, twin: Any) -> None:
    """Both stand at the same step, and stay together to the last but one of the schedule."""
    step = subject.position(optimizer)
    assert_rate(subject, twin, step)
    train(model, optimizer, range(step, TOTAL - 1))
    train(other, twin, range(step, TOTAL - 1))
    assert_rate(subject, twin, TOTAL - 1)
    assert_same(model, other)


def trained(subject: Subject, steps: int = 5, **options: Any) -> tuple[Model, Any]:
    model = Model()
    optimizer = subject.make(model.parameters(), **options)
    train(model, optimizer, range(steps))
    return model, optimizer


# Step hooks


def count_hooks(subject: Subject, make_plain: Callable[[], object], order: str) -> None:
    model, calls = Model(), []
    if order == "plain first":
        make_plain()
    optimizer = subject.make(model.parameters())
    if order == "plain last":
        make_plain()
    handles = [
        register_optimizer_step_pre_hook(lambda *_: calls.append("global pre")),
        register_optimizer_step_post_hook(lambda *_: calls.append("global post")),
    ]
    try:
        optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
        optimizer.register_step_post_hook(lambda *_: calls.append("post"))
        train(model, optimizer, range(2))
    finally:
        for handle in handles:
            handle.remove()
    assert (
        calls == ["global pre", "pre", "post", "global post"] * 2
        or calls
        == [
            "pre",
            "global pre",
            "post",
            "global post",
        ]
        * 2
    )


def plain() -> list[Any]:
    import schedulefree

    parameter = [nn.Parameter(torch.ones(1))]
    return [torch.optim.AdamW(parameter), schedulefree.RAdamScheduleFree(parameter)]


@check(*ALL, naive_passes=(NAIVE_FREE,))
def step_hooks_run_once_where_a_plain_optimizer_came_first(subject: Subject, _: Path) -> None:
    count_hooks(subject, plain, "plain first")


def run_alone(program: str) -> None:
    """Run code in a process where nothing was made before; `tools` is this module."""
    start = "import sys; sys.path.insert(0, sys.argv[1]); import test_under_torch_tools as tools\n"
    command = [sys.executable, "-c", start + program, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_step_hooks_run_once_where_a_plain_optimizer_came_last() -> None:
    run_alone('for subject in tools.ALL: tools.count_hooks(subject, tools.plain, "plain last")')


@check(*WITH_SCHEDULE)
def state_dict_hooks_see_the_schedule(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    seen: list[Any] = []
    optimizer.register_state_dict_pre_hook(lambda _: seen.append("before"))
    optimizer.register_state_dict_post_hook(lambda _, state: seen.append("scheduler" in state))
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "note": 1})
    state = optimizer.state_dict()
    assert (seen, state["note"]) == (["before", True], 1)

    other = Model()
    twin = subject.make(other.parameters())
    other.load_state_dict(model.state_dict())
    twin.register_load_state_dict_pre_hook(lambda _, packed: packed["packed"])
    twin.register_load_state_dict_post_hook(lambda twin: seen.append(subject.position(twin)))
    twin.load_state_dict({"packed": copy.deepcopy(state)})
    assert seen[-1] == 5
    assert_goes_on_alike(subject, model, optimizer, other, twin)


# Mixed precision


def scaled_training(subject: Subject, unscale: bool, **options: Any) -> None:
    model = Model()
    optimizer = subject.make(model.parameters(), **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    updates = 0
    for batch in range(8):
        before = weights(model)
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch) * (math.inf if batch in (1, 2, 5) else 1)).backward()
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        moved = any(not torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
        updates += batch not in (1, 2, 5)
        assert moved == (batch not in (1, 2, 5) and (updates > 1 or subject.rate is not warmup_cosine))
        assert_rate(subject, optimizer, updates)
    assert updates == 5


for unscaling in (False, True):
    for choice in ({"foreach": False}, {"foreach": True}, {"fused": True}):

        def skipped(subject: Subject, _: Path, unscale: bool = unscaling, options: Any = choice) -> None:
            scaled_training(subject, unscale, **options)

        # Without fused=True the scaler doesn't call step() at all on an overflow.
        passes = (NAIVE_FREE,) if "fused" in choice else (NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE)
        skipped.__name__ = f"update_skipped_by_a_scaler_does_not_count_{'_'.join(choice)}_{choice}_{unscaling}"
        check(*ALL, naive_passes=passes)(skipped)


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def accumulated_gradients_leave_the_horizon_in_updates(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.parameters())
    for batch in range(12):
        (loss_of(model, batch) / 4).backward()
        if batch % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
            assert_rate(subject, optimizer, batch // 4 + 1)


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def step_without_any_gradient_counts(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.parameters())
    optimizer.step()
    assert_rate(subject, optimizer, 1)
    train(model, optimizer, range(2))
    optimizer.zero_grad()
    optimizer.step()
    assert_rate(subject, optimizer, 4)


# Distributed checkpoints, in one process


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


# Compilation


def compilations(model: nn.Module, optimizer: Any, reference: nn.Module, oracle: Any) -> int:
    """Run the whole schedule compiled, and uncompiled for reference; compare, and count compilations."""
    from torch._dynamo.testing import CompileCounter

    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(lambda: train(model, optimizer, range(1)), backend=counter)
    compiled()
    with torch.compiler.set_stance("fail_on_recompile"):
        for _ in range(TOTAL - 1):
            compiled()
    for _ in range(TOTAL):
        train(reference, oracle, range(1))
    torch.testing.assert_close(weights(model), weights(reference))
    count: int = counter.frame_count
    return count


def compiled_training(subject: Subject, **options: Any) -> None:
    model, reference = Model(), Model()
    optimizer = subject.make(model.parameters(), **options)
    oracle = subject.make(reference.parameters())

    assert 1 <= compilations(model, optimizer, reference, oracle) <= 2
    assert_rate(subject, optimizer, TOTAL)


# A torch scheduler fills a tensor rate in place too, and where it drives nothing else that is enough.
@check(*WITH_SCHEDULE, naive_passes=(NAIVE_COSINE,))
def compiled_step_with_a_tensor_rate_runs_the_schedule_in_two_compilations(subject: Subject, _: Path) -> None:
    compiled_training(subject, peak=torch.tensor(PEAK))


@check(FREE)
def compiled_step_of_a_constant_rate_needs_no_more(subject: Subject, _: Path) -> None:
    compiled_training(subject)


def test_compiled_step_that_is_the_first_of_the_process() -> None:
    run_alone("""
for subject in tools.WITH_SCHEDULE:
    tools.compiled_training(subject, peak=tools.torch.tensor(tools.PEAK))
tools.compiled_training(tools.FREE)
""")


# Serialisation


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def state_loads_with_weights_only(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    torch.save(optimizer.state_dict(), file := io.BytesIO())
    file.seek(0)
    other = Model()
    other.load_state_dict(model.state_dict())
    twin = subject.make(other.parameters())
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert_goes_on_alike(subject, model, optimizer, other, twin)


def copied_goes_on(subject: Subject, duplicate: Callable[[Any], Any]) -> None:
    for steps in (0, 5):
        model, optimizer = trained(subject, steps)
        other, twin = duplicate((model, optimizer))
        before = weights(other)
        assert_rate(subject, twin, steps)
        train(model, optimizer, range(steps, steps + 1))
        assert_rate(subject, twin, steps)
        torch.testing.assert_close(before, weights(other), rtol=0, atol=0)
        train(other, twin, range(steps, steps + 1))
        assert_goes_on_alike(subject, model, optimizer, other, twin)


@check(*ALL, naive_passes=(NAIVE_FREE,))
def unpickled_optimizer_goes_on_independently(subject: Subject, _: Path) -> None:
    copied_goes_on(subject, lambda pair: pickle.loads(pickle.dumps(pair)))


@check(*ALL, naive_passes=(NAIVE_FREE,))
def copied_optimizer_goes_on_independently(subject: Subject, _: Path) -> None:
    copied_goes_on(subject, copy.deepcopy)


@check(*ALL, naive_passes=(NAIVE_FREE,))
def memory_goes_away_with_the_optimizer(subject: Subject, _: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        _model, optimizer = trained(subject)
        moment = weakref.ref(next(iter(optimizer.state.values()))["exp_avg_sq"])
        gone = weakref.ref(optimizer)
        del optimizer
        assert (gone(), moment()) == (None, None)
    finally:
        gc.enable()


@check(*WITH_SCHEDULE)
def loading_takes_the_keyword_and_leaves_what_it_is_given(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    other = Model()
    other.load_state_dict(model.state_dict())
    twin = subject.make(other.parameters())
    state = copy.deepcopy(optimizer.state_dict())
    twin.load_state_dict(state_dict=state)
    expected = optimizer.state_dict()
    assert state.keys() == expected.keys()
    assert state["param_groups"] == expected["param_groups"]
    del state["scheduler"]
    third = subject.make(other.parameters())
    third.load_state_dict(state_dict=state)
    assert_rate(subject, third, 5)


@check(*WITH_SCHEDULE)
def state_of_the_bare_optimizer_continues_from_its_count_with_a_warning(subject: Subject, _: Path) -> None:
    model = Model()
    bare = torch.optim.AdamW(model.parameters())
    train(model, bare, range(5))
    optimizer = subject.make(model.parameters())
    with pytest.warns(ScheduleWarning, match="step 5"):
        optimizer.load_state_dict(bare.state_dict())
    assert_rate(subject, optimizer, 5)


@check(COSINE)
def changed_horizon_follows_the_configuration_with_a_warning(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    cls = type(optimizer)
    longer = cls(model.parameters(), PEAK, 2 * TOTAL, warmup_steps=3, end_lr=0.01)
    with pytest.warns(ScheduleWarning, match="total_steps is 12 in the checkpoint and 24 in the configuration"):
        longer.load_state_dict(optimizer.state_dict())
    expected = 0.01 + (PEAK - 0.01) * (1 + math.cos(math.pi * (5 - 3) / (2 * TOTAL - 1 - 3))) / 2
    assert longer.param_groups[0]["lr"] == pytest.approx(expected)


@check(*WITH_SCHEDULE)
def last_value_holds_past_the_end(subject: Subject, _: Path) -> None:
    assert subject.rate is not None
    model, optimizer = trained(subject, TOTAL)
    for step in range(3):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(model, optimizer, range(1))
        assert len(caught) == (1 if step == 0 else 0)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(subject.rate(TOTAL - 1))


# Parameter groups


@check(*ALL, naive_passes=(NAIVE_FREE,))
def group_added_late_joins_at_the_position(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.first.parameters())
    train(model, optimizer, range(4))
    optimizer.add_param_group({"params": list(model.second.parameters())})
    before = weights(model.second)
    for step in range(4, TOTAL - 1):
        rates = {float(group["lr"]) for group in optimizer.param_groups}
        assert len(rates) == 1
        assert_rate(subject, optimizer, step)
        train(model, optimizer, range(step, step + 1))
    assert not torch.equal(before[0], model.second.weight)


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_FREE))
def group_with_a_rate_of_its_own_scales_its_curve(subject: Subject, _: Path) -> None:
    model = Model()
    groups = [
        {"params": model.first.parameters()},
        {"params": model.second.parameters(), "lr": PEAK / 10},
    ]
    optimizer = subject.make(groups)
    for step in range(TOTAL):
        first, second = (float(group["lr"]) for group in optimizer.param_groups)
        assert first == pytest.approx(PEAK if subject.rate is None else subject.rate(step))
        assert second == pytest.approx(first / 10)
        train(model, optimizer, range(step, step + 1))


@check(*ALL)
def dictionaries_and_tensors_of_the_caller_stay_as_they_are(subject: Subject, _: Path) -> None:
    model = Model()
    peak = torch.tensor(PEAK)
    groups = [{"params": list(module.parameters())} for module in (model.first, model.second)]
    keys = [list(group) for group in groups]
    optimizer = subject.make(groups, **({} if subject.rate is None else {"peak": peak}))
    added = {"params": [nn.Parameter(torch.ones(1))]}
    optimizer.add_param_group(added)
    train(model, optimizer, range(3))
    assert subject.rate is None or len({id(group["lr"]) for group in optimizer.param_groups} | {id(peak)}) == 4
    assert peak == torch.tensor(PEAK)
    assert [set(group) - {"params"} for group in (*groups, added)] == [set()] * 3, keys


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def generators_and_named_parameters_are_taken(subject: Subject, _: Path) -> None:
    model, reference = Model(), Model()
    oracle = subject.make(list(reference.parameters()))
    optimizer = subject.make(model.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
    assert_goes_on_alike(subject, reference, oracle, model, optimizer)
    by_generator = subject.make(parameter for parameter in Model().parameters())
    assert len(by_generator.param_groups[0]["params"]) == 4


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def frozen_and_unfrozen_parameters_stand_still_and_move(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.parameters())
    train(model, optimizer, range(3))
    model.first.requires_grad_(False)
    frozen = weights(model.first)
    optimizer.zero_grad()
    train(model, optimizer, range(3, 6))
    torch.testing.assert_close(weights(model.first), frozen, rtol=0, atol=0)
    model.first.requires_grad_(True)
    train(model, optimizer, range(6, 8))
    assert not torch.equal(model.first.weight, frozen[0])
    assert_rate(subject, optimizer, 8)


@check(*WITH_SCHEDULE)
def state_of_other_groups_is_refused_with_both_sides(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    twin = subject.make([{"params": list(model.first.parameters())}, {"params": list(model.second.parameters())}])
    before = copy.deepcopy(twin.state_dict())
    with pytest.raises(ValueError, match=r"1 parameter group with 4 parameters.*2 parameter groups with 2, 2"):
        twin.load_state_dict(optimizer.state_dict())
    assert str(twin.state_dict()) == str(before)


@check(*ALL)
def state_of_other_names_is_refused_with_both_sides(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.named_parameters())
    train(model, optimizer, range(5))
    twin = subject.make([(f"other.{name}", parameter) for name, parameter in Model().named_parameters()])
    with pytest.raises(StateMismatchError, match=r"'other\.first\.weight'.*only in the checkpoint: 'first\.weight'"):
        twin.load_state_dict(optimizer.state_dict())
    assert not twin.state
    assert_rate(subject, twin, 0)


# Someone else's scheduler


@check(*ALL)
def scheduler_on_top_is_noticed_once_with_the_remedy(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for batch in range(6):
            train(model, optimizer, range(batch, batch + 1))
            scheduler.step()
    ours = [str(warning.message) for warning in caught if issubclass(warning.category, ScheduleWarning)]
    assert len(ours) == 1
    assert re.search("take away the (other )?scheduler .*ReadOnlyScheduler", ours[0])
    assert [warning.filename for warning in caught if warning.category is ScheduleWarning] == [__file__]


# Closures


@check(*ALL, naive_passes=(NAIVE_COSINE, NAIVE_CYCLE, NAIVE_FREE))
def closure_is_called_once_with_gradients_at_the_rate_of_the_step(subject: Subject, _: Path) -> None:
    model = Model()
    optimizer = subject.make(model.parameters())
    seen: list[tuple[bool, float]] = []

    def closure() -> float:
        seen.append((torch.is_grad_enabled(), float(optimizer.param_groups[0]["lr"])))
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss.item()

    for step in range(4):
        expected = loss_of(model).item()
        with torch.no_grad():
            assert optimizer.step(closure) == expected
        rate = PEAK if subject.rate is None else subject.rate(step)
        assert seen == [(True, pytest.approx(rate))]
        seen.clear()


@check(*WITH_SCHEDULE)
def tensor_rate_is_kept_and_filled(subject: Subject, _: Path) -> None:
    assert subject.rate is not None
    model = Model()
    optimizer = subject.make(model.parameters(), peak=torch.tensor(PEAK))
    rate = optimizer.param_groups[0]["lr"]
    for step in range(TOTAL):
        assert rate.item() == pytest.approx(subject.rate(step))
        assert optimizer.param_groups[0]["lr"] is rate
        train(model, optimizer, range(1))
    twin = copy.deepcopy(optimizer)
    assert (twin.param_groups[0]["lr"] is rate, subject.position(twin)) == (False, TOTAL)


# Schedule-free modes


def as_handed_out(subject: Subject) -> Any:
    """The class of a schedule-free optimizer, as it is before anybody calls train()."""
    return NaiveScheduleFree if subject is NAIVE_FREE else ScheduleFreeRAdam


@check(FREE)
def starts_in_training_mode(subject: Subject, _: Path) -> None:
    model = Model()
    cls = as_handed_out(subject)
    optimizer = cls(model.parameters(), silent_sgd_phase=False)
    train(model, optimizer, range(1))
    assert_rate(subject, optimizer, 1)


@check(FREE)
def step_in_evaluation_mode_is_refused_with_the_remedy(subject: Subject, _: Path) -> None:
    model, optimizer = trained(subject)
    optimizer.eval()
    before = weights(model)
    with pytest.raises(EvaluationModeError, match=r"Call train\(\)"):
        optimizer.step()
    torch.testing.assert_close(weights(model), before, rtol=0, atol=0)
    assert_rate(subject, optimizer, 5)


@check(FREE)
def group_added_late_is_in_the_mode_and_averaged(subject: Subject, _: Path) -> None:
    for evaluating in (False, True):
        model = Model()
        optimizer = subject.make(model.first.parameters())
        train(model, optimizer, range(3))
        if evaluating:
            optimizer.eval()
        optimizer.add_param_group({"params": list(model.second.parameters())})
        assert [group["train_mode"] for group in optimizer.param_groups] == [not evaluating] * 2
        optimizer.train()
        train(model, optimizer, range(3, 6))
        late, beta = model.second.weight, optimizer.param_groups[1]["betas"][0]
        average = late.detach().lerp(optimizer.state[late]["z"], 1 - 1 / beta)
        assert not torch.allclose(average, late)
        optimizer.eval()
        torch.testing.assert_close(late.detach(), average)


@check(FREE)
def asking_and_switching_modes_creates_no_state(subject: Subject, _: Path) -> None:
    optimizer = subject.make(Model().parameters())
    for switch in (optimizer.eval, optimizer.train, optimizer.train, optimizer.eval, optimizer.eval):
        switch()
        assert (len(optimizer.state), optimizer.state_dict()["state"]) == (0, {})


@check(FREE)
def checkpointer_before_the_first_step_in_either_mode(subject: Subject, folder: Path) -> None:
    cls = as_handed_out(subject)
    for evaluating in (False, True):
        model = Model()
        optimizer = cls(model.parameters(), lr=PEAK, silent_sgd_phase=False)
        if evaluating:
            optimizer.eval()
        state = {"optimizer": get_optimizer_state_dict(model, optimizer)}
        writer = FileSystemWriter(folder / str(evaluating))
        torch.distributed.checkpoint.save(state, storage_writer=writer)  # type: ignore[arg-type]
        assert optimizer.param_groups[0]["train_mode"] is not evaluating
        other = Model()
        twin = subject.make(other.parameters())
        target = {"optimizer": get_optimizer_state_dict(other, twin)}
        reader = FileSystemReader(folder / str(evaluating))
        torch.distributed.checkpoint.load(target, storage_reader=reader)  # type: ignore[arg-type]
        set_optimizer_state_dict(other, twin, target["optimizer"])
        assert twin.param_groups[0]["train_mode"] is not evaluating
        optimizer.train()
        twin.train()
        reference = Model()
        assert_goes_on_alike(subject, reference, subject.make(reference.parameters()), other, twin)
        train(model, optimizer, range(TOTAL - 1))
        assert_same(model, reference)


@check(FREE)
def weights_are_right_in_every_order_of_modes_steps_saves_and_loads(subject: Subject, _: Path) -> None:
    for order in itertools.product(("train", "eval", "step", "save and load"), repeat=4):
        model, oracle = Model(), Model()
        cls = as_handed_out(subject)
        optimizer = cls(model.parameters(), lr=PEAK, silent_sgd_phase=False)
        # An oracle that never leaves the training mode; evaluation weights by their definition.
        reference = NAIVE_FREE.make(oracle.parameters())
        evaluating = False
        for step, action in enumerate(order):
            if action == "step":
                if evaluating:
                    optimizer.train()
                train(model, optimizer, range(step, step + 1))
                train(oracle, reference, range(step, step + 1))
                evaluating = False
            elif action == "save and load":
                saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
                model = Model()
                optimizer = cls(model.parameters(), lr=PEAK, silent_sgd_phase=False)
                model.load_state_dict(saved[0])
                optimizer.load_state_dict(saved[1])
            else:
                getattr(optimizer, action)()
                evaluating = action == "eval"
            expected = weights(oracle)
            if evaluating and any(reference.state.values()):
                averaging = 1 - 1 / reference.param_groups[0]["betas"][0]
                expected = [
                    value.lerp(reference.state[p]["z"], averaging)
                    for value, p in zip(expected, oracle.parameters(), strict=True)
                ]
            torch.testing.assert_close(weights(model), expected, msg=lambda text: f"{order} at {step}: {text}")  # noqa: B023


@check(FREE, naive_passes=(NAIVE_FREE,))
def parameters_in_half_precision_train(subject: Subject, _: Path) -> None:
    model = Model(torch.bfloat16)
    optimizer = subject.make(model.parameters())
    first = loss_of(model).item()
    train(model, optimizer, range(1))
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    optimizer.eval()
    assert loss_of(model).item() < first / 2
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    state = copy.deepcopy(optimizer.state_dict())
    twin = subject.make(Model(torch.bfloat16).parameters())
    twin.load_state_dict(state)
    assert {s["z"].dtype for s in twin.state.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("name", "subject"), [pytest.param(n, s, id=f"{n}-{s}") for n, (_, subjects, _) in CHECKS.items() for s in subjects]
)
def test_built_in(name: str, subject: Subject, tmp_path: Path) -> None:
    CHECKS[name][0](subject, tmp_path)


@pytest.mark.filterwarnings("ignore")  # of no matter in what must fail
@pytest.mark.parametrize(
    ("name", "subject"),
    [pytest.param(n, NAIVE_OF[s], id=f"{n}-{NAIVE_OF[s]}") for n, (_, subjects, _) in CHECKS.items() for s in subjects],
)
def test_naive_implementation_is_caught(name: str, subject: Subject, tmp_path: Path) -> None:
    function, _, passing = CHECKS[name]
    if subject in passing:
        function(subject, tmp_path)
        return
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever way it fails
        function(subject, tmp_path)
    assert not isinstance(caught.value, KeyboardInterrupt)


# All components of a model at once


def configuration(**options: Any) -> dict[str, Any]:
    return {
        "first": {
            "type": "adamw_warmup_cosine_decay",
            "params": {"peak_lr": PEAK, "total_steps": TOTAL, "warmup_steps": 3, "end_lr": 0.01, **options},
        },
        "second": {"type": "adamw_cosine_schedule", "params": {"max_lr": PEAK, "total_steps": TOTAL, **options}},
        "third": {"type": "schedule_free_radam", "params": {"lr": PEAK, "silent_sgd_phase": False}},
    }


class Components(Model):
    def __init__(self) -> None:
        super().__init__()
        self.third = nn.Linear(2, 2)
        with torch.no_grad():
            self.third.weight.copy_(torch.eye(2))
            self.third.bias.zero_()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.third(super().forward(inputs))
        return result


SUBJECTS = {"first": COSINE, "second": CYCLE, "third": FREE}


def components(steps: int = 0, **options: Any) -> tuple[Components, ComponentOptimizers]:
    model = Components()
    optimizers = build_optimizers(model, configuration(**options))
    train(model, optimizers, range(steps))
    return model, optimizers


def assert_positions(optimizers: ComponentOptimizers, *steps: int) -> None:
    for (name, optimizer), step in zip(optimizers.items(), steps, strict=True):
        assert_rate(SUBJECTS[name], optimizer, step)


def assert_components_go_on_alike(model: Any, optimizers: Any, other: Any, twins: Any) -> None:
    step = optimizers["first"].schedule_step
    assert_positions(twins, step, step, step)
    train(model, optimizers, range(step, TOTAL - 1))
    train(other, twins, range(step, TOTAL - 1))
    assert_positions(twins, *[TOTAL - 1] * 3)
    assert_same(model, other)


def test_components_run_their_step_hooks_once() -> None:
    plain()
    model, optimizers = components()
    calls = []
    for name, optimizer in optimizers.items():
        optimizer.register_step_pre_hook(lambda *_, name=name: calls.append(name))
        optimizer.register_step_post_hook(lambda *_, name=name: calls.append(name))
    train(model, optimizers, range(2))
    assert calls == ["first", "first", "second", "second", "third", "third"] * 2


def test_component_whose_update_is_skipped_stays_behind_alone() -> None:
    model, optimizers = components(fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for batch in range(4):
        optimizers.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        if batch == 1:
            assert model.second.weight.grad is not None
            model.second.weight.grad.fill_(math.inf)
        for optimizer in optimizers.values():
            scaler.step(optimizer)
        scaler.update()
    assert_positions(optimizers, 4, 3, 4)


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize(
    "options",
    [StateDictOptions(), StateDictOptions(flatten_optimizer_state_dict=True), StateDictOptions(full_state_dict=True)],
    ids=["", "flattened", "full"],
)
def test_distributed_state_of_all_components_continues_exactly(options: StateDictOptions, steps: int) -> None:
    model, optimizers = components()
    train(model, optimizers, range(steps))
    other, twins = components()
    other.load_state_dict(model.state_dict())
    state = copy.deepcopy(get_optimizer_state_dict(model, list(optimizers.values()), options=options))
    set_optimizer_state_dict(other, list(twins.values()), state, options=options)
    assert_components_go_on_alike(model, optimizers, other, twins)


def test_compiled_step_of_components_needs_one_compilation_for_each_and_one_for_the_model() -> None:
    model, optimizers = components(capturable=True)
    reference, oracles = components()
    assert 1 <= compilations(model, optimizers, reference, oracles) <= 3
    assert_positions(optimizers, TOTAL, TOTAL, TOTAL)


def test_capturable_in_a_configuration_makes_rates_tensors() -> None:
    _, optimizers = components(capturable=True)
    for name in ("first", "second"):
        group = optimizers[name].param_groups[0]
        assert isinstance(group["lr"], torch.Tensor)
        assert optimizers.learning_rates()[name] == pytest.approx(SUBJECTS[name].rate(0))  # type: ignore[misc]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("steps", [0, 5])
def test_copied_components_go_on_independently(duplicate: Any, steps: int) -> None:
    model, optimizers = components(steps)
    other, twins = duplicate((model, optimizers))
    train(model, optimizers, range(steps, steps + 1))
    assert_positions(twins, steps, steps, steps)
    train(other, twins, range(steps, steps + 1))
    assert_components_go_on_alike(model, optimizers, other, twins)


def test_memory_goes_away_with_the_components_optimizers() -> None:
    gc.collect()
    gc.disable()
    try:
        _model, optimizers = components(3)
        gone = [weakref.ref(optimizer) for optimizer in optimizers.values()]
        del optimizers
        assert [reference() for reference in gone] == [None] * 3
    finally:
        gc.enable()


def test_state_of_components_loads_with_weights_only() -> None:
    model, optimizers = components(5)
    torch.save(optimizers.state_dict(), file := io.BytesIO())
    file.seek(0)
    other, twins = components()
    other.load_state_dict(model.state_dict())
    twins.load_state_dict(torch.load(file, weights_only=True))
    assert_components_go_on_alike(model, optimizers, other, twins)


def test_refused_state_of_one_component_leaves_tensor_rates_as_they_were() -> None:
    model, optimizers = components(5)
    tensors, twins = components(capturable=True)
    state = copy.deepcopy(optimizers.state_dict())
    state["third"]["param_groups"][0].pop("k")
    before = str(twins.state_dict())
    with pytest.raises(StateMismatchError, match=r"'third'.*'k'"):
        twins.load_state_dict(state)
    assert str(twins.state_dict()) == before
    assert_positions(twins, 0, 0, 0)
    assert model is not tensors


def test_scheduler_on_top_of_a_component_is_named() -> None:
    model, optimizers = components()
    optimizers["second"].param_groups[0]["lr"] = 3.0
    with pytest.warns(ScheduleWarning, match="of AdamWWithOneCycle was changed from outside, from 0.002 to 3"):
        train(model, optimizers, range(1))
    assert_positions(optimizers, 1, 1, 1)
