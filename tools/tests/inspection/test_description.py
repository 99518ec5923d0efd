"""Descriptions of factories: docstrings of every style, types and constraints in words, defaults as YAML."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

import pydantic
import pytest
import yaml
from annotated_types import Ge, Gt, Le, Len, Lt, MultipleOf
from typing_extensions import Doc

from optim_core.arguments.number_types import Beta, Finite, NonNegative, StepCount
from optim_core.arguments.validation import Rule
from optim_core.configuration.reading import read_configuration
from optim_core.factories.factory import OptimizerFactory
from optim_tools.inspection.description import ArgumentDescription, describe
from optim_tools.inspection.yaml_text import configuration_yaml, yaml_text


class Google:
    """Lion, the sign
    of a momentum.

    Chen et al. 2023.

    It wants a smaller rate.

    Args:
        lr (float, optional): the step
            size: absolute.
        beta1, beta2: both momenta.
        **rest: others.

    Returns:
        nothing
    """

    def __init__(self, lr: float = 1e-4, beta1: float = 0.9, beta2: float = 0.99) -> None: ...


class NumPy:
    """Lion, the sign of a momentum.

    Chen et al. 2023.

    It wants a smaller rate.

    Parameters
    ----------
    lr : float, optional
        the step
        size: absolute.
    beta1, beta2 : float
        both momenta.

    Returns
    -------
    nothing
    """

    def __init__(self, lr: float = 1e-4, beta1: float = 0.9, beta2: float = 0.99) -> None: ...


class Sphinx:
    """Lion, the sign of a momentum.

    Chen et al. 2023.

    It wants a smaller rate.

    :param lr: the step size: absolute.
    :type lr: float
    :param float beta1: both momenta.
    :param beta2: both momenta.
    :returns: nothing
    """

    def __init__(self, lr: float = 1e-4, beta1: float = 0.9, beta2: float = 0.99) -> None: ...


def meanings(target: type) -> dict[str, str]:
    return {argument.name: argument.meaning for argument in describe(target).arguments}


@pytest.mark.parametrize("target", [Google, NumPy, Sphinx])
def test_docstrings_of_each_style_are_read(target: type) -> None:
    described = describe(target)

    assert described.summary == "Lion, the sign of a momentum."
    assert described.details == "Chen et al. 2023.\n\nIt wants a smaller rate."
    assert meanings(target) == {"lr": "the step size: absolute.", "beta1": "both momenta.", "beta2": "both momenta."}


def test_docstring_of_the_initialiser_has_the_meanings_too() -> None:
    class Factory:
        """A factory.

        Args:
            lr: from the class.
        """

        def __init__(self, lr: float, decay: float) -> None:
            """Make it.

            Args:
                lr: from the initialiser.
                decay: from the initialiser.
            """

    assert describe(Factory).summary == "A factory."
    assert meanings(Factory) == {"lr": "from the class.", "decay": "from the initialiser."}


@dataclass
class Fields:
    """A factory."""

    below: float = 1.0
    """A string below
    the field."""
    metadata: float = field(default=1.0, metadata={"help": "In the metadata."})
    annotated: Annotated[float, Doc("In the annotation.")] = 1.0
    pydantic: Annotated[float, pydantic.Field(description="In pydantic's field.")] = 1.0
    silent: float = 1.0


def test_fields_of_a_dataclass_say_what_they_mean() -> None:
    assert meanings(Fields) == {
        "below": "A string below the field.",
        "metadata": "In the metadata.",
        "annotated": "In the annotation.",
        "pydantic": "In pydantic's field.",
        "silent": "",
    }


class Model(pydantic.BaseModel):
    """A model.

    Args:
        decay: from the docstring.
    """

    lr: float = pydantic.Field(alias="learningRate", description="The step size.")
    decay: float = pydantic.Field(0.0, validation_alias="weightDecay")


def test_fields_of_a_model_are_described_under_their_aliases() -> None:
    assert meanings(Model) == {"learningRate": "The step size.", "weightDecay": "from the docstring."}


class Base:
    """The base.

    Args:
        lr: from the base.
    """

    def __init__(self, lr: float) -> None: ...


class Silent(Base):
    def __init__(self, lr: float, decay: float) -> None: ...


def test_what_a_class_does_not_say_its_base_does() -> None:
    assert describe(Silent).summary == "The base."
    assert meanings(Silent) == {"lr": "from the base.", "decay": ""}


@dataclass
class SilentDataclass:
    lr: float


class SilentModel(pydantic.BaseModel):
    lr: float


class SilentTuple(NamedTuple):
    lr: float


class SilentFactory(OptimizerFactory):
    def __init__(self, lr: float) -> None: ...


class SilentProtocol(Protocol):
    """A protocol's docstring."""


class SilentImplementation(SilentProtocol):
    def __init__(self, lr: float) -> None: ...


@pytest.mark.parametrize(
    "target", [SilentDataclass, SilentModel, SilentTuple, SilentFactory, SilentImplementation, type("Empty", (), {})]
)
def test_a_docstring_that_python_made_or_that_is_a_foundation_s_is_none(target: type) -> None:
    described = describe(target)

    assert (described.summary, described.details) == ("", "")
    assert not any(meanings(target).values())


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [
        ("does stuff\n\nArgs:\n  lr the rate", "does stuff"),
        ("does stuff:\nArgs:\n  - odd", "does stuff:"),
        (":param", ":param"),
        ("   \n\n", ""),
        ("Uses :class:`~torch.optim.SGD` and ``lr``.", "Uses `torch.optim.SGD` and `lr`."),
    ],
)
def test_a_malformed_docstring_does_no_harm(docstring: str, summary: str) -> None:
    target = type("Factory", (), {"__doc__": docstring})

    assert describe(target).summary == summary


class Mode(enum.Enum):
    FAST = "fast"
    EXACT = "exact"


class Inner(pydantic.BaseModel):
    weight: Annotated[float, Gt(0)]
    mode: Mode = Mode.FAST


class Node(pydantic.BaseModel):
    children: list[Node] = []


class Opaque: ...


def only(annotation: Any, default: Any = None) -> ArgumentDescription:
    def init(self: object, x: Any = default) -> None: ...

    init.__annotations__ = {"x": annotation}
    return describe(type("Typed", (), {"__init__": init})).arguments[0]


@pytest.mark.parametrize(
    ("annotation", "type_text", "constraint"),
    [
        (float, "float", ""),
        (int, "int", ""),
        (bool, "bool", ""),
        (str, "str", ""),
        (Any, "any", ""),
        (Literal["cos", "linear"], "cos | linear", ""),
        (Literal["cos", None, True, 2], "cos | null | true | 2", ""),
        (Literal["no"], "'no'", ""),
        (Mode, "fast | exact", ""),
        (float | None, "float | null", ""),
        (int | str, "int | str", ""),
        (tuple[Beta, Beta], "[float, float]", ">= 0, < 1 each"),
        (
            tuple[Annotated[float, Gt(0)], int, Annotated[int, Le(3)]],
            "[float, int, int]",
            "item 1: > 0; item 3: <= 3",
        ),
        (tuple[int, ...], "[int, ...]", ""),
        (Annotated[list[Beta], Len(2, 3)], "[float, ...]", "at least 2 items, at most 3 items, >= 0, < 1 each"),
        (list, "list", ""),
        (dict[str, int], "{name: int, ...}", ""),
        (dict, "mapping", ""),
        (Inner, "{weight: float, mode: fast | exact}", ""),
        (Node, "{children: [{children: list}, ...]}", ""),
        (Opaque | None, "null", ""),
        (Opaque, "nothing that YAML can write", ""),
        (StepCount, "int", ">= 1"),
        (StepCount | None, "int | null", ">= 1"),
        (NonNegative, "float", ">= 0"),
        (Finite, "float", "finite"),
        (Annotated[float, Ge(0.5), Lt(1)], "float", ">= 0.5, < 1"),
        (Annotated[int, MultipleOf(8)], "int", "multiple of 8"),
        (Annotated[str, pydantic.Field(min_length=1, pattern="^a")], "str", "matches ^a, not empty"),
    ],
    ids=str,
)
def test_types_and_constraints_are_told_in_the_words_of_yaml(annotation: Any, type_text: str, constraint: str) -> None:
    told = only(annotation)

    assert (told.type, told.constraint) == (type_text, constraint)


@pytest.mark.parametrize(
    ("default", "text"),
    [
        (1e-8, "1.0e-08"),
        (1e-3, "0.001"),
        (25.0, "25.0"),
        (None, "null"),
        (True, "true"),
        ((0.9, 0.999), "[0.9, 0.999]"),
        ({"a": [1]}, "{a: [1]}"),
        ("no", "'no'"),
        ("1e5", '"1e5"'),
        ("cos", "cos"),
        ("", "''"),
        (math.inf, ".inf"),
        (Mode.FAST, "fast"),
        (object(), ""),
    ],
)
def test_defaults_are_told_as_yaml_writes_them(default: Any, text: str) -> None:
    told = only(Any, default)

    assert (told.default, told.required) == (text, False)


def test_defaults_that_are_made_anew_are_told_too() -> None:
    @dataclass
    class Factory:
        rates: list[float] = field(default_factory=lambda: [0.5])

    assert describe(Factory).arguments[0].default == "[0.5]"


def test_rules_and_further_arguments_are_told() -> None:
    class Factory:
        RULES: ClassVar = (Rule(("b", "a"), lambda b, a: b < a, "must be less than a"),)

        def __init__(self, a: int, b: int, **rest: Any) -> None: ...

    described = describe(Factory)

    assert described.rules == ("b must be less than a",)
    assert described.open
    assert [argument.required for argument in described.arguments] == [True, True]
    assert not describe(Google).open


@pytest.mark.parametrize(
    "value", [1e-8, 1e22, 0.001, -1, "1e5", "no", "null", "", "a: b # c", "ä\nb", [0.9, None], {"x": {"y": True}}]
)
def test_yaml_text_is_read_alike_by_every_reader(value: Any, tmp_path: Any) -> None:
    text = yaml_text(value)
    file = tmp_path / "config.yaml"
    file.write_text(f"net: {{type: x, params: {{v: {text}}}}}", encoding="utf-8")

    assert "\n" not in text
    assert yaml.safe_load(text) == value
    assert read_configuration(file).specs["net"].params == {"v": value}


@pytest.mark.parametrize("key", ["lion", "1e5", "1.5", "no", "null", "a.b-c"])
def test_a_whole_configuration_has_the_key_and_the_params(key: str, tmp_path: Any) -> None:
    text = configuration_yaml(key, {"lr": 1e-8, "on": True})
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    spec = read_configuration(file).specs["my_component"]

    assert (spec.type, spec.params) == (key, {"lr": 1e-8, "on": True})
    assert yaml.safe_load(text)["model"]["component_optims"]["my_component"]["type"] == key
    assert "params" not in configuration_yaml(key, {})
