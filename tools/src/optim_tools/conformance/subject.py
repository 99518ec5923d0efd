"""The plugin under test: its factory, the params it is given, what is claimed of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch

from optim_core import (
    OPTIMIZER_BUILDER_REGISTRY,
    Claims,
    FactoryEntry,
    InvalidArgumentsError,
    OptimizerFactory,
    Problem,
    ScheduledOptimizer,
)
from optim_core.for_tools import construct_factory, effective_params, has_modes, in_one_line, signature_of
from optim_tools.conformance.not_applicable import NotApplicable
from optim_tools.inspection.example import example_params

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

__all__ = ["Subject"]

# Arguments by which an optimizer is told how long a training is have no other use than a schedule.
_HORIZON = re.compile(r"(^|_)(total|training|train|max)_?(steps|iters|iterations|updates)$|^(horizon|t_max)$")


class Subject:
    """A factory that is held to what an optimizer has to do.

    Args:
        factory: the factory class, or the key under which one is installed or registered.
        params: what the factory is constructed with, as a configuration gives it. Its own
            `example_params` if None, else values guessed from its signature.
        claims: what is claimed; the factory's own `CLAIMS` if None.

    Attributes:
        target: the factory class.
        params: what it is constructed with.
        claims: what it is held to.
        entry: where the key comes from; None where a class was given.

    Raises:
        OptimError: the key can't be used, see `OptimizerRegistry.get`.
        InvalidArgumentsError: no params are known with which it builds an optimizer, or `CLAIMS`
            is no `Claims`.
    """

    def __init__(
        self, factory: type | str, params: Mapping[str, Any] | None = None, claims: Claims | None = None
    ) -> None:
        self.entry: FactoryEntry | None = None
        if isinstance(factory, str):
            self.target = OPTIMIZER_BUILDER_REGISTRY.get(factory)
            entries = [entry for entry in OPTIMIZER_BUILDER_REGISTRY.entries() if entry.key == factory]
            # One that is registered in this process and can be used is the one that is used.
            self.entry = next((e for e in entries if not e.distribution), entries[0])
        else:
            self.target = factory
        self.claims = _claims_of(self.target) if claims is None else claims
        self.params = _params_of(self.target) if params is None else dict(params)

    def factory(self, **changes: Any) -> OptimizerFactory:
        """The factory, constructed with the params and these changes."""
        return construct_factory(self.target, {**self.params, **changes})

    def build(self, params: ParamsT, **changes: Any) -> torch.optim.Optimizer:
        """An optimizer over `params`, ready to step; of a factory with these changes to its own params."""
        return self.ready(self.factory(**changes).build(params))

    def ready(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """A new optimizer as it is to be stepped: one that starts in evaluation mode in training mode."""
        if self.starts_in_evaluation:
            cast("Any", optimizer).train()
        return optimizer

    def accepts(self, argument: str) -> bool:
        """Whether the factory's constructor takes an argument of that name."""
        return argument in signature_of(self.target).arguments

    @property
    def group_count(self) -> int:
        """In how many parameter groups to give it parameters: two, unless several aren't claimed."""
        return 2 if self.claims.groups else 1

    @functools.cached_property
    def horizon(self) -> int | None:
        """How many updates the schedule covers, where the optimizer or its params say so."""
        if self.claims.schedule is False:
            return None
        if isinstance(self.claims.horizon, int):
            return self.claims.horizon
        optimizer = self._trial()
        # A wrapper has one inside.
        for candidate in (optimizer, *vars(optimizer).values()):
            if isinstance(candidate, ScheduledOptimizer):
                return candidate.schedule.total_steps
        given = effective_params(self.target, self.params)
        if isinstance(self.claims.horizon, str):
            return int(given[self.claims.horizon])
        named = [value for name, value in given.items() if _HORIZON.search(name) and type(value) is int and value > 0]
        return named[0] if len(named) == 1 else None

    @functools.cached_property
    def has_schedule(self) -> bool:
        """Whether the learning rate follows a schedule: as claimed, else as it looks."""
        if self.claims.schedule is not None:
            return self.claims.schedule
        optimizer = self._trial()
        # A schedule may be wrong in any of these: it is for the checks to say in which.
        return (
            isinstance(optimizer, ScheduledOptimizer)
            or "scheduler" in optimizer.state_dict()
            or any(_HORIZON.search(name) for name in signature_of(self.target).arguments)
            or self._rate_moves(optimizer)
        )

    @functools.cached_property
    def denies_its_schedule(self) -> bool:
        """Whether a schedule is there that the claims say isn't."""
        if self.claims.schedule is not False:
            return False
        optimizer = self._trial()
        return isinstance(optimizer, ScheduledOptimizer) or self._rate_moves(optimizer)

    @functools.cached_property
    def default_rate(self) -> float:
        """The learning rate of a group that has none of its own; a peak, where there is a schedule.

        Raises:
            NotApplicable: groups have no learning rate that is a number above zero.
        """
        optimizer = self._trial()
        rate = optimizer.defaults.get("lr")
        if rate is None or "lr" not in optimizer.param_groups[0] or not float(rate) > 0:
            raise NotApplicable("its parameter groups have no learning rate")
        return float(rate)

    @property
    def has_rate(self) -> bool:
        """Whether parameter groups have a learning rate that is a number above zero."""
        try:
            return self.default_rate > 0
        except NotApplicable:
            return False

    @functools.cached_property
    def is_buildable(self) -> bool:
        """Whether its params build an optimizer of what is claimed; one check says so, and others need it."""
        try:
            return isinstance(self._as_built(), torch.optim.Optimizer) and not self.problem_with_vectors
        except (Exception, SystemExit):
            return False

    @functools.cached_property
    def problem_with_vectors(self) -> str | None:
        """What is raised where a vector stands beside a matrix that it can do alone; None where that is no claim."""
        matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
        if not self.claims.vectors or self._failure_over([matrix]) is not None:
            return None
        return self._failure_over([matrix, vector])

    def _failure_over(self, parameters: list[torch.nn.Parameter]) -> str | None:
        try:
            optimizer = self.build(parameters)
            self.step(optimizer, _gradients_of(optimizer))
        except Exception as error:
            # Whatever a stranger's optimizer raises.
            return in_one_line(error)
        return None

    @functools.cached_property
    def has_modes(self) -> bool:
        """Whether the optimizer has `train()` and `eval()`."""
        return has_modes(self._as_built())

    @functools.cached_property
    def starts_in_evaluation(self) -> bool:
        """Whether `step()` is refused until `train()` has been called; one check says so, for the others it is."""
        if not self.has_modes:
            return False
        optimizer: Any = self._as_built()
        closure = _gradients_of(optimizer)
        try:
            self.step(optimizer, closure)
        except Exception:
            optimizer.train()
        else:
            return False
        try:
            self.step(optimizer, closure)
        except Exception:
            return False
        return True

    def within_horizon(self, wanted: int, made: int = 0) -> int:
        """How many of the updates wanted can be made after so many before the schedule ends, at least one.

        What comes of an update past the end is for one check to say.
        """
        return wanted if self.horizon is None else max(1, min(wanted, self.horizon - made))

    def step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Any]) -> None:
        """One update by the gradients that `closure` computes, in the way that the optimizer wants it."""
        if self.claims.needs_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()

    def _trial(self) -> torch.optim.Optimizer:
        return self.build([torch.nn.Parameter(torch.ones(2, 2))])

    def _as_built(self) -> torch.optim.Optimizer:
        return self.factory().build([torch.nn.Parameter(torch.ones(2, 2))])

    def _rate_moves(self, optimizer: torch.optim.Optimizer) -> bool:
        closure = _gradients_of(optimizer)
        rates = set()
        for _ in range(20):
            rates.add(tuple(float(g["lr"]) for g in optimizer.param_groups if g.get("lr") is not None))
            try:
                self.step(optimizer, closure)
            except Exception:
                # That it can't be stepped is for other checks to say.
                break
        return len(rates) > 1


def _gradients_of(optimizer: torch.optim.Optimizer) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.full_like(parameter, 0.1)
        return torch.ones(())

    return closure


def _claims_of(target: type) -> Claims:
    claims = getattr(target, "CLAIMS", None)
    if claims is None:
        return Claims()
    if not isinstance(claims, Claims):
        raise InvalidArgumentsError(
            target.__name__, [Problem("CLAIMS", f"is {claims!r}, not an optim_core.Claims", "Mend the factory class")]
        )
    return claims


def _params_of(target: type) -> dict[str, Any]:
    own = getattr(target, "example_params", None)
    if isinstance(own, Mapping):
        # Also those that don't work, which is for a check to say: the author believes in them.
        return dict(own)
    found = example_params(target)
    if found is None:
        required = [name for name, argument in signature_of(target).arguments.items() if argument.required]
        hint = "Give it an attribute `example_params`, or give params to the check"
        raise InvalidArgumentsError(
            target.__name__, [Problem(", ".join(required), "no values are known with which it builds", hint)]
        )
    return dict(found)
