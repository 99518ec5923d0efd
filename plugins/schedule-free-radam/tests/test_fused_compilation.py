"""Kernels of schedule-free RAdam's fused step: what is compiled and when, and steps where nothing can be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from optim_core import OptimWarning
from optim_schedule_free_radam import kernel
from radam_support.fused_training import (
    OPTIONS,
    SHAPES,
    assert_gradients_unmodified,
    assert_same_trajectory,
    copies,
    fused,
    give_gradients,
    net,
    noise,
    of_library,
    parameters,
    train_both,
    trained,
    transposed,
    update,
)

pytestmark = pytest.mark.slow  # C++ is compiled again and again


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
