"""Reading an optimizer class: from its constructor to a factory that builds it."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
import wrapped_classes
from torch.optim import Optimizer
from wrapped_classes import (
    ByPosition,
    Decorated,
    Deprecated,
    Derived,
    Handing,
    Inheriting,
    LivesInGroups,
    MatricesOnly,
    NeedsCallable,
    NeedsClosure,
    NeedsText,
    NoStep,
    OverModel,
    OverNames,
    OverOptimizer,
    Plain,
    Quacks,
    Raises,
    Required,
    Talking,
    TestOfPatience,
)

from optim_tools.inspection.example import refusal
from optim_tools.scaffolding.author import PLACEHOLDER
from optim_tools.scaffolding.constructor import NotWrappableError
from optim_tools.scaffolding.distribution import files_of
from optim_tools.scaffolding.factory_source import factory_source
from optim_tools.scaffolding.licenses import LICENSES
from optim_tools.scaffolding.names import PluginNames
from optim_tools.scaffolding.plugin import Plugin
from optim_tools.scaffolding.reading import read_class
from optim_tools.scaffolding.wrapping import Wrapping

NAMES = PluginNames("optim-wrapped", "optim_wrapped", "wrapped", "Wrapped")


def read(target: object, module: ModuleType = wrapped_classes) -> Wrapping:
    return read_class(target, module, getattr(target, "__name__", ""), NAMES)


def fields(wrapping: Wrapping) -> dict[str, tuple[str, str | None]]:
    return {option.name: (option.annotation, option.default) for option in wrapping.options}


def built(wrapping: Wrapping, **params: Any) -> Optimizer:
    namespace: dict[str, Any] = {"__name__": "generated"}
    module = ModuleType("generated")
    sys.modules["generated"] = module
    try:
        exec(factory_source(NAMES, wrapping), vars(module))
        factory = vars(module)["WrappedFactory"]
        assert refusal(factory, wrapping.example) == []
        optimizer: Optimizer = factory(**{**wrapping.example, **params}).build([torch.nn.Parameter(torch.ones(2, 2))])
    finally:
        del sys.modules["generated"], namespace
    return optimizer


def test_arguments_become_fields_with_type_and_default() -> None:
    assert fields(read(Plain)) == {
        "lr": ("Annotated[float, Gt(0)]", "0.01"),
        "betas": ("tuple[Beta, Beta]", "(0.9, 0.99)"),
        "mode": ('Literal["fast", "slow"]', '"fast"'),
        "every": ("int | float", "10"),
        "limit": ("Any", "None"),
        "scale": ("float | None", "None"),
        "tags": ("list[str]", "field(default_factory=list)"),
        "cap": ("float", "math.inf"),
    }


def test_what_yaml_cannot_give_is_left_out_with_the_reason() -> None:
    left_out = read(Plain).left_out

    assert set(left_out) == {"hook", "dtype", "_private"}
    assert left_out["dtype"] == "no YAML can give a dtype"


def test_meanings_are_one_sentence_without_the_default() -> None:
    wrapping = read(Plain)

    assert wrapping.summary == "Moves by the gradient."
    assert {option.name: option.meaning for option in wrapping.options if option.meaning} == {
        "lr": "the rate.",
        "mode": "how to go.",
        "betas": "two of them.",
    }
    assert read(Inheriting).summary == "Inheriting."


def test_arguments_of_a_base_class_are_reached_unless_they_are_given() -> None:
    wrapping = read(Derived)

    assert list(fields(wrapping)) == ["extra", "lr", "betas", "every", "limit", "scale", "tags", "cap"]
    assert built(wrapping, extra=1, lr=0.5).param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("target", [Handing, Inheriting, Decorated])
def test_a_constructor_that_is_handed_on_or_inherited_is_read(target: type) -> None:
    assert fields(read(target)) == fields(read(Plain))


def test_required_arguments_remain_so_and_have_values_that_work() -> None:
    wrapping = read(Required)

    assert fields(wrapping) == {"total_steps": ("int", None), "lr": ("float", None)}
    assert wrapping.example == {"total_steps": 1000, "lr": 0.001}
    assert built(wrapping).param_groups[0]["lr"] == 0.001


def test_an_argument_that_has_no_keyword_is_passed_on_by_position() -> None:
    wrapping = read(ByPosition)

    assert wrapping.options[0].positional
    assert built(wrapping, lr=0.25).param_groups[0]["lr"] == 0.25


def test_every_argument_is_passed_on() -> None:
    optimizer = built(read(torch.optim.AdamW, torch.optim), lr=0.5, betas=(0.1, 0.2), amsgrad=True)

    expected = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=0.5, betas=(0.1, 0.2), amsgrad=True)
    assert optimizer.defaults == expected.defaults


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (print, "is a builtin_function_or_method, not a class"),
        (int, "is no torch.optim.Optimizer"),
        (Quacks, "is no torch.optim.Optimizer; let it inherit from it"),
        (NoStep, "has no step"),
        (Optimizer, "has no step"),
        (OverModel, r"takes a whole model \(model\)"),
        (OverOptimizer, r"is put around another optimizer \(inner\)"),
        (OverNames, "needs parameters with their names"),
        (NeedsCallable, "needs the argument hook, but no YAML can give a"),
        (NeedsText, "needs the arguments path, for which no values are known that work"),
        (LivesInGroups, "can't be built over parameters: "),
        (TestOfPatience, "has a name that begins with Test"),
        (Raises, "can't be built over parameters: RuntimeError: no GPU"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_with_the_reason(target: object, reason: str) -> None:
    with pytest.raises(NotWrappableError, match=reason):
        read(target)


@pytest.mark.parametrize(
    ("target", "flags"),
    [(Plain, {}), (MatricesOnly, {"vectors": False, "scalars": False}), (NeedsClosure, {"needs_closure": True})],
)
def test_what_a_step_needs_is_found_out(target: type, flags: dict[str, bool]) -> None:
    findings = read(target).findings

    assert findings is not None
    assert findings.flags == flags


def test_what_an_optimizer_warns_of_is_no_failure_of_its_tests() -> None:
    plugin = Plugin(NAMES, PLACEHOLDER, LICENSES["MIT"], 2031)

    def filters(wrapping: Wrapping | None) -> list[str]:
        project = tomllib.loads(files_of(replace(plugin, wrapping=wrapping))["pyproject.toml"])
        found: list[str] = project["tool"]["pytest"]["ini_options"]["filterwarnings"]
        return found

    assert filters(None) == ["error", *filters(read(Deprecated))]


def test_what_is_left_out_is_told_in_lines_that_are_short_enough() -> None:
    wrapping = replace(read(Plain), left_out={"hook": f"no YAML can give a {'very ' * 40}long one"})

    lines = factory_source(NAMES, wrapping).splitlines()

    assert max(map(len, lines)) <= 120
    assert sum("very" in line and line.startswith("    # ") for line in lines) > 1


def test_what_an_optimizer_prints_is_not_heard(capfd: pytest.CaptureFixture[str]) -> None:
    read(Talking)

    assert capfd.readouterr() == ("", "")
