"""`without_hooks`, and the private parts of PyTorch that it stands on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from optim_core.authoring import without_hooks


def fresh_class() -> type[torch.optim.Optimizer]:
    """An optimizer class of which none was made yet, so that PyTorch has not wrapped its step."""

    class Fresh(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> Any:
            return "stepped"

    return Fresh


def make(cls: type[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    return cls([torch.nn.Parameter(torch.ones(1))], {})


def test_pytorch_marks_the_wrapper_and_keeps_what_is_below_it() -> None:
    cls = fresh_class()
    written = cls.step

    make(cls)

    assert cls.step is not written
    assert cls.step.hooked is True  # type: ignore[attr-defined]
    assert cls.step.__wrapped__ is written  # type: ignore[attr-defined]


def test_function_below_the_wrapper_is_found() -> None:
    cls = fresh_class()
    written = cls.step
    make(cls)

    assert without_hooks(cls.step) is written


def test_function_that_is_not_wrapped_is_itself() -> None:
    cls = fresh_class()

    assert without_hooks(cls.step) is cls.step


def test_bound_step_becomes_the_plain_function() -> None:
    cls = fresh_class()
    written = cls.step

    assert without_hooks(make(cls).step) is written


def test_other_wrappers_are_left_alone() -> None:
    # SGD's own step is wrapped by functools.wraps too, but not by PyTorch's hooks.
    torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])

    step = without_hooks(torch.optim.SGD.step)

    assert not getattr(step, "hooked", False)
    assert hasattr(step, "__wrapped__")


def test_no_hook_runs() -> None:
    cls = fresh_class()
    optimizer = make(cls)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))

    assert without_hooks(optimizer.step)(optimizer) == "stepped"
    assert calls == []
    optimizer.step()
    assert calls == ["pre", "post"]


@pytest.mark.parametrize("base_first", [True, False])
def test_hooks_of_a_subclass_run_once(base_first: bool) -> None:
    cls = fresh_class()

    class Quiet(cls):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None) -> Any:
            return without_hooks(super().step)(self, closure)

    if base_first:
        make(cls)
    optimizer = make(Quiet)
    make(cls)
    calls: list[str] = []
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))

    assert (optimizer.step(), calls) == ("stepped", ["post"])
