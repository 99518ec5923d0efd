"""Example params: a factory's own, or guesses that were tried."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pydantic
import pytest
import torch
from annotated_types import Gt, Le, Lt

from optim_core.arguments.number_types import Beta, PeakLearningRate, StepCount, Steps
from optim_core.arguments.validation import Rule, validate_fields
from optim_core.factories.factory import construct_factory
from optim_tools.inspection.example import example_params


class Buildable:
    def build(self, params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params)


class Own(Buildable):
    example_params: ClassVar[dict[str, Any]] = {"lr": 0.3, "betas": (0.1, 0.2), "clip": math.inf}

    def __init__(self, lr: float, betas: tuple[float, float], clip: float) -> None: ...


def test_a_factory_s_own_example_is_taken_as_yaml_would_give_it() -> None:
    assert example_params(Own) == {"lr": 0.3, "betas": [0.1, 0.2], "clip": math.inf}


@pytest.mark.parametrize("own", [{"rate": 0.3}, {"lr": -1}, {"lr": object()}, "lr", None, {3: 4}])
def test_an_example_that_does_not_work_is_replaced(own: Any) -> None:
    class Factory(Buildable):
        example_params = own

        def __init__(self, lr: PeakLearningRate) -> None: ...

    assert example_params(Factory) == {"lr": 0.001}


def test_nothing_is_guessed_where_nothing_is_required() -> None:
    class Factory(Buildable):
        def __init__(self, lr: float = 0.1) -> None: ...

    assert example_params(Factory) == {}


@dataclass(frozen=True, kw_only=True)
class Warmup(Buildable):
    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(("warmup_steps", "total_steps"), lambda w, t: w < t, "must be less than total_steps"),
        Rule(("end_lr", "peak_lr"), lambda e, p: e < p, "must be less than peak_lr"),
    )
    peak_lr: PeakLearningRate
    end_lr: PeakLearningRate
    total_steps: StepCount
    warmup_steps: Steps
    betas: tuple[Beta, Beta]
    mode: Literal["cos", "linear"]
    nesterov: bool

    def __post_init__(self) -> None:
        validate_fields(self)


class Inner(pydantic.BaseModel):
    weight: Annotated[float, Gt(5)]
    child: Inner | None = None


class Nested(Buildable):
    def __init__(
        self, inner: Inner, rates: list[float], limits: dict[str, int], odd: Annotated[int, Gt(7)]
    ) -> None: ...


class Untyped(Buildable):
    def __init__(self, learningRate, weight_decay, momentum=0.9): ...  # type: ignore[no-untyped-def]


class AsksForMore(Buildable):
    RULES: ClassVar = (Rule(("total_steps", "epochs"), lambda t, e: t or e, "must be given, or epochs"),)

    def __init__(self, lr: float, total_steps: int | None = None, epochs: int | None = None) -> None: ...


class Fraction(Buildable):
    def __init__(self, warmup: Annotated[float, Gt(0), Lt(1)], last: Annotated[int, Le(-5)] | None) -> None: ...


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (
            Warmup,
            {
                "peak_lr": 0.001,
                "end_lr": 1e-5,
                "total_steps": 1000,
                "warmup_steps": 100,
                "betas": [0.9, 0.999],
                "mode": "cos",
                "nesterov": False,
            },
        ),
        (Nested, {"inner": {"weight": 10}, "rates": [0.1], "limits": {}, "odd": 10}),
        (Untyped, {"learningRate": 0.001, "weight_decay": 0.01}),
        (AsksForMore, {"lr": 0.001, "total_steps": 1000}),
        (Fraction, {"warmup": 0.1, "last": -5}),
    ],
)
def test_guesses_fit_names_types_constraints_and_rules(target: type, expected: dict[str, Any]) -> None:
    assert example_params(target) == expected
    construct_factory(target, expected)


class Named(Buildable):
    def __init__(self, lr: float, backend: str) -> None: ...


class Mysterious(Buildable):
    def __init__(self, thing: Any) -> None: ...


class Failing(Buildable):
    def __init__(self, lr: float = 0.1) -> None:
        raise RuntimeError("needs a GPU")


class Positional(Buildable):
    def __init__(self, lr: float, /) -> None: ...


class NeverRight(Buildable):
    RULES: ClassVar = (Rule(("lr", "decay"), lambda *_: False, "must be right"),)

    def __init__(self, lr: float, decay: float) -> None: ...


class BuildsNothing:
    def __init__(self, lr: float) -> None: ...
    def build(self, params: Any) -> None: ...


@pytest.mark.parametrize("target", [BuildsNothing, Named, Mysterious, Failing, Positional, NeverRight])
def test_nothing_is_offered_that_does_not_work(target: type) -> None:
    assert example_params(target) is None
