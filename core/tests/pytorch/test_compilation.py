"""Methods that are kept out of compiled code."""

from __future__ import annotations

import torch
from torch._dynamo.testing import CompileCounter

from optim_core.authoring import keep_uncompiled


class Counter:
    def __init__(self) -> None:
        self.steps = 0

    def advance(self) -> None:
        self.steps += 1


def test_kept_method_runs_as_python_each_time() -> None:
    torch.compiler.reset()
    keep_uncompiled(Counter, "advance")
    kept = Counter.advance
    keep_uncompiled(Counter, "advance")
    assert Counter.advance is kept
    counter, compilations = Counter(), CompileCounter()

    @torch.compile(backend=compilations)
    def step(value: torch.Tensor) -> torch.Tensor:
        counter.advance()
        return value + 1

    step(torch.ones(1))
    compiled = compilations.frame_count
    with torch.compiler.set_stance("fail_on_recompile"):
        for _ in range(5):
            step(torch.ones(1))
    assert (counter.steps, compilations.frame_count, compiled) == (6, 1, 1)
