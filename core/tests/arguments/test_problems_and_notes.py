"""What is said of arguments: every problem at once, rules over several, notes, and the nearest spellings."""

from __future__ import annotations

import pytest

from core_support.classes_with_arguments import Plain, Span, problems_with, typed
from optim_core.arguments.spelling import nearest
from optim_core.arguments.validation import Note, Rule, check_arguments, notes_on, validate_arguments
from optim_core.errors import InvalidArgumentsError, Problem


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


def test_a_rule_is_reported_on_its_first_argument_with_the_others_values() -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        Span(low=20)

    assert caught.value.subject == "Span"
    assert str(caught.value) == "Span: low = 20.0: must be less than high (high = 10.0)"


def test_a_rule_is_not_checked_where_one_of_its_arguments_is_wrong() -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        Span(low=300, high=200)

    assert [problem.path for problem in caught.value.problems] == ["high"]


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
