"""The fused step of schedule-free RAdam, against the schedulefree library's own class and against the formulas."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import schedulefree
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.utils.flop_counter import FlopCounterMode

from optim_core import Claims, EvaluationModeError, InvalidArgumentsError, OptimWarning
from optim_core.testing import OptimizerConformance
from optim_schedule_free_radam import ScheduleFreeRAdam, ScheduleFreeRAdamFactory, kernel

Parameters = list[torch.nn.Parameter]
Layout = Callable[[torch.Tensor], torch.Tensor]

# Around the sizes from which tensors are treated in another way, and those that are special anyway.
EDGES = (0, 1, 2, 7, 2**11 - 1, 2**11, 2**11 + 1, 2**13 - 1, 2**13, 2**13 + 1, 2**15 - 1, 2**15, 2**15 + 1, 100_003)
SHAPES = [(), (0, 3), (7,), (5, 1, 3), (2**11 + 1,), (2**13,), (2**13 + 1,), (2**15,), (2**15 + 1,), (211, 157)]
# A few steps of few ulps each. In single precision a parameter near zero is the difference of larger numbers.
TOLERANCES = {
    torch.float32: {"rtol": 1e-5, "atol": 2e-6},
    torch.float64: {"rtol": 1e-12, "atol": 1e-14},
    # The library rounds after each operation.
    torch.bfloat16: {"rtol": 2**-6, "atol": 2**-6},
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"lr": 0.05, "weight_decay": 0.1, "r": 1.0, "eps": 1e-6},
    {"lr": 0.05, "silent_sgd_phase": False, "weight_decay": 0.02},
    {"lr": 0.05, "betas": (0.8, 0.9), "weight_lr_power": 0.0, "silent_sgd_phase": False},
    {"lr": 0.01, "betas": (0.95, 0.99), "weight_lr_power": 1.0, "r": 0.5},
]


def noise(shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parameters(shapes: Sequence[Sequence[int]], dtype: torch.dtype = torch.float32) -> Parameters:
    return [torch.nn.Parameter(noise(shape, seed, dtype)) for seed, shape in enumerate(shapes)]


def copies(of: Parameters) -> Parameters:
    return [torch.nn.Parameter(p.detach().clone(memory_format=torch.preserve_format)) for p in of]


def give_gradients(step: int, *models: Parameters) -> None:
    """The same gradients to several models, in memory of their own, laid out as the parameters are."""
    for index, twins in enumerate(zip(*models, strict=True)):
        gradient = noise(twins[0].shape, 1000 * step + index + 500, twins[0].dtype)
        for parameter in twins:
            parameter.grad = torch.empty_like(parameter).copy_(gradient)


def fused(params: Any, **options: Any) -> ScheduleFreeRAdam:
    return ScheduleFreeRAdam(params, fused=True, **options)


def of_library(params: Any, **options: Any) -> schedulefree.RAdamScheduleFree:
    optimizer = schedulefree.RAdamScheduleFree(params, **{"foreach": False, **options})
    optimizer.train()
    return optimizer


def options_and_counters(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in group.items() if name not in ("params", "foreach")}
        for group in optimizer.param_groups
    ]


def assert_same_trajectory(
    ours: Parameters,
    theirs: Parameters,
    optimizer: torch.optim.Optimizer,
    oracle: torch.optim.Optimizer,
    tolerances: dict[str, float] | None = None,
) -> None:
    assert options_and_counters(optimizer) == options_and_counters(oracle)
    for a, b in zip(ours, theirs, strict=True):
        expected = tolerances or TOLERANCES[b.dtype]
        torch.testing.assert_close(a.detach(), b.detach(), **expected)
        assert optimizer.state[a].keys() == oracle.state[b].keys()
        for name in optimizer.state[a]:
            torch.testing.assert_close(optimizer.state[a][name], oracle.state[b][name], **expected)


def train_both(
    steps: range, ours: Parameters, theirs: Parameters, optimizer: torch.optim.Optimizer, oracle: torch.optim.Optimizer
) -> None:
    for step in steps:
        give_gradients(step, ours, theirs)
        optimizer.step()
        oracle.step()


def trained(
    steps: int, shapes: Sequence[Sequence[int]] = ((3, 5), (100, 100)), **options: Any
) -> tuple[Parameters, ScheduleFreeRAdam]:
    params = parameters(shapes)
    optimizer = ScheduleFreeRAdam(params, **{"lr": 0.05, "weight_decay": 0.1, "fused": True, **options})
    for step in range(steps):
        give_gradients(step, params)
        optimizer.step()
    return params, optimizer


def identical(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_trajectory_and_counters_are_the_librarys_through_switches_of_mode(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    ours = parameters(SHAPES, dtype)
    theirs, start = copies(ours), copies(ours)
    optimizer, oracle = fused(ours, **options), of_library(theirs, **options)

    for step in range(12):
        train_both(range(step, step + 1), ours, theirs, optimizer, oracle)
        assert_same_trajectory(ours, theirs, optimizer, oracle)
        if step in (0, 3, 4, 5, 10):
            for each in (optimizer, oracle):
                each.eval()
            assert_same_trajectory(ours, theirs, optimizer, oracle)
            for each in (optimizer, oracle):
                each.train()
        if not options:
            # Silent at first; with the default betas the fifth step is the first adaptive one.
            assert identical(ours, start) is (step < 4)
    assert not any(torch.equal(a, b) for a, b in zip(ours, start, strict=True) if a.numel())


@given(
    sizes=st.lists(st.sampled_from(EDGES), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    steps=st.integers(1, 8),
    options=st.fixed_dictionaries(
        {
            "lr": st.sampled_from([0.0, 1e-3, 0.1]),
            "betas": st.tuples(st.sampled_from([0.5, 0.9]), st.sampled_from([0.0, 0.5, 0.9, 0.999])),
            "eps": st.sampled_from([1e-8, 1e-3]),
            "weight_decay": st.sampled_from([0.0, 0.3]),
            "r": st.sampled_from([-1.0, 0.0, 2.0]),
            "weight_lr_power": st.sampled_from([0.0, 0.5, 2.0]),
            "silent_sgd_phase": st.booleans(),
        }
    ),
)
@settings(deadline=None, max_examples=30)
def test_trajectory_is_the_librarys_for_any_sizes_and_options(
    sizes: list[int], dtype: torch.dtype, steps: int, options: dict[str, Any]
) -> None:
    ours = parameters([(size,) for size in sizes], dtype)
    theirs = copies(ours)
    optimizer, oracle = fused(ours, **options), of_library(theirs, **options)

    train_both(range(steps), ours, theirs, optimizer, oracle)

    assert_same_trajectory(ours, theirs, optimizer, oracle)


def updated_by_formula(
    y: torch.Tensor, z: torch.Tensor, v: torch.Tensor, gradient: torch.Tensor, step: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The `step`-th update (from 1) with lr 0.05, the betas' defaults, weight decay 0.1 and a silent SGD phase."""
    lr, beta1, beta2, eps, decay = 0.05, 0.9, 0.999, 1e-8, 0.1

    def rate(t: int) -> float:
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        if length <= 4:
            return 0.0
        factors = (length - 4) / (longest - 4), (length - 2) / (longest - 2), longest / length
        return lr * (factors[0] * factors[1] * factors[2]) ** 0.5

    v = beta2 * v + (1 - beta2) * gradient**2
    if rate(step) == 0:
        return y, z, v
    # The rate rises, so that the highest so far is the present one; its square is the weight.
    average = rate(step) ** 2 / sum(rate(t) ** 2 for t in range(1, step + 1))
    direction = gradient / ((v / (1 - beta2**step)).sqrt() + eps) + decay * y
    y = (1 - average) * y + average * z - rate(step) * (1 - beta1 * (1 - average)) * direction
    return y, z - rate(step) * direction, v


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_the_formula_rounded_once_a_step(dtype: torch.dtype) -> None:
    ours = parameters([(), (700,), (9000,), (40_000,)], dtype)
    optimizer = fused(ours, lr=0.05, weight_decay=0.1)
    expected = [(p.detach().clone(), p.detach().clone(), torch.zeros_like(p)) for p in ours]

    for step in range(1, 11):
        give_gradients(step, ours)
        optimizer.step()
        for index, parameter in enumerate(ours):
            assert parameter.grad is not None
            exact = (tensor.double() for tensor in (*expected[index], parameter.grad))
            y, z, v = (result.to(dtype) for result in updated_by_formula(*exact, step))
            expected[index] = (y, z, v)

    for parameter, oracle in zip(ours, expected, strict=True):
        state = optimizer.state[parameter]
        for found, wanted in zip((parameter.detach(), state["z"], state["exp_avg_sq"]), oracle, strict=True):
            # One unit in the last place, where a number is about in the middle; else none.
            torch.testing.assert_close(found, wanted, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
            assert (found == wanted).double().mean() >= 0.99


def test_groups_dtypes_sizes_and_frozen_parameters_in_one_optimizer() -> None:
    sizes = [(), (3,), (1000, 2), (8191,), (8192,), (8193,), (32_767,), (32_768,), (32_769,), (300, 400)]
    ours = [*parameters(sizes), *parameters(sizes, torch.float64), *parameters(sizes, torch.bfloat16)]
    ours += parameters([(30,), (30, 500)])
    theirs = copies(ours)

    def groups(params: Parameters) -> list[dict[str, Any]]:
        return [
            {"params": params[::3]},
            {"params": params[1::3], "lr": 0.2, "weight_decay": 0.3, "betas": (0.8, 0.9)},
            {"params": params[2::3], "silent_sgd_phase": False, "eps": 1e-4, "r": 1.0, "weight_lr_power": 1.0},
        ]

    optimizer, oracle = fused(groups(ours), lr=0.05), of_library(groups(theirs), lr=0.05)
    for step in range(8):
        give_gradients(step, ours, theirs)
        for model in (ours, theirs):
            model[-1].grad = model[-2].grad = None
        optimizer.step()
        oracle.step()

    assert_same_trajectory(ours[:-2], theirs[:-2], optimizer, oracle)
    assert identical(ours[-2:], parameters([(30,), (30, 500)]))
    assert set(optimizer.state) == set(ours[:-2])


def test_gradients_may_come_and_go_between_steps() -> None:
    ours = parameters([(5,), (60, 60), (9000,), (), (40_000,), (7, 3), (30_000,)])
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05, weight_decay=0.1), of_library(theirs, lr=0.05, weight_decay=0.1)

    for step, period in enumerate([2, 3, 1, 2, 99, 3, 4, 2, 1]):
        give_gradients(step, ours, theirs)
        for model in (ours, theirs):
            for parameter in model[:: period + 1]:
                parameter.grad = None
        optimizer.step()
        oracle.step()

    assert_same_trajectory(ours, theirs, optimizer, oracle)


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def with_gaps(tensor: torch.Tensor) -> torch.Tensor:
    return torch.stack([tensor, tensor + 1], dim=-1)[..., 0]


def amid_others(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros(1), tensor.flatten(), torch.zeros(2)])[1:-2].view(tensor.shape)


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


LAYOUTS: list[Layout] = [torch.Tensor.contiguous, channels_last, transposed, with_gaps, amid_others]


@pytest.mark.parametrize("of_gradient", LAYOUTS)
@pytest.mark.parametrize("of_parameter", LAYOUTS)
def test_layout_in_memory_is_of_no_matter_and_stays(of_parameter: Layout, of_gradient: Layout) -> None:
    shapes = [(4, 3, 2, 2), (64, 24, 3, 3), (64, 64, 3, 3), (128, 96, 1, 1)]
    theirs = parameters(shapes)
    ours = [torch.nn.Parameter(of_parameter(p.detach())) for p in theirs]
    places = [(p.data_ptr(), p.stride()) for p in ours]
    optimizer, oracle = fused(ours, lr=0.05, weight_decay=0.1), of_library(theirs, lr=0.05, weight_decay=0.1)

    for step in range(8):
        give_gradients(step, ours, theirs)
        for parameter in ours:
            assert parameter.grad is not None
            parameter.grad = of_gradient(parameter.grad)
        optimizer.step()
        oracle.step()

    assert_same_trajectory(ours, theirs, optimizer, oracle)
    assert [(p.data_ptr(), p.stride()) for p in ours] == places


@pytest.mark.parametrize("layout", [torch.Tensor.clone, transposed, with_gaps])
def test_data_may_be_replaced_between_steps(layout: Layout) -> None:
    ours = parameters([(4, 3), (100, 100), (200, 300)])
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05), of_library(theirs, lr=0.05)
    train_both(range(7), ours, theirs, optimizer, oracle)

    for parameter in ours:
        parameter.data = layout(parameter.data)
    train_both(range(7, 9), ours, theirs, optimizer, oracle)

    assert_same_trajectory(ours, theirs, optimizer, oracle)


def test_autograd_notices_that_parameters_were_changed() -> None:
    for size in (3, 9000):
        (parameter,), optimizer = trained(7, [(size,)])
        loss = parameter.square().sum()
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def assert_gradients_unmodified() -> None:
    params = [p for dtype in DTYPES for p in parameters(SHAPES, dtype)]
    params.append(torch.nn.Parameter(transposed(noise((100, 200), 1))))
    optimizer = fused(params, lr=0.05, weight_decay=0.1, silent_sgd_phase=False)
    for step in range(7):
        give_gradients(step, params)
        gradients = [p.grad for p in params]
        before = [(g.clone(), g._version) for g in gradients if g is not None]
        optimizer.step()
        for parameter, gradient, (values, version) in zip(params, gradients, before, strict=True):
            assert parameter.grad is gradient
            assert gradient is not None
            assert torch.equal(gradient, values)
            assert gradient._version == version


def test_gradients_are_unmodified_bit_for_bit() -> None:
    assert_gradients_unmodified()


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process in which nothing was compiled yet."""
    monkeypatch.setattr(kernel, "_kernels", {})


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, no_kernels: None) -> Iterator[list[str]]:
    """As where nothing can be compiled; the calls of what would have been compiled are noted."""
    calls: list[str] = []

    def compile_nothing(function: Callable[..., None], **_: Any) -> Callable[..., None]:
        def fail(*_: torch.Tensor) -> None:
            calls.append(function.__name__)
            raise RuntimeError("no compiler here\nsecond line")

        return fail

    monkeypatch.setattr(torch, "compile", compile_nothing)
    return calls


def test_without_a_compiler_one_warning_names_the_reason_at_the_callers_line(no_compiler: list[str]) -> None:
    (parameter,), optimizer = trained(0, [(100, 100)])
    give_gradients(0, [parameter])

    with pytest.warns(OptimWarning, match=r"can't compile .* RuntimeError: no compiler here\. On a CPU") as caught:
        optimizer.step()
    # Other kinds and other optimizers: the warnings of here are errors.
    for dtype in (torch.float32, torch.float64):
        others = parameters([(9000,), (50_000,)], dtype)
        optimizer = fused(others)
        for step in range(2):
            give_gradients(step, others)
            optimizer.step()

    assert [warning.filename for warning in caught] == [__file__]
    # Once for each kind.
    assert len(no_compiler) == 4


@pytest.mark.filterwarnings("ignore:ScheduleFreeRAdam with fused=True can't compile")
@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
def test_without_a_compiler_the_trajectory_is_the_same(no_compiler: list[str], options: dict[str, Any]) -> None:
    ours = [*parameters([*SHAPES, (300, 400)]), *parameters([(9000,)], torch.float64)]
    ours.append(torch.nn.Parameter(transposed(noise((200, 300), 1))))
    theirs = copies(ours)
    optimizer, oracle = fused(ours, **options), of_library(theirs, **options)

    train_both(range(9), ours, theirs, optimizer, oracle)

    assert no_compiler
    assert_same_trajectory(ours, theirs, optimizer, oracle)


@pytest.mark.filterwarnings("ignore:ScheduleFreeRAdam with fused=True can't compile")
def test_without_a_compiler_gradients_are_unmodified_bit_for_bit(no_compiler: list[str]) -> None:
    assert_gradients_unmodified()
    assert no_compiler


def test_with_compilation_switched_off_the_trajectory_is_the_same() -> None:
    ours = parameters([(30,), (60, 60), (9000,), (50_000,)])
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05, weight_decay=0.1), of_library(theirs, lr=0.05, weight_decay=0.1)

    with torch.compiler.set_stance("force_eager"):
        train_both(range(8), ours, theirs, optimizer, oracle)

    assert_same_trajectory(ours, theirs, optimizer, oracle)


BROKEN = """
import sys
import warnings
import schedulefree
import torch
from optim_schedule_free_radam import ScheduleFreeRAdam

ours = [torch.nn.Parameter(torch.linspace(-1, 1, size)) for size in (10, 9000, 50_000)]
theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
optimizer = ScheduleFreeRAdam(ours, lr=0.05, weight_decay=0.1, fused=True)
oracle = schedulefree.RAdamScheduleFree(theirs, lr=0.05, weight_decay=0.1)
oracle.train()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for step in range(8):
        for a, b in zip(ours, theirs):
            a.grad, b.grad = (torch.linspace(step, step + 2, p.numel()).sin() for p in (a, b))
        gradients = [p.grad.clone() for p in ours]
        optimizer.step()
        oracle.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(ours, gradients))
for a, b in zip(ours, theirs):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)
print(*[w.filename for w in caught if "can't compile" in str(w.message)], sep=",")
"""


def test_with_a_broken_compiler_one_warning_and_the_same_trajectory(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(BROKEN, encoding="utf-8")
    broken = {"CXX": str(tmp_path / "c++"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}

    command = [sys.executable, str(script)]
    result = subprocess.run(command, env={**os.environ, **broken}, capture_output=True, text=True, timeout=120)

    assert (result.returncode, result.stdout.strip()) == (0, str(script)), result.stderr


def test_kernels_are_compiled_by_kind_of_tensor_and_not_by_tensor_or_optimizer(
    monkeypatch: pytest.MonkeyPatch, no_kernels: None
) -> None:
    compiled: list[dict[str, Any]] = []

    def count(function: Callable[..., None], **options: Any) -> Callable[..., None]:
        compiled.append(options)
        return function

    monkeypatch.setattr(torch, "compile", count)
    shapes = [(size,) for size in range(100, 130)] + [(100 + n, 90 + 7 * n) for n in range(50)]
    for _ in range(2):
        params, optimizer = trained(2, shapes)
        optimizer.add_param_group({"params": parameters([(99, 777)])})
        params = optimizer.param_groups[-1]["params"]
        give_gradients(0, params)
        optimizer.step()

    assert len(compiled) == len(kernel._kernels) == 2
    assert all(options["dynamic"] is True for options in compiled)


def test_nothing_is_compiled_anew_as_steps_go_by_or_sizes_and_options_change() -> None:
    trained(1, [(9000,), (40_000,)])

    with torch.compiler.set_stance("fail_on_recompile"):
        for seed, options in enumerate(OPTIONS):
            sizes = [(8193 + 1277 * n + seed,) for n in range(25)] + [(30 * n,) for n in range(25)] + [(300, 200)]
            params, optimizer = trained(8, sizes, **options)
            optimizer.eval()
            optimizer.train()
            others, resumed = trained(0, sizes, **options)
            resumed.load_state_dict(optimizer.state_dict())
            give_gradients(9, params, others)
            optimizer.step()
            resumed.step()


@pytest.mark.parametrize("in_buckets", [False, True])
def test_nothing_is_compiled_anew_for_shapes_or_for_gradients_in_ddps_buckets(in_buckets: bool) -> None:
    trained(1, [(40_000,)])
    shapes = [(50_000,), (1, 50_000), (40_000, 1), (300, 1, 200), (1, 197, 400), (1, 1, 300, 200), (512, 100, 1, 1)]
    params, optimizer = trained(0, [*shapes, (64, 1, 7, 100), (64, 64, 3, 3), (32, 16, 3, 3, 10), (1, 1, 1, 1, 40_000)])

    with torch.compiler.set_stance("fail_on_recompile"):
        for step in range(2):
            give_gradients(step, params)
            for parameter in params if in_buckets else []:
                assert parameter.grad is not None
                # As gradient_as_bucket_view=True has them: views of one long tensor.
                parameter.grad = torch.cat([parameter.grad.flatten(), torch.zeros(9)])[:-9].view(parameter.shape)
            optimizer.step()


def test_nothing_is_compiled_anew_for_gradients_that_are_part_of_a_graph() -> None:
    params, optimizer = trained(1, [(40_000,), (9000,), (4000,)])

    with torch.compiler.set_stance("fail_on_recompile"):
        for parameter in params:
            # As for a penalty on them.
            parameter.grad = torch.ones(parameter.shape, requires_grad=True) * 2
        optimizer.step()


def test_stepping_under_a_dispatch_mode_works_and_leaves_later_steps_as_they_were(no_kernels: None) -> None:
    ours = parameters([(30,), (9000,), (50_000,)])
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05), of_library(theirs, lr=0.05)
    train_both(range(6), ours, theirs, optimizer, oracle)

    give_gradients(6, ours, theirs)
    with FlopCounterMode(display=False):
        optimizer.step()
    oracle.step()
    train_both(range(7, 9), ours, theirs, optimizer, oracle)

    assert_same_trajectory(ours, theirs, optimizer, oracle)


def test_many_changes_of_pytorchs_global_settings_do_not_stop_the_steps() -> None:
    # Each has the compiler make its code anew, which it does not for ever.
    ours = parameters([(9000,)])
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05), of_library(theirs, lr=0.05)
    threads = torch.get_num_threads()
    try:
        for step in range(12):
            torch.set_num_threads(1 + step)
            train_both(range(step, step + 1), ours, theirs, optimizer, oracle)
    finally:
        torch.set_num_threads(threads)

    assert_same_trajectory(ours, theirs, optimizer, oracle)


def net() -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.Tanh(), torch.nn.Linear(100, 1))


def update(module: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: int) -> None:
    inputs = torch.linspace(batch, batch + 2, 500).reshape(5, 100).sin()
    optimizer.zero_grad()
    module(inputs).square().mean().backward()
    optimizer.step()


def test_compiled_training_step_may_call_it_from_the_first_step_on(no_kernels: None) -> None:
    ours, reference = net(), net()
    optimizer, other = (fused(each.parameters(), lr=0.05) for each in (ours, reference))
    compiled = torch.compile(update, backend="eager")

    for batch in range(9):
        batch_of_compiled = torch.tensor(batch)
        with torch.compiler.set_stance("default" if batch < 3 else "fail_on_recompile"):
            compiled(ours, optimizer, batch_of_compiled)
        update(reference, other, batch)

    assert_same_trajectory(list(ours.parameters()), list(reference.parameters()), optimizer, other)
    assert any(kernel._kernels.values())


def test_closure_is_called_once_with_gradients_enabled_before_the_update() -> None:
    ours, theirs = net(), net()
    optimizer, oracle = (make(m.parameters(), lr=0.05) for make, m in ((fused, ours), (of_library, theirs)))
    calls: list[bool] = []

    def closure(module: torch.nn.Module, each: torch.optim.Optimizer) -> float:
        calls.append(torch.is_grad_enabled())
        each.zero_grad()
        loss = module(torch.ones(100)).square().sum()
        loss.backward()
        return loss.item()

    with torch.no_grad():
        losses = [
            [each.step(lambda module=module, each=each: closure(module, each)) for _ in range(8)]
            for module, each in ((ours, optimizer), (theirs, oracle))
        ]

    assert calls == [True] * 16
    torch.testing.assert_close(*losses)
    assert_same_trajectory(list(ours.parameters()), list(theirs.parameters()), optimizer, oracle)


def test_step_in_evaluation_mode_is_refused_and_changes_nothing() -> None:
    params, optimizer = trained(8)
    optimizer.eval()
    before, state_before = copies(params), copy.deepcopy(optimizer.state_dict())

    with pytest.raises(EvaluationModeError):
        optimizer.step()

    assert identical(params, before)
    torch.testing.assert_close(optimizer.state_dict(), state_before, rtol=0, atol=0)


def test_step_without_gradients_counts_and_leaves_no_state() -> None:
    _, optimizer = trained(0)

    optimizer.step()

    assert (optimizer.param_groups[0]["k"], len(optimizer.state)) == (1, 0)


def test_grad_scaler_skips_an_overflow() -> None:
    params, optimizer = trained(7)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before, options = copies(params), options_and_counters(optimizer)

    for overflow in (True, False):
        optimizer.zero_grad()
        scaler.scale(sum(p.square().sum() for p in params)).backward()
        if overflow:
            assert params[1].grad is not None
            params[1].grad.view(-1)[77] = torch.inf
        scaler.step(optimizer)
        scaler.update()
        assert identical(params, before) is overflow
        assert (options_and_counters(optimizer) == options) is overflow


def test_reading_the_distributed_state_of_a_fresh_optimizer_leaves_it_fresh() -> None:
    module, reference = net(), net()
    optimizer, untouched = (fused(each.parameters(), lr=0.05, weight_decay=0.1) for each in (module, reference))

    state = get_optimizer_state_dict(module, optimizer)

    assert set(state["state"]["0.weight"]) == {"z", "exp_avg_sq"}  # type: ignore[index, arg-type]
    assert options_and_counters(optimizer) == options_and_counters(untouched)
    assert identical(list(module.parameters()), list(net().parameters()))
    for batch in range(8):
        update(module, optimizer, batch)
        update(reference, untouched, batch)
    assert identical(list(module.parameters()), list(reference.parameters()))


def test_distributed_state_continues_exactly_in_a_fresh_optimizer() -> None:
    module = net()
    optimizer = fused(module.parameters(), lr=0.05)
    for batch in range(8):
        update(module, optimizer, batch)
    target = copy.deepcopy(module)
    resumed = fused(target.parameters(), lr=0.05)

    set_optimizer_state_dict(target, resumed, copy.deepcopy(get_optimizer_state_dict(module, optimizer)))

    for batch in range(8, 11):
        update(module, optimizer, batch)
        update(target, resumed, batch)
    assert identical(list(module.parameters()), list(target.parameters()))


def test_state_dict_is_as_the_librarys() -> None:
    theirs = parameters([(3, 5), (100, 100)])
    oracle = of_library(theirs)
    for step in range(7):
        give_gradients(step, theirs)
        oracle.step()
    ours = trained(7)[1].state_dict()
    expected = oracle.state_dict()

    assert ours.keys() == expected.keys()
    assert [group.keys() for group in ours["param_groups"]] == [group.keys() for group in expected["param_groups"]]
    assert {i: list(state) for i, state in ours["state"].items()} == {0: ["z", "exp_avg_sq"], 1: ["z", "exp_avg_sq"]}
    for index, state in expected["state"].items():
        for name, value in state.items():
            found = ours["state"][index][name]
            assert (found.dtype, found.shape, found.stride()) == (value.dtype, value.shape, value.stride())


@pytest.mark.parametrize("evaluating", [False, True])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (fused, fused),
        (fused, of_library),
        (of_library, fused),
        (fused, ScheduleFreeRAdam),
        (ScheduleFreeRAdam, fused),
    ],
)
def test_saved_state_continues(
    source: Callable[..., torch.optim.Optimizer], target: Callable[..., torch.optim.Optimizer], evaluating: bool
) -> None:
    shapes = [(), (3, 5), (60, 60), (100, 100), (300, 300)]
    first = parameters(shapes)
    options: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1}
    saved: Any = source(first, **options)
    for step in range(8):
        give_gradients(step, first)
        saved.step()
    if evaluating:
        saved.eval()
    file = io.BytesIO()
    torch.save({"model": [p.detach() for p in first], "optimizer": saved.state_dict()}, file)
    file.seek(0)

    loaded = torch.load(file, weights_only=True)
    second = [torch.nn.Parameter(tensor) for tensor in loaded["model"]]
    resumed: Any = target(second, **options)
    resumed.load_state_dict(loaded["optimizer"])

    assert {group["train_mode"] for group in resumed.param_groups} == {not evaluating}
    saved.train()
    resumed.train()
    train_both(range(8, 11), first, second, saved, resumed)
    assert_same_trajectory(second, first, resumed, saved)
    if source is target:
        assert_same_trajectory(second, first, resumed, saved, {"rtol": 0, "atol": 0})


@pytest.mark.parametrize("through", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("evaluating", [False, True])
def test_copies_stay_fused_and_go_on_alike(through: Callable[[Any], Any], evaluating: bool) -> None:
    params, optimizer = trained(8)
    if evaluating:
        optimizer.eval()

    twins, twin = through((params, optimizer))

    assert twin.fused is True
    for each in (optimizer, twin):
        each.train()
    train_both(range(8, 11), params, twins, optimizer, twin)
    assert identical(twins, params)
    assert twin._fused_step is not optimizer._fused_step


def test_late_group_trains_as_the_librarys() -> None:
    ours = parameters([(3,), (9000,)])
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05), of_library(theirs, lr=0.05)
    train_both(range(6), ours, theirs, optimizer, oracle)
    late = parameters([(5, 2), (20_000,), (50_000,)])
    late_theirs = copies(late)

    optimizer.add_param_group({"params": late, "lr": 0.02})
    oracle.add_param_group({"params": late_theirs, "lr": 0.02})
    oracle.train()
    train_both(range(6, 14), [*ours, *late], [*theirs, *late_theirs], optimizer, oracle)

    assert [group["k"] for group in optimizer.param_groups] == [14, 8]
    assert_same_trajectory([*ours, *late], [*theirs, *late_theirs], optimizer, oracle)


def test_everything_is_freed_with_the_optimizer_and_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        params, optimizer = trained(3, [(3,), (60, 60), (9000,), (40_000,)])
        left = [weakref.ref(thing) for thing in (optimizer, optimizer._fused_step, *params)]
        left += [weakref.ref(tensor) for state in optimizer.state.values() for tensor in state.values()]
        del params, optimizer
        assert [reference() for reference in left] == [None] * len(left)
    finally:
        gc.enable()


@pytest.mark.filterwarnings("ignore:ScheduleFreeRAdam with fused=True can't compile")
def test_everything_is_freed_without_a_compiler_too(no_compiler: list[str]) -> None:
    test_everything_is_freed_with_the_optimizer_and_without_the_garbage_collector()
    assert no_compiler


def allocated_in_a_step(params: Parameters, optimizer: torch.optim.Optimizer) -> int:
    """The most bytes that one operation of a step leaves allocated."""
    give_gradients(99, params)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        optimizer.step()
    return max(event.cpu_memory_usage for event in profile.events())


def test_step_makes_no_temporary_of_a_large_tensors_size() -> None:
    params, optimizer = trained(7, [(400_000,), (500, 600)])
    theirs = copies(params)
    oracle = of_library(theirs)
    for step in range(7):
        give_gradients(step, theirs)
        oracle.step()

    assert allocated_in_a_step(params, optimizer) < 10_000
    # What is measured would be seen: the library's denominator.
    assert allocated_in_a_step(theirs, oracle) >= 4 * 400_000


@pytest.mark.parametrize("fuses", [True, False])
def test_the_choice_can_be_read_and_made_by_the_factory(fuses: bool) -> None:
    optimizer = ScheduleFreeRAdamFactory(fused=fuses).build(parameters([(3,)]))

    assert optimizer.fused is fuses
    assert "fused" not in optimizer.param_groups[0]
    assert ScheduleFreeRAdam(parameters([(3,)])).fused is False


@pytest.mark.parametrize("value", ["perhaps", 7, None])
def test_wrong_type_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgumentsError, match=r"fused = .*: must be a valid boolean"):
        ScheduleFreeRAdamFactory(fused=value)
    with pytest.raises(InvalidArgumentsError, match=r"fused = .*: must be a valid boolean"):
        ScheduleFreeRAdam(parameters([(3,)]), fused=value)


class TestConformance(OptimizerConformance):
    factory = "schedule_free_radam"
    params: ClassVar[Mapping[str, Any]] = {"lr": 2.5e-3, "fused": True}
    claims = Claims(unchanged_gradients=True)


def on(device: str, params: Parameters) -> Parameters:
    return [torch.nn.Parameter(p.detach().to(device)) for p in params]


@pytest.mark.gpu
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_trajectory_on_a_gpu_is_the_librarys(options: dict[str, Any]) -> None:
    ours = on("cuda", parameters([*SHAPES, (2000, 1500)]))
    # A parameter that begins anywhere in another's memory.
    ours.append(torch.nn.Parameter(torch.cat([noise((1,), 0), noise((70_000,), 1)]).to("cuda")[1:]))
    theirs = copies(ours)
    optimizer, oracle = fused(ours, **options), of_library(theirs, **options)

    for step in range(9):
        train_both(range(step, step + 1), ours, theirs, optimizer, oracle)
        for each in (optimizer, oracle):
            each.eval()
        assert_same_trajectory(ours, theirs, optimizer, oracle)
        for each in (optimizer, oracle):
            each.train()


@pytest.mark.gpu
def test_parameters_of_a_cpu_and_a_gpu_in_one_optimizer() -> None:
    shapes = [(), (5,), (3000,), (9000,), (50_000,)]
    ours = [*parameters(shapes), *on("cuda", parameters(shapes)), *on("cuda", parameters(shapes, torch.float64))]
    theirs = copies(ours)
    optimizer, oracle = fused(ours, lr=0.05, weight_decay=0.1), of_library(theirs, lr=0.05, weight_decay=0.1)

    train_both(range(9), ours, theirs, optimizer, oracle)

    assert_same_trajectory(ours, theirs, optimizer, oracle)
    assert [optimizer.state[p]["z"].device for p in ours] == [p.device for p in ours]


@pytest.mark.gpu
def test_nothing_is_compiled_anew_on_a_gpu_and_gradients_are_unmodified() -> None:
    params = on("cuda", parameters([(9000,), (40_000,), (300,)]))
    optimizer = fused(params)
    give_gradients(0, params)
    optimizer.step()

    with torch.compiler.set_stance("fail_on_recompile"):
        for step in range(1, 8):
            params = on("cuda", parameters([(9001 + step,), (40_001 + 7 * step,), (301 + step,), (3001, step)]))
            optimizer = fused(params, lr=0.05, silent_sgd_phase=False)
            give_gradients(step, params)
            gradients = [p.grad.clone() for p in params if p.grad is not None]
            optimizer.step()
            assert identical([p.grad for p in params if p.grad is not None], gradients)


@pytest.mark.gpu
def test_large_parameters_on_a_gpu_are_updated_in_little_memory() -> None:
    params = on("cuda", parameters([(5_000_000,)]))
    optimizer = fused(params)
    for step in range(7):
        give_gradients(step, params)
        optimizer.step()

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    optimizer.step()

    assert torch.cuda.max_memory_allocated() - before < 1_000_000
