"""Classes whose arguments are validated, and what validation makes of values or says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Lt

from optim_core.arguments.validation import Rule, validate_arguments, validate_fields


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


@dataclass(frozen=True)
class Span:
    RULES: ClassVar[tuple[Rule, ...]] = (Rule(("low", "high"), lambda low, high: low < high, "must be less than high"),)

    low: Annotated[float, Ge(0)]
    high: Annotated[float, Lt(100)] = 10.0
    parts: tuple[int, ...] = field(default=(), init=True)

    def __post_init__(self) -> None:
        validate_fields(self)
