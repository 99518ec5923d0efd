"""Validation of arguments against a constructor's signature."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pydantic
import pytest
from annotated_types import Ge, Gt, Lt
from hypothesis import given
from hypothesis import strategies as st

from optim_core.arguments.number_types import Beta, LearningRate, NonNegative, PeakLearningRate, StepCount, Steps
from optim_core.arguments.signatures import signature_of
from optim_core.arguments.spelling import nearest
from optim_core.arguments.validation import (
    Note,
    Rule,
    check_arguments,
    missing_arguments,
    notes_on,
    validate_arguments,
    validate_fields,
)
from optim_core.errors import InvalidArgumentsError, Problem

if TYPE_CHECKING:
    from only_for_type_checkers import Mystery  # type: ignore[import-not-found]


class Plain:
    def __init__(  # type: ignore[no-untyped-def]
        self,
        lr: float,
        count: int = 1,
        betas: tuple[float, float] = (0.9, 0.999),
        rates: list[float] | None = None,
        mode: Literal["min", "max"] = "min",
        flag: bool = False,
        name: str = "",
        untyped=None,
    ) -> None: ...


def converted(target: type, **values: Any) -> dict[str, Any]:
    result, problems = validate_arguments(target, values)
    assert problems == []
    return result


def problems_with(target: type, **values: Any) -> list[str]:
    return [str(problem) for problem in validate_arguments(target, values)[1]]


def typed(annotation: Any) -> type:
    """A class whose one argument `x` has the annotation."""

    def init(self: object, x: Any) -> None: ...

    init.__annotations__ = {"x": annotation}
    return type("Typed", (), {"__init__": init})


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "+1e-4", "1.e-4", ".1e-3", "0.1e-03", "0.0001"])
def test_text_of_a_small_number_is_a_float(text: str) -> None:
    result = converted(Plain, lr=text)["lr"]

    assert result == 1e-4
    assert type(result) is float


@pytest.mark.parametrize("text", ["1e5", "1E5", "+1e+5", "1.0e5", "100000"])
def test_text_of_a_whole_number_is_an_int(text: str) -> None:
    result = converted(Plain, count=text)["count"]

    assert result == 100_000
    assert type(result) is int


def test_a_fraction_with_an_exponent_is_no_int() -> None:
    assert problems_with(Plain, count="1e-1")[0].startswith("count = 0.1: must be a valid integer")


@pytest.mark.parametrize("value", ["1.5", 1.5, "many", "", None, [1], math.inf, math.nan])
def test_what_is_no_whole_number_is_no_int(value: object) -> None:
    (problem,) = problems_with(Plain, count=value)

    assert problem.startswith(f"count = {value!r}: must be a")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_back_from_its_text(number: float) -> None:
    assert converted(Plain, lr=repr(number))["lr"] == number


def test_text_stays_text_where_text_is_wanted() -> None:
    assert converted(Plain, name="1e5")["name"] == "1e5"


def test_lists_become_the_tuples_that_are_declared() -> None:
    assert converted(Plain, betas=[0.5, "1e-1"]) == {"betas": (0.5, 0.1)}


def test_whole_floats_become_ints_and_ints_become_floats() -> None:
    result = converted(Plain, count=3.0, lr=2)

    assert [(type(value), value) for value in result.values()] == [(int, 3), (float, 2.0)]


def test_untyped_arguments_take_anything_as_it_is() -> None:
    anything = object()

    assert converted(Plain, untyped=anything)["untyped"] is anything


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("name", ["lr", "count"])
def test_a_truth_value_is_no_number(name: str, value: bool) -> None:
    assert problems_with(Plain, **{name: value}) == [f"{name} = {value}: must be a number, not true or false"]


@pytest.mark.parametrize(
    ("annotation", "value", "place"),
    [
        (tuple[float, float], [0.9, True], "x[1]"),
        (list[float], [True], "x[0]"),
        (list[list[int]], [[1], [2, False]], "x[1][1]"),
        (dict[str, float], {"a": 1, "b": True}, "x.b"),
        (dict[str, list[int]], {"a": [0, True]}, "x.a[1]"),
        (float | None, True, "x"),
        (list[float] | None, [1.0, True], "x[1]"),
    ],
)
def test_a_truth_value_is_no_number_wherever_it_is_nested(annotation: Any, value: Any, place: str) -> None:
    (problem,) = problems_with(typed(annotation), x=value)

    assert problem.startswith(f"{place} = ")
    assert problem.endswith("must be a number, not true or false")


@pytest.mark.parametrize(
    ("annotation", "value"), [(bool, True), (bool | float, False), (list[bool], [True, False]), (Any, True)]
)
def test_a_truth_value_is_taken_where_one_is_declared(annotation: Any, value: Any) -> None:
    result = converted(typed(annotation), x=value)["x"]

    assert repr(result) == repr(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf", "-inf"])
@pytest.mark.parametrize("annotation", [PeakLearningRate, LearningRate, NonNegative, Beta, StepCount, Steps])
def test_no_declared_quantity_is_nan_or_infinite(annotation: Any, value: object) -> None:
    assert len(problems_with(typed(annotation), x=value)) == 1


@pytest.mark.parametrize(
    ("annotation", "least", "below"),
    [
        (PeakLearningRate, 5e-324, 0),
        (LearningRate, 0, -5e-324),
        (NonNegative, 0, -1),
        (Beta, 0, -0.1),
        (StepCount, 1, 0),
        (Steps, 0, -1),
    ],
)
def test_declared_quantities_begin_where_they_say(annotation: Any, least: float, below: float) -> None:
    assert converted(typed(annotation), x=least) == {"x": least}
    assert len(problems_with(typed(annotation), x=below)) == 1


def test_a_coefficient_ends_below_one() -> None:
    assert converted(typed(Beta), x=0.999999) == {"x": 0.999999}
    assert problems_with(typed(Beta), x=1) == ["x = 1: must be less than 1"]


def test_every_problem_is_found_at_once_with_its_path() -> None:
    values = {"lr": "fast", "betas": [0.9, "x"], "mode": "mean", "cuont": 3, "name": "fine"}

    result, problems = validate_arguments(Plain, values)

    assert result == {"name": "fine"}
    assert [problem.path for problem in problems] == ["lr", "betas[1]", "mode", "cuont"]
    assert str(problems[0]).startswith("lr = 'fast': must be a valid number")
    assert str(problems[2]) == "mode = 'mean': must be 'min' or 'max'"
    assert str(problems[3]) == "cuont: no such argument. Did you mean 'count'?"


def test_an_unknown_name_far_from_all_lists_the_known_ones() -> None:
    (problem,) = problems_with(typed(float), xyzzy=1)

    assert problem == "xyzzy: no such argument. Known: x"


def test_a_class_without_arguments_says_so() -> None:
    class Bare: ...

    assert problems_with(Bare, lr=1) == ["lr: no such argument. It takes no arguments"]


def test_a_union_is_refused_once_with_each_alternative() -> None:
    (problem,) = problems_with(typed(int | list[int]), x="many")

    assert problem.startswith("x = 'many': must be a valid integer")
    assert ", or must be a valid list" in problem


def test_long_values_are_shortened_in_problems() -> None:
    (problem,) = problems_with(Plain, lr="x" * 1000)

    assert len(problem) < 200
    assert "xxx..." in problem


def test_values_are_not_changed_in_place() -> None:
    values = {"lr": "1e-4", "betas": [0.9, "1e-1"], "rates": ["1e-3", 2], "untyped": {"a": ["1e-4"]}}
    before = copy.deepcopy(values)

    result = converted(Plain, **values)

    assert values == before
    assert result["rates"] == [1e-3, 2.0]
    assert result["rates"] is not values["rates"]


def test_missing_arguments_are_those_without_a_default() -> None:
    assert missing_arguments(Plain, ["count"]) == [Problem("lr", "required, but not given")]
    assert missing_arguments(Plain, ["lr"]) == []


def test_open_constructors_take_further_names_unchanged() -> None:
    class Open:
        def __init__(self, lr: float, **options: Any) -> None: ...

    assert converted(Open, lr="1e-1", anything="1e-1") == {"lr": 0.1, "anything": "1e-1"}
    assert signature_of(Open).open


def test_positional_only_arguments_have_no_name_to_give() -> None:
    class Positional:
        def __init__(self, lr: float, /, count: int = 1, *rest: int) -> None: ...

    signature = signature_of(Positional)

    assert signature.positional_only == ("lr",)
    assert list(signature.arguments) == ["count"]
    assert problems_with(Positional, lr=1) == ["lr: no such argument. Known: count"]


class Unresolvable:
    def __init__(self, lr: Annotated[float, Gt(0)], thing: Mystery = None, count: int = 1) -> None: ...


@dataclass
class UnresolvableFields:
    lr: Annotated[float, Gt(0)]
    thing: Mystery = None
    count: int = 1


@pytest.mark.parametrize("target", [Unresolvable, UnresolvableFields])
def test_an_annotation_that_cannot_be_resolved_spoils_no_other(target: type) -> None:
    anything = object()

    result, problems = validate_arguments(target, {"lr": -1, "thing": anything, "count": "1e1"})

    assert result == {"thing": anything, "count": 10}
    assert [str(problem) for problem in problems] == ["lr = -1: must be greater than 0"]


class Foreign:
    """A class that pydantic knows nothing of."""


def test_a_class_unknown_to_pydantic_takes_its_instances_only() -> None:
    instance = Foreign()

    assert converted(typed(Foreign), x=instance)["x"] is instance
    assert problems_with(typed(Foreign), x=3) == ["x = 3: must be an instance of Foreign"]


def test_a_callable_argument_takes_a_callable() -> None:
    assert converted(typed(Callable[[int], int]), x=abs)["x"] is abs
    assert len(problems_with(typed(Callable[[int], int]), x="abs")) == 1


@dataclass(frozen=True)
class Span:
    RULES: ClassVar[tuple[Rule, ...]] = (Rule(("low", "high"), lambda low, high: low < high, "must be less than high"),)

    low: Annotated[float, Ge(0)]
    high: Annotated[float, Lt(100)] = 10.0
    parts: tuple[int, ...] = field(default=(), init=True)

    def __post_init__(self) -> None:
        validate_fields(self)


def test_a_rule_is_reported_on_its_first_argument_with_the_others_values() -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        Span(low=20)

    assert caught.value.subject == "Span"
    assert str(caught.value) == "Span: low = 20.0: must be less than high (high = 10.0)"


def test_a_rule_is_not_checked_where_one_of_its_arguments_is_wrong() -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        Span(low=300, high=200)

    assert [problem.path for problem in caught.value.problems] == ["high"]


def test_fields_of_a_frozen_dataclass_are_converted() -> None:
    span = Span(low="1e-1", high=3, parts=["1", 2])  # type: ignore[arg-type]

    assert span == Span(0.1, 3.0, (1, 2))
    assert [type(value) for value in (span.low, span.high, span.parts)] == [float, float, tuple]


def test_several_problems_are_listed_below_one_headline() -> None:
    with pytest.raises(ValueError, match="Span: 2 problems") as caught:
        Span(low=-1, high=200)

    assert str(caught.value).splitlines() == [
        "Span: 2 problems",
        "  - low = -1: must be greater than or equal to 0",
        "  - high = 200: must be less than 100",
    ]


def test_check_arguments_returns_what_was_given_and_no_defaults() -> None:
    assert check_arguments(Span, {"low": "1"}) == {"low": 1.0}


def test_a_partial_check_asks_no_rule_about_what_is_left_out() -> None:
    assert check_arguments(Span, {"low": 50}, partial=True) == {"low": 50.0}
    with pytest.raises(InvalidArgumentsError):
        check_arguments(Span, {"low": 50})


def test_signature_of_a_dataclass_without_its_uninitialised_fields() -> None:
    @dataclass
    class Fields:
        lr: float
        made: int = field(init=False, default=3)

    assert list(signature_of(Fields).arguments) == ["lr"]
    assert problems_with(Fields, made=1)[0].startswith("made: no such argument")


def test_signature_includes_inherited_fields() -> None:
    @dataclass(frozen=True)
    class Longer(Span):
        extra: int = 0

    assert list(signature_of(Longer).arguments) == ["low", "high", "parts", "extra"]


def test_constraints_of_a_pydantic_model_are_those_of_its_fields() -> None:
    class Model(pydantic.BaseModel):
        lr: float = pydantic.Field(gt=0)
        count: int = pydantic.Field(1, le=10)

    assert converted(Model, lr="1e-4", count="1e1") == {"lr": 1e-4, "count": 10}
    assert [p.split(":")[0] for p in problems_with(Model, lr=-1, count=11)] == ["lr = -1", "count = 11"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("peak_lrr", ["peak_lr"]),
        ("PEAK_LR", ["peak_lr"]),
        ("lr", ["peak_lr", "end_lr"]),
        ("xyzzy", []),
        ("", []),
        (3, []),
    ],
)
def test_nearest_spellings(name: object, expected: list[str]) -> None:
    assert nearest(name, ["peak_lr", "total_steps", "end_lr"]) == expected


class Noted:
    NOTES = (
        Note(("low", "high"), lambda low, high: low == high, "leaves nothing between"),
        Note(("gone",), lambda gone: True, "is not an argument"),
        "not a note",
    )

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None: ...


def test_a_note_is_given_where_it_applies_to_what_was_given() -> None:
    assert notes_on(Noted, {"low": "1e0"}) == [Problem("low", "= '1e0': leaves nothing between")]
    assert notes_on(Noted, {"low": 0.5}) == []


def test_nothing_is_noted_of_defaults_or_of_what_is_wrong() -> None:
    assert notes_on(Noted, {"high": 0.0}) == []
    assert notes_on(Noted, {"low": "many", "high": "many"}) == []
    assert notes_on(Rule, {}) == []
