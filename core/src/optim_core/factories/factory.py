"""What a factory is, and how one is constructed from the `params` of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import pydantic

from optim_core.arguments.signatures import defaults_of, signature_of
from optim_core.arguments.validation import (
    convert_arguments,
    has_exponent,
    just_checked,
    missing_arguments,
    problems_of_pydantic,
    validate_arguments,
)
from optim_core.errors import InvalidArgumentsError, Problem

if TYPE_CHECKING:
    import torch
    from torch.optim.optimizer import ParamsT

__all__ = [
    "OptimizerFactory",
    "construct_checked",
    "construct_factory",
    "converted_params",
    "effective_params",
    "problems_of_build",
]


@runtime_checkable
class OptimizerFactory(Protocol):
    """Builds one kind of optimizer; its constructor takes the configuration's `params`.

    No base class is needed. Any class will do whose constructor has typed arguments (a plain class,
    a dataclass, a pydantic model) and which can `build`:

    >>> from dataclasses import dataclass
    >>> from typing import Annotated
    >>> import torch
    >>> from annotated_types import Ge, Gt
    >>> @dataclass(frozen=True, kw_only=True)
    ... class SGDFactory:
    ...     "Stochastic gradient descent with momentum."
    ...     lr: Annotated[float, Gt(0)]
    ...     momentum: Annotated[float, Ge(0)] = 0.9
    ...
    ...     def build(self, params):
    ...         return torch.optim.SGD(params, lr=self.lr, momentum=self.momentum)
    >>> SGDFactory(lr=0.1).build([torch.nn.Parameter(torch.ones(1))])  # doctest: +ELLIPSIS
    SGD (...
    """

    def build(self, params: ParamsT) -> torch.optim.Optimizer:
        """Make an optimizer over `params`: tensors, or dictionaries with "params" and options."""


def construct_factory(target: type, params: Mapping[str, Any]) -> OptimizerFactory:
    """Construct a factory from configured params, converted to what its constructor declares.

    Every problem is found before any is raised: unknown and missing names, values of the wrong type
    or out of range, and whatever the constructor itself raises.

    Raises:
        InvalidArgumentsError: with every problem; paths are argument names.
    """
    return construct_checked(target, params, converted_params(target, params))


def converted_params(target: type, params: Mapping[str, Any]) -> dict[str, Any]:
    """Configured params as a factory's constructor declares them.

    Raises:
        InvalidArgumentsError: with every problem; paths are argument names.
    """
    signature = signature_of(target)
    problems: list[Problem] = []
    if signature.positional_only:
        names = ", ".join(signature.positional_only)
        problems.append(Problem(names, f"{target.__name__} takes it by position only", "Its author must mend that"))
    converted, invalid = validate_arguments(target, params)
    problems += invalid + missing_arguments(target, params)
    if problems:
        raise InvalidArgumentsError(target.__name__, problems)
    return converted


def construct_checked(target: type, params: Mapping[str, Any], converted: Mapping[str, Any]) -> OptimizerFactory:
    """Construct a factory from params and what `converted_params` made of them.

    Raises:
        InvalidArgumentsError: with what the constructor itself raises.
    """
    try:
        with just_checked(target, converted):
            return cast("OptimizerFactory", target(**_as_given(target, params, converted)))
    except (Exception, SystemExit) as error:
        # Whatever a stranger's constructor raises is about these params; the cause is chained.
        raise InvalidArgumentsError(target.__name__, _constructor_problems(error)) from error


def effective_params(target: type, params: Mapping[str, Any]) -> dict[str, Any]:
    """What valid params amount to: converted, and with the constructor's defaults for the others."""
    converted, _ = convert_arguments(target, params)
    return {**defaults_of(target), **converted}


def problems_of_build(error: ValueError | TypeError) -> list[Problem]:
    """What a factory's `build` has said against its params."""
    if isinstance(error, InvalidArgumentsError):
        return list(error.problems)
    return [Problem("", f"the optimizer can't be built: {error}", cause=error)]


def _as_given(target: type, params: Mapping[str, Any], converted: Mapping[str, Any]) -> Mapping[str, Any]:
    if not issubclass(target, pydantic.BaseModel):
        return converted
    # A model converts for itself, and may have validators that want to see the raw value.
    return {name: converted[name] if has_exponent(value) else value for name, value in params.items()}


def _constructor_problems(error: BaseException) -> list[Problem]:
    if isinstance(error, InvalidArgumentsError):
        return list(error.problems)
    if isinstance(error, pydantic.ValidationError):
        return problems_of_pydantic(error)
    said = str(error) if isinstance(error, (ValueError, TypeError)) else f"{type(error).__name__}: {error}"
    return [Problem("", said or type(error).__name__, cause=error)]
