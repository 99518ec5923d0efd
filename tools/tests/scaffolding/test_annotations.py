"""The type that a configuration's key has, from an annotation or from a default."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Dict, List, Literal, NewType, Optional, Tuple, Union  # noqa: UP035

import pytest
import torch
from annotated_types import Gt

from optim_tools.scaffolding.annotations import annotation_source, inferred_source

Rate = NewType("Rate", float)


class Mode(enum.Enum):
    FAST = 1


@pytest.mark.parametrize(
    ("annotation", "source"),
    [
        (float, "float"),
        (bool, "bool"),
        (Rate, "float"),
        (Annotated[float, Gt(0)], "float"),
        (Annotated[float, {"min": 0}], "float"),
        (list[Annotated[float, {"min": 0}]], "list[float]"),
        (float | torch.Tensor, "float"),
        (Union[float, torch.Tensor], "float"),  # noqa: UP007
        (Optional[bool], "bool | None"),  # noqa: UP045
        (None | int, "int | None"),
        (float | int | None, "float | int | None"),
        (Literal["a", "b"], 'Literal["a", "b"]'),
        (Literal["it's", None, 3, True], 'Literal["it\'s", None, 3, True]'),
        (tuple[float | torch.Tensor, float], "tuple[float, float]"),
        (Tuple[float, float] | Tuple[float, float, float], "tuple[float, float] | tuple[float, float, float]"),  # noqa: UP006
        (tuple[int, ...], "tuple[int, ...]"),
        (tuple, "tuple[Any, ...]"),
        (List[int], "list[int]"),  # noqa: UP006
        (Sequence[float], "list[float]"),
        (Iterable[str], "list[str]"),
        (Dict[str, float], "dict[str, float]"),  # noqa: UP006
        (Mapping[str, Any], "dict[str, Any]"),
        (Any, "Any"),
        (object, "Any"),
        (float | Any, "Any"),
    ],
    ids=str,
)
def test_what_yaml_can_give_is_kept(annotation: Any, source: str) -> None:
    assert annotation_source(annotation) == source


@pytest.mark.parametrize(
    "annotation",
    [
        torch.Tensor,
        torch.dtype,
        Callable[[], float],
        Callable[[], float] | None,
        type[torch.optim.Optimizer],
        tuple[torch.Tensor, float],
        list[torch.Tensor],
        dict[str, torch.Tensor],
        Mode,
        Literal[Mode.FAST],
        torch.nn.Module,
    ],
    ids=str,
)
def test_what_yaml_cannot_give_has_no_type(annotation: Any) -> None:
    assert annotation_source(annotation) is None


@pytest.mark.parametrize(
    ("name", "default", "source"),
    [
        ("anything", 1e-3, "float"),
        ("anything", True, "bool"),
        ("mode", "fast", "str"),
        ("weight_decay", 0, "float"),
        ("lr", 1, "float"),
        ("eps1", 0, "float"),
        ("every", 10, "int | float"),
        ("lr_decay_steps", 100, "int | float"),
        ("lr_decay_steps", 1, "int | float"),
        ("alpha", 4, "int | float"),
        ("betas", (0.9, 0.999), "tuple[float, float]"),
        ("betas", (0, 0.999), "tuple[float, float]"),
        ("shape", (1, 2), "tuple[int | float, int | float]"),
        ("names", ["a", "b"], "list[str]"),
        ("names", [], "list[Any]"),
        ("options", {}, "dict[str, Any]"),
        ("beta3", None, "float | None"),
        ("hook", None, "Any"),
        ("hook", print, None),
        ("dtype", torch.float32, None),
        ("weights", (torch.ones(1),), None),
    ],
)
def test_a_type_is_inferred_from_default_and_name(name: str, default: Any, source: str | None) -> None:
    assert inferred_source(name, default) == source
