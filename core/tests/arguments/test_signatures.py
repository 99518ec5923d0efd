"""Signatures that arguments are validated against: open, positional, inherited, or beyond resolving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
import pytest
from annotated_types import Gt

from core_support.classes_with_arguments import Plain, Span, converted, problems_with, typed
from optim_core.arguments.signatures import signature_of
from optim_core.arguments.validation import missing_arguments, validate_arguments
from optim_core.errors import Problem

if TYPE_CHECKING:
    from only_for_type_checkers import Mystery  # type: ignore[import-not-found]


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
