"""Constructing factories of every kind of class from configured params."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import pydantic
import pytest
from annotated_types import Gt

from optim_core.arguments.validation import Rule
from optim_core.errors import InvalidArgumentsError
from optim_core.factories.factory import OptimizerFactory, construct_factory, effective_params


class Recording:
    def build(self, params: Any) -> Any:
        return None


class Plain(Recording):
    def __init__(self, lr: Annotated[float, Gt(0)], steps: int = 10, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.lr, self.steps, self.betas = lr, steps, betas


@dataclass(frozen=True, kw_only=True)
class Fields(Recording):
    lr: Annotated[float, Gt(0)]
    steps: int = 10
    betas: tuple[float, float] = (0.9, 0.99)


class Model(pydantic.BaseModel):
    lr: float = pydantic.Field(gt=0)
    steps: int = 10
    betas: tuple[float, float] = (0.9, 0.99)

    def build(self, params: Any) -> Any:
        return None


class Ignoring(Model):
    model_config = pydantic.ConfigDict(extra="ignore")


class Forbidding(Model):
    model_config = pydantic.ConfigDict(extra="forbid")


EVERY_KIND = pytest.mark.parametrize("target", [Plain, Fields, Model, Ignoring, Forbidding])


def refusal(target: type, **params: Any) -> InvalidArgumentsError:
    with pytest.raises(InvalidArgumentsError) as caught:
        construct_factory(target, params)
    return caught.value


@EVERY_KIND
def test_params_are_converted_to_what_is_declared(target: Any) -> None:
    factory: Any = construct_factory(target, {"lr": "1e-4", "steps": "1e5", "betas": [0.5, "1e-1"]})

    assert type(factory) is target
    assert (factory.lr, factory.steps, factory.betas) == (1e-4, 100_000, (0.5, 0.1))
    assert (type(factory.lr), type(factory.steps), type(factory.betas)) == (float, int, tuple)


@EVERY_KIND
def test_defaults_are_the_constructors(target: type) -> None:
    factory: Any = construct_factory(target, {"lr": 1})

    assert (factory.lr, factory.steps, factory.betas) == (1.0, 10, (0.9, 0.99))


@EVERY_KIND
def test_every_problem_is_reported_at_once(target: type) -> None:
    error = refusal(target, setps=3, steps="many", betas=[0.9, "x"])

    assert error.subject == target.__name__
    assert {problem.path for problem in error.problems} == {"lr", "setps", "steps", "betas[1]"}
    assert "lr: required, but not given" in str(error)
    assert "setps: no such argument. Did you mean 'steps'?" in str(error)


@EVERY_KIND
def test_a_value_out_of_range_is_reported_with_the_rest(target: type) -> None:
    error = refusal(target, lr=-1, steps="many", typo=1)

    assert {problem.path for problem in error.problems} == {"lr", "steps", "typo"}
    assert "lr = -1: must be greater than 0" in str(error)


@EVERY_KIND
def test_an_unknown_key_is_never_dropped(target: type) -> None:
    error = refusal(target, lr=1, momentum=0.9)

    assert [str(problem) for problem in error.problems] == ["momentum: no such argument. Known: lr, steps, betas"]


@EVERY_KIND
@pytest.mark.parametrize("params", [{"lr": True}, {"lr": 1, "steps": False}, {"lr": 1, "betas": [True, 0.9]}])
def test_a_truth_value_is_no_number(target: type, params: dict[str, Any]) -> None:
    assert "must be a number, not true or false" in str(refusal(target, **params))


@EVERY_KIND
def test_params_are_not_changed_in_place(target: type) -> None:
    params = {"lr": "1e-4", "betas": ["1e-1", 0.5]}
    before = copy.deepcopy(params)

    construct_factory(target, params)

    assert params == before


def test_further_names_reach_a_constructor_that_takes_them() -> None:
    class Open(Recording):
        def __init__(self, lr: float, **options: Any) -> None:
            self.lr, self.options = lr, options

    factory: Any = construct_factory(Open, {"lr": "1e-1", "nesterov": True, "foreach": None})

    assert (factory.lr, factory.options) == (0.1, {"nesterov": True, "foreach": None})


def test_further_names_reach_a_model_that_allows_them() -> None:
    class Allowing(Model):
        model_config = pydantic.ConfigDict(extra="allow")

    factory: Any = construct_factory(Allowing, {"lr": 1, "nesterov": True})

    assert factory.nesterov is True


def test_untyped_arguments_get_what_was_given() -> None:
    class Untyped(Recording):
        def __init__(self, lr, options=None):  # type: ignore[no-untyped-def]
            self.lr, self.options = lr, options

    factory: Any = construct_factory(Untyped, {"lr": "1e-4", "options": {"a": [1]}})

    assert (factory.lr, factory.options) == ("1e-4", {"a": [1]})


def test_a_constructor_without_arguments_takes_none() -> None:
    assert type(construct_factory(Recording, {})) is Recording
    assert str(refusal(Recording, lr=1)) == "Recording: lr: no such argument. It takes no arguments"


def test_a_positional_only_argument_is_its_authors_mistake() -> None:
    class Positional(Recording):
        def __init__(self, lr: float, /) -> None: ...

    assert "lr: Positional takes it by position only. Its author must mend that" in str(refusal(Positional))


@pytest.mark.parametrize("kind", [ValueError, TypeError])
def test_what_the_constructor_refuses_is_a_problem_with_its_cause(kind: type[Exception]) -> None:
    class Refusing(Recording):
        def __init__(self, lr: float) -> None:
            raise kind(f"lr of {lr} is no good")

    error = refusal(Refusing, lr="1e-1")

    assert str(error) == "Refusing: lr of 0.1 is no good"
    assert type(error.__cause__) is kind


def test_any_other_error_of_a_constructor_is_a_problem_with_its_type() -> None:
    class Failing(Recording):
        def __init__(self) -> None:
            raise RuntimeError("no GPU")

    with pytest.raises(InvalidArgumentsError, match="Failing: RuntimeError: no GPU") as caught:
        construct_factory(Failing, {})

    assert isinstance(caught.value.__cause__, RuntimeError)


@dataclass(frozen=True)
class Ruled(Recording):
    low: float
    high: float
    steps: int = 1
    RULES: ClassVar[tuple[Rule, ...]] = (Rule(("low", "high"), lambda low, high: low < high, "must be less than high"),)


def test_a_broken_rule_of_a_factory_is_a_problem() -> None:
    assert str(refusal(Ruled, low=3, high=2)) == "Ruled: low = 3.0: must be less than high (high = 2.0)"


def test_a_broken_rule_is_reported_with_wrong_arguments_beside_it() -> None:
    error = refusal(Ruled, low=3, high=2, steps="many", typo=1)

    assert sorted(problem.path for problem in error.problems) == ["low", "steps", "typo"]


def test_a_missing_argument_is_reported_once() -> None:
    assert [problem.path for problem in refusal(Ruled, low=3).problems] == ["high"]


def test_a_plain_constructor_is_not_run_on_wrong_arguments() -> None:
    ran: list[float] = []

    class Acting(Recording):
        def __init__(self, lr: float) -> None:
            ran.append(lr)

    refusal(Acting, lr="fast")

    assert ran == []


def test_validators_of_a_model_are_problems_too() -> None:
    class Ordered(pydantic.BaseModel):
        low: float
        high: float

        @pydantic.model_validator(mode="after")
        def _ordered(self) -> Ordered:
            if self.low > self.high:
                raise ValueError("low must be below high")
            return self

        @pydantic.field_validator("low")
        @classmethod
        def _not_seven(cls, value: float) -> float:
            if value == 7:
                raise ValueError("seven is taken")
            return value

        def build(self, params: Any) -> Any: ...

    assert "low must be below high" in str(refusal(Ordered, low=3, high=2))
    assert str(refusal(Ordered, low=7, high=8)) == "Ordered: low = 7: seven is taken"


def test_effective_params_are_converted_and_complete() -> None:
    assert effective_params(Fields, {"lr": "1e-1", "betas": [0.5, 0.6]}) == {
        "lr": 0.1,
        "steps": 10,
        "betas": (0.5, 0.6),
    }


def test_effective_params_include_defaults_that_are_made_anew() -> None:
    @dataclass
    class Making:
        sizes: list[int] = field(default_factory=lambda: [1, 2])

    class MakingModel(pydantic.BaseModel):
        sizes: list[int] = pydantic.Field(default_factory=lambda: [1, 2])

    assert effective_params(Making, {}) == {"sizes": [1, 2]}
    assert effective_params(MakingModel, {}) == {"sizes": [1, 2]}


@pytest.mark.parametrize("target", [Plain, Fields, Model])
def test_the_protocol_needs_no_base_class(target: type) -> None:
    assert isinstance(construct_factory(target, {"lr": 1}), OptimizerFactory)
    assert not isinstance(object(), OptimizerFactory)


def test_rules_see_defaults_that_are_made_for_each_instance() -> None:
    @dataclass
    class Made(Recording):
        low: float = 1.0
        sizes: list[int] = field(default_factory=lambda: [3])
        RULES: ClassVar[tuple[Rule, ...]] = (Rule(("low", "sizes"), lambda low, sizes: low < sizes[0], "too much"),)

    assert construct_factory(Made, {})
    assert [problem.path for problem in refusal(Made, low=4).problems] == ["low"]


def test_a_class_that_is_made_by_new_alone_has_its_types_checked() -> None:
    class Made(NamedTuple):
        lr: float = 0.1

        def build(self, params: Any) -> Any: ...

    assert construct_factory(Made, {"lr": "1e-3"}).lr == 0.001  # type: ignore[attr-defined]
    assert [problem.path for problem in refusal(Made, lr="abc").problems] == ["lr"]
