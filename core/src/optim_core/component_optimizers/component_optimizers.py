"""`ComponentOptimizers`: the optimizers of a model's components, by component, driven as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from optim_core.arguments.spelling import nearest
from optim_core.components.lookup import size_of
from optim_core.configuration.group_rules import NO_OPTIONS
from optim_core.configuration.specifications import ComponentSpec
from optim_core.errors import EvaluationModeError, StateMismatchError
from optim_core.optimizer.evaluation_weights import evaluation_weights, has_modes, in_training_mode
from optim_core.optimizer.group_options import plain_number
from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer
from optim_core.optimizer.state_matching import matched_state, renamed
from optim_core.parameter_groups.assignment import (
    NUMERIC_COLUMNS,
    GroupAssignment,
    assignments_of,
    group_rows,
    parameter_rows,
)

__all__ = ["ComponentOptimizers"]


_NO_PLAIN_VALUES = (tuple, list, Tensor)


class ComponentOptimizers(Mapping[str, Optimizer]):
    """The optimizers that `build_optimizers` made, in the order of the configuration.

    A mapping from component to a plain `torch.optim.Optimizer`, each of which any PyTorch tool can
    be given, with the calls of a training loop for all of them at once.

    Args:
        optimizers: by component.
        specs: what the configuration said of each.
        params: the values that each factory was constructed with, defaults included.
        parameters: each component's parameters, by their names within it.
        rules: what decided about each component's parameters, by their names within it; see `assignments`.
        aliases: the further names of each component's tied parameters, with the first name of each.
        skipped: components that are configured, but have no trainable parameter.
        sharding: the modules that `fully_shard` was applied to, which are to notice changed weights.
    """

    def __init__(
        self,
        optimizers: Mapping[str, Optimizer],
        *,
        specs: Mapping[str, ComponentSpec] | None = None,
        params: Mapping[str, Mapping[str, Any]] | None = None,
        parameters: Mapping[str, Mapping[str, Tensor]] | None = None,
        rules: Mapping[str, Mapping[str, str]] | None = None,
        aliases: Mapping[str, Mapping[str, str]] | None = None,
        skipped: Sequence[str] = (),
        sharding: Sequence[Any] = (),
    ) -> None:
        self._optimizers = dict(optimizers)
        self.specs: Mapping[str, ComponentSpec] = dict(specs or {})
        self.params: dict[str, Mapping[str, Any]] = dict(params or {})
        self._parameters = dict(parameters or {})
        self._rules = dict(rules or {})
        self._aliases = dict(aliases or {})
        self.skipped: tuple[str, ...] = tuple(skipped)
        self._sharding = tuple(sharding)
        self._with_modes: dict[str, Any] = {name: o for name, o in self._optimizers.items() if has_modes(o)}
        self._initial_options: dict[str, Sequence[Mapping[str, Any]]] = {
            name: _options_of(optimizer) for name, optimizer in self._optimizers.items()
        }

    def __getitem__(self, component: str) -> Optimizer:
        try:
            return self._optimizers[component]
        except KeyError:
            if component in self.skipped:
                raise KeyError(
                    f"{component!r} has no optimizer: it was skipped, as nothing in it is trainable"
                ) from None
            near = nearest(component, list(self._optimizers))
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self._optimizers) or 'none'}"
            raise KeyError(f"{component!r} has no optimizer; {hint}") from None

    def __contains__(self, component: object) -> bool:
        return component in self._optimizers

    def __iter__(self) -> Iterator[str]:
        return iter(self._optimizers)

    def __len__(self) -> int:
        return len(self._optimizers)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update with every optimizer, in the order of the configuration.

        Args:
            closure: reevaluates the model and returns the loss; called once, before all updates. An
                optimizer that must call it several times (L-BFGS) is to be stepped by itself.

        Returns:
            The closure's loss, or None without one.

        Raises:
            EvaluationModeError: an optimizer is in evaluation mode; none has made an update.
        """
        for name, moded in self._with_modes.items():
            if not in_training_mode(moded):
                raise EvaluationModeError(
                    f"step() was called while the parameters of component {name!r} are the evaluation weights. Call "
                    "train() after an evaluation, or evaluate inside eval_mode()"
                )
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self._optimizers.values():
            optimizer.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters, as `torch.optim.Optimizer.zero_grad` does."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=set_to_none)

    def train(self) -> None:
        """Switch the optimizers that have modes (the schedule-free ones) to their training weights."""
        for optimizer in self._with_modes.values():
            optimizer.train()
        self._reshard()

    def eval(self) -> None:
        """Switch the optimizers that have modes to the weights to evaluate and to publish.

        The switch is arithmetic on the weights: it rounds, and so does the way back. `eval_mode()`
        is exact.
        """
        for optimizer in self._with_modes.values():
            optimizer.eval()
        self._reshard()

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Evaluation weights inside the `with` block, the very same training weights after it.

        The weights of optimizers that leave the training mode are copied for the time of the block
        and put back bit for bit, so that training goes on as if there had been no evaluation. An
        optimizer in evaluation mode already stays in it.
        """
        try:
            with evaluation_weights(*self._with_modes.values()):
                self._reshard()
                yield
        finally:
            self._reshard()

    def _reshard(self) -> None:
        # A forward pass without a backward pass leaves the whole weights gathered, and the next one
        # takes those, whatever has become of the shards.
        if self._with_modes:
            for module in self._sharding:
                module.reshard()

    def learning_rates(self) -> dict[str, float]:
        """The one number to log for each component: the learning rate of its first parameter group.

        It is the rate that the next `step()` applies; for a schedule-free optimizer, whose
        `"lr"` stays the same, the rate that its last step applied.
        """
        return {name: learning_rate(optimizer) for name, optimizer in self._optimizers.items()}

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Every optimizer's state dict, by component."""
        return {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}

    def load_state_dict(self, state_dict: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore every optimizer; where one refuses its state, all are as they were.

        Raises:
            StateMismatchError: the components differ, or an optimizer refuses its state (the cause
                is chained).
        """
        if set(state_dict) != set(self._optimizers):
            raise StateMismatchError(
                f"the state is of the components {sorted(state_dict)}, the optimizers are of {sorted(self._optimizers)}"
            )
        with self._restored_on_failure():
            for name, optimizer in self._optimizers.items():
                try:
                    state = renamed(state_dict[name], self.aliases_of(name))
                    # Here too: a copy has lost its hooks, a wrapper may pass on what another loads.
                    optimizer.load_state_dict(matched_state(optimizer, state))
                except (ValueError, KeyError, TypeError) as error:
                    names = getattr(error, "missing", ()), getattr(error, "unexpected", ())
                    raise StateMismatchError(f"component {name!r}: {error}", *names) from error

    @contextmanager
    def _restored_on_failure(self) -> Iterator[None]:
        """Puts every optimizer back to what it was, if loading states inside the block raises."""
        restorers = [_restorer(optimizer) for optimizer in self._optimizers.values()]
        try:
            yield
        except BaseException:
            for restore in restorers:
                restore()
            raise

    def parameters_of(self, component: str) -> Mapping[str, Tensor]:
        """The parameters that a component had when its optimizer was built, by name within it."""
        return self._parameters.get(component, {})

    def aliases_of(self, component: str) -> Mapping[str, str]:
        """The further names of a component's tied parameters, with the first name of each."""
        return self._aliases.get(component, {})

    def _adopt(self, component: str, params: Mapping[str, Any], initial_options: Sequence[Mapping[str, Any]]) -> None:
        """Take over the values that a checkpoint was built with, in place of the configuration's."""
        self.params[component] = dict(params)
        self._initial_options[component] = tuple(initial_options)

    def initial_options(self, component: str) -> Sequence[Mapping[str, Any]]:
        """The options of each parameter group of a component, as its optimizer was built with them."""
        return self._initial_options[component]

    def assignments(self) -> list[GroupAssignment]:
        """Which parameters are in which parameter group, and what decided it; skipped components come last."""
        return [
            assignment
            for name in [*self._optimizers, *self.skipped]
            for assignment in assignments_of(
                name, self._optimizers.get(name), self.parameters_of(name), self._rules.get(name, {})
            )
        ]

    def summary(self, *, verbose: bool = False) -> str:
        """Two tables: who owns how many parameters with which optimizer, and what is in which parameter group.

        Args:
            verbose: list every parameter by name in the second, in place of one row for each group and rule.
        """
        rows = [("component", "type", "optimizer", "parameters", "trainable", "learning rate")]
        rates = self.learning_rates()
        for name, optimizer in self._optimizers.items():
            tensors = [p for group in optimizer.param_groups for p in group["params"]]
            rows.append(
                (
                    name,
                    self.specs[name].type if name in self.specs else "",
                    type(optimizer).__name__,
                    f"{sum(map(size_of, tensors)):,}",
                    f"{sum(size_of(p) for p in tensors if p.requires_grad):,}",
                    f"{rates[name]:.3g}",
                )
            )
        for name in self.skipped:
            rows.append((name, self.specs[name].type if name in self.specs else "", "(skipped: frozen)", "", "0", ""))
        assigned = self.assignments()
        by_group = parameter_rows(assigned) if verbose else group_rows(assigned)
        owners = _aligned(rows, numeric=("parameters", "trainable", "learning rate"))
        return "\n".join([*owners, "", *_aligned(by_group, numeric=NUMERIC_COLUMNS)])

    def __repr__(self) -> str:
        return f"{type(self).__name__}\n{self.summary()}"

    # An identity, as for a module: Mapping would compare the optimizers one by one.
    __eq__ = object.__eq__
    __hash__ = object.__hash__


def _aligned(rows: Sequence[tuple[str, ...]], numeric: Sequence[str]) -> Iterator[str]:
    """The lines of a table, below its headings; columns of numbers are aligned at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if heading in numeric else cell.ljust(width)
            for heading, cell, width in zip(rows[0], row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _options_of(optimizer: Optimizer) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        [
            {
                k: plain_number(v) if isinstance(v, _NO_PLAIN_VALUES) else v
                for k, v in group.items()
                if k not in NO_OPTIONS
            }
            for group in optimizer.param_groups
        ]
    )


def _restorer(optimizer: Optimizer) -> Callable[[], None]:
    """What puts an optimizer back to what it is now, after states were loaded into it."""
    if "param_groups" not in vars(optimizer):
        # A wrapper that only passes on what another optimizer has.
        return partial(optimizer.load_state_dict, copy.deepcopy(optimizer.state_dict()))
    if isinstance(optimizer, ScheduledOptimizer):
        return optimizer._restorer()
    # References, not copies: loading puts new objects in place and leaves the old ones alone.
    return partial(optimizer.__setstate__, dict(optimizer.__getstate__()))


def rate_of(group: Mapping[str, Any]) -> float:
    """The learning rate of a parameter group; `scheduled_lr` where one moves beside `lr`."""
    return float(group.get("scheduled_lr", group.get("lr", float("nan"))))


def learning_rate(optimizer: Optimizer) -> float:
    """The learning rate of an optimizer's first group; `scheduled_lr` where one moves beside `lr`."""
    return rate_of(optimizer.param_groups[0])
