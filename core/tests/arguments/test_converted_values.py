"""Values of arguments: converted to what is declared, and refused where they are no such thing."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_support.classes_with_arguments import Plain, Span, converted, problems_with, typed
from optim_core.arguments.number_types import Beta, LearningRate, NonNegative, PeakLearningRate, StepCount, Steps


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


def test_values_are_not_changed_in_place() -> None:
    values = {"lr": "1e-4", "betas": [0.9, "1e-1"], "rates": ["1e-3", 2], "untyped": {"a": ["1e-4"]}}
    before = copy.deepcopy(values)

    result = converted(Plain, **values)

    assert values == before
    assert result["rates"] == [1e-3, 2.0]
    assert result["rates"] is not values["rates"]


def test_fields_of_a_frozen_dataclass_are_converted() -> None:
    span = Span(low="1e-1", high=3, parts=["1", 2])  # type: ignore[arg-type]

    assert span == Span(0.1, 3.0, (1, 2))
    assert [type(value) for value in (span.low, span.high, span.parts)] == [float, float, tuple]
