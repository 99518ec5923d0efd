"""JSON Schemas accept what building accepts, and refuse what it refuses."""

from __future__ import annotations

import enum
import json
import math
import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import pydantic
import pytest
from annotated_types import Ge, Gt, Le, Len, Lt, MultipleOf
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from optim_core.arguments.number_types import Beta, LearningRate, NonNegative, PeakLearningRate, StepCount
from optim_core.arguments.validation import Rule
from optim_core.building.component_factories import component_factories
from optim_core.configuration.reading import read_configuration
from optim_core.discovery.registry import OptimizerRegistry
from optim_core.errors import ConfigurationError, InvalidArgumentsError
from optim_core.factories.factory import construct_factory
from optim_tools.inspection.json_schema import DIALECT, configuration_schema, factory_schema

if TYPE_CHECKING:
    from only_for_type_checkers import Mystery  # type: ignore[import-not-found]


class Mode(enum.Enum):
    MIN = "min"
    MAX = "max"


class Inner(pydantic.BaseModel):
    weight: Annotated[float, Gt(0)]
    child: Inner | None = None


class Opaque:
    """A class that no YAML makes an instance of."""


ANNOTATIONS: list[Any] = [
    int,
    float,
    bool,
    str,
    Any,
    PeakLearningRate,
    NonNegative,
    StepCount,
    Annotated[int, Ge(-1), Le(3), MultipleOf(2)],
    Annotated[float | None, Gt(0)],
    Annotated[int | float, Ge(2)],
    int | None,
    float | str,
    bool | None,
    tuple[Beta, Beta],
    tuple[Annotated[float, Gt(0)], int],
    tuple[int, ...],
    tuple[()],
    list[Beta],
    Annotated[list[float], Len(1, 2)],
    set[int],
    dict[str, LearningRate],
    Literal["cos", "linear"],
    Literal["cos", None],
    Literal["cos"],
    Literal["cos"] | None,
    Mode,
    Mode | None,
    Annotated[str, pydantic.Field(pattern="^co", min_length=2)],
    Inner,
    list[Inner] | None,
    Opaque,
    Opaque | float,
    Opaque | None,
    Callable[[int], float] | None,
    numbers.Real,
]

# Text that reads as a number, and numbers for true and false, are in the tests of differences below.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10),
    st.floats(-3, 10),
    st.sampled_from([0.5, 2.0, math.inf, -math.inf, "cos", "linear", "min", "x", ""]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["weight", "child", "a"]), inner, max_size=2)
    ),
    max_leaves=5,
)


def typed(annotation: Any) -> type:
    """A class whose one argument `x` has the annotation."""

    def init(self: object, x: Any) -> None: ...

    init.__annotations__ = {"x": annotation}
    return type("Typed", (), {"__init__": init})


def built(target: type, params: dict[str, Any]) -> bool:
    try:
        construct_factory(target, params)
    except InvalidArgumentsError:
        return False
    return True


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    return Draft202012Validator(schema)


def holds_number_for_bool(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value in (0, 1)


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=str)
def test_schema_accepts_what_building_accepts(annotation: Any) -> None:
    target = typed(annotation)
    schema = validator(factory_schema(target))

    @given(VALUES)
    def agrees(value: Any) -> None:
        if annotation in (bool, bool | None) and holds_number_for_bool(value):
            return
        # Within models and sets pydantic is on its own, and takes true for 1.
        if ("Inner" in str(annotation) or annotation == set[int]) and re.search("True|False", str(value)):
            return
        assert schema.is_valid({"x": value}) == built(target, {"x": value})

    agrees()


@pytest.mark.parametrize(
    ("annotation", "value"), [(float, "1e-4"), (int, "10"), (bool, 1), (bool, "yes"), (float, "nan")]
)
def test_schema_is_stricter_about_spellings_of_numbers_and_truth_values(annotation: Any, value: Any) -> None:
    target = typed(annotation)

    assert built(target, {"x": value})
    assert not validator(factory_schema(target)).is_valid({"x": value})


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """A schedule.

    Args:
        total: horizon.
        warmup: steps before the peak
    """

    RULES: ClassVar[tuple[Rule, ...]] = (Rule(("warmup", "total"), lambda w, t: w < t, "must be less than total"),)

    total: StepCount
    warmup: Annotated[int, Ge(0)] = 0
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    rates: list[float] = field(default_factory=lambda: [0.1])
    limit: float = math.inf


class Model(pydantic.BaseModel):
    lr: float = pydantic.Field(gt=0, alias="learningRate", description="The step size.")
    mode: Mode = Mode.MIN


class Tuple(NamedTuple):
    lr: float
    decay: Annotated[float, Lt(1)] = 0.0


class Plain:
    def __init__(self, lr: float, mystery: Mystery = None, **extra: Any) -> None: ...


def test_schema_of_a_dataclass() -> None:
    schema = factory_schema(Warmup)

    assert schema == {
        "description": "A schedule.",
        "type": "object",
        "properties": {
            "total": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1, "description": "horizon."},
            "warmup": {
                "type": "integer",
                "minimum": 0,
                "description": "steps before the peak. Must be less than total.",
                "default": 0,
            },
            "betas": {
                "type": "array",
                "items": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
                "minItems": 2,
                "maxItems": 2,
                "default": [0.9, 0.999],
            },
            "rates": {"type": "array", "items": {"type": "number"}, "default": [0.1]},
            # JSON has no word for infinity.
            "limit": {"type": "number"},
        },
        "required": ["total"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("target", "params"),
    [
        (Warmup, {"total": 10}),
        (Warmup, {"total": 10, "warmup": 3, "betas": [0, 0.5]}),
        (Warmup, {}),
        (Warmup, {"total": None}),
        (Warmup, {"total": 10, "warmups": 3}),
        (Model, {"learningRate": 0.1, "mode": "max"}),
        (Model, {"lr": 0.1}),
        (Model, {"learningRate": 0.1, "mode": "mean"}),
        (Model, {"learningRate": 0}),
        (Tuple, {"lr": 1, "decay": 0.5}),
        (Tuple, {"lr": 1, "decay": 1}),
        (Tuple, {"decay": 0.5}),
        (Plain, {"lr": 1, "mystery": [1], "anything": {}}),
        (Plain, {"anything": 1}),
    ],
)
def test_schema_of_any_kind_of_class_agrees_with_building(target: type, params: dict[str, Any]) -> None:
    assert validator(factory_schema(target)).is_valid(params) == built(target, params)


def test_defaults_and_descriptions_of_a_model_are_those_of_its_fields() -> None:
    properties = factory_schema(Model)["properties"]

    assert properties["learningRate"]["description"] == "The step size."
    assert properties["mode"]["default"] == "min"


def test_rules_that_several_arguments_share_are_told_with_the_first() -> None:
    class Ruled:
        RULES = (
            Rule(("b", "a"), lambda b, a: b < a, "must be less than a"),
            Rule(("b", "a"), lambda b, a: b, "can't be 0 with a"),
        )

        def __init__(self, a: int, b: int) -> None: ...

    properties = factory_schema(Ruled)["properties"]

    assert properties["b"]["description"] == "Must be less than a. Can't be 0 with a."
    assert "description" not in properties["a"]


def test_a_type_that_fails_to_make_a_schema_accepts_anything_and_spoils_no_other() -> None:
    class Broken:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return handler(int)

        @classmethod
        def __get_pydantic_json_schema__(cls, source: Any, handler: Any) -> Any:
            raise RuntimeError("no schema")

    def init(self: object, x: Any, y: Any) -> None: ...

    init.__annotations__ = {"x": list[Broken], "y": int}
    schema = factory_schema(type("Typed", (), {"__init__": init}))

    assert schema["properties"] == {"x": {}, "y": {"type": "integer"}}


@pytest.fixture
def registry(only_fake_distributions: None) -> OptimizerRegistry:
    registry = OptimizerRegistry()
    registry.register("warmup", _buildable(Warmup))
    registry.register("plain-1.0", _buildable(typed(Inner | None)))
    registry.register("optional", _buildable(type("Optional", (), {"__init__": _optional})))
    return registry


def _optional(self: object, lr: float = 0.1) -> None: ...


def _buildable(target: type) -> type:
    target.build = lambda self, params: None  # type: ignore[attr-defined]
    return target


GOOD = {"type": "warmup", "params": {"total": 10}}
CONFIGURATIONS: list[Any] = [
    {"model": {"component_optims": {"a": GOOD}}},
    {"model": {"component_optims": {"a": GOOD}, "depth": 3}, "training": {"epochs": 1}},
    {"a": GOOD, "b.c": {"type": "optional"}},
    {"model": GOOD},
    {"model": GOOD, "head": {"type": "optional", "params": None}},
    {"a": {"type": "optional", "params": {"lr": 1}}},
    {"a": {"type": "plain-1.0", "params": {"x": {"weight": 1, "child": {"weight": 2}}}}},
    {"a": {"type": "plain-1.0", "params": {"x": None}}},
    {"a": {"type": "plain-1.0", "params": {"x": {"weight": 1, "child": {"weight": 0}}}}},
    {},
    [],
    {"model": None},
    {"model": {}},
    {"model": {"component_optims": {}}},
    {"model": {"component_optims": None}},
    {"model": {"component_optims": [GOOD]}},
    {"model": {"component_optims": {"a": None}}},
    {"model": {"component_optims": {"a": GOOD, "b": {"params": {}}}}},
    {"a": GOOD, "training": {"epochs": 1}},
    {"a": {"type": "warmup"}},
    {"a": {"type": "warmup", "params": None}},
    {"a": {"type": "warmup", "params": {"total": 10, "warmups": 1}}},
    {"a": {"type": "warmup", "params": {"total": 0}}},
    {"a": {"type": "optional", "params": {"lr": True}}},
    {"a": {"type": "optional", "params": []}},
    {"a": {"type": "optional", "parms": {}}},
    {"a": {"type": "nobody's"}},
    {"a": {"type": 3}},
    {"a": {}},
]


def readable(source: Any, registry: OptimizerRegistry) -> bool:
    if not isinstance(source, dict):
        return False
    try:
        configuration = read_configuration(source)
    except ConfigurationError:
        return False
    return not (configuration.problems or component_factories(configuration, registry).problems)


@pytest.mark.parametrize("source", CONFIGURATIONS, ids=str)
def test_schema_of_a_configuration_agrees_with_reading_it(source: Any, registry: OptimizerRegistry) -> None:
    schema = configuration_schema({key: factory_schema(registry[key]) for key in registry})

    assert validator({"$schema": DIALECT, **schema}).is_valid(source) == readable(source, registry)


def test_a_model_may_have_a_type_of_its_own_beside_its_components(registry: OptimizerRegistry) -> None:
    schema = validator(configuration_schema({key: factory_schema(registry[key]) for key in registry}))

    assert schema.is_valid({"model": {"type": "vit", "component_optims": {"a": GOOD}}})
    assert not schema.is_valid({"model": {"type": "vit", "component_optims": {"a": {"type": "warmup"}}}})


def test_a_key_is_described_where_it_is_chosen(registry: OptimizerRegistry) -> None:
    chosen = configuration_schema({key: factory_schema(registry[key]) for key in registry})["$defs"]["Component"]

    described = dict(
        zip(chosen["properties"]["type"]["enum"], chosen["properties"]["type"]["enumDescriptions"], strict=True)
    )
    assert described == {"optional": "", "plain-1.0": "", "warmup": "A schedule."}
