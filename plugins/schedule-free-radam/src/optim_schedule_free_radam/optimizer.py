"""`ScheduleFreeRAdam`: `schedulefree.RAdamScheduleFree` with its modes made safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import schedulefree
import torch
from annotated_types import Gt, Lt

from optim_core import (
    Beta,
    EvaluationModeError,
    Finite,
    LearningRate,
    NonNegative,
    OptimWarning,
    ScheduleWarning,
    StateMismatchError,
    check_arguments,
)
from optim_core.authoring import (
    is_dry_step,
    keep_uncompiled,
    matched_by_name,
    names_for_group,
    require_same_groups,
    warn_caller,
    without_hooks,
)
from optim_schedule_free_radam.fused_step import FusedStep

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT, StateDict

__all__ = ["InterpolationBeta", "ScheduleFreeRAdam"]

# What the library keeps in each group and moves with the steps and modes.
_COUNTERS = ("k", "train_mode", "weight_sum", "lr_max")
_GROUP_OPTIONS = ("lr", "betas", "eps", "weight_decay", "r", "weight_lr_power", "foreach", "silent_sgd_phase")
InterpolationBeta = Annotated[float, Gt(0), Lt(1)]
"""The coefficient of the interpolation between the weights; the evaluation weights divide by it."""


class ScheduleFreeRAdam(schedulefree.RAdamScheduleFree):  # type: ignore[misc]
    """Schedule-free RAdam: neither a warmup nor a schedule, and no horizon to know beforehand.

    The updates are those of `schedulefree.RAdamScheduleFree` ("The Road Less Scheduled", Defazio et
    al. 2024). The parameters are the training weights, or, between `eval()` and `train()`, the
    averaged ones to evaluate and publish. The optimizer starts in training mode; a group added
    later joins in the current mode.

    Args:
        params: parameters or parameter groups.
        lr: absolute learning rate, zero or more.
        betas: coefficients of the interpolation and of the running average of the squared gradient;
            the first is above zero.
        eps: added to the denominator.
        weight_decay: weight decay, calculated at the training weights.
        r: power of the polynomial weighting in the average.
        weight_lr_power: power of the learning rate in the weighting; zero or more.
        foreach: use the multi-tensor implementation.
        silent_sgd_phase: do not move the parameters in the first few steps, where RAdam's variance
            is not yet tractable, instead of taking plain gradient steps.
        fused: make each update in one pass over memory, with code that `torch.compile` makes for the kind
            of tensor when it is first needed, and leave gradients as they are; `foreach` is of no effect
            then. The state dict is the same. Where nothing can be compiled, a warning says so, once, and
            PyTorch's single operations do the same.

    Raises:
        InvalidArgumentsError: (a ValueError) with every argument that breaks a rule.
    """

    GROUP_STATE: ClassVar[tuple[str, ...]] = (*_COUNTERS, "scheduled_lr")
    """What is in the groups that is no option of theirs."""

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 0.0025,
        betas: tuple[InterpolationBeta, Beta] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
        weight_decay: NonNegative = 0.0,
        r: Finite = 0.0,
        weight_lr_power: NonNegative = 2.0,
        foreach: bool | None = True,
        silent_sgd_phase: bool = True,
        fused: bool = False,
    ) -> None:
        checked = check_arguments(
            ScheduleFreeRAdam,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "r": r,
                "weight_lr_power": weight_lr_power,
                "foreach": foreach,
                "silent_sgd_phase": silent_sgd_phase,
                "fused": fused,
            },
        )
        # No option of a group: the groups are those of the library's class, whose state fits.
        self._fused: bool = checked.pop("fused")
        self._fused_step = FusedStep()
        keep_uncompiled(ScheduleFreeRAdam, "_step")
        # The groups' rates as they were when they were last seen: objects, as a rate of zero is told
        # from a checkpointer's zero by identity. Not to be compared after a load, which may change them.
        self._rates: list[object] = []
        self._rates_may_change = False
        self._warned_changed = False
        self._state_is_dry = False
        super().__init__(params, **checked)

    @property
    def fused(self) -> bool:
        """Whether updates are made in one pass."""
        return self._fused

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_state_is_dry": self._state_is_dry, "_fused": self._fused}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # PyTorch's load_state_dict ends here too, with a state that is of real steps.
        super().__setstate__({"_state_is_dry": False, **state})
        self.__dict__.setdefault("_fused", False)  # a pickle from before there was a choice
        keep_uncompiled(ScheduleFreeRAdam, "_step")
        self._fused_step = FusedStep()
        self._rates = [group["lr"] for group in self.param_groups]
        self._rates_may_change = True
        self._warned_changed = False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group in the mode that the optimizer is in; the dictionary is not changed.

        In evaluation mode its weights count as evaluation weights, as all others do.

        Raises:
            InvalidArgumentsError: an option of the group breaks a rule.
        """
        if isinstance(param_group, dict):
            options = {name: param_group[name] for name in _GROUP_OPTIONS if name in param_group}
            # Also makes a float of a rate given as a tensor, which the library would turn into NaN.
            checked = check_arguments(ScheduleFreeRAdam, options, partial=True)
            mode = self.param_groups[0]["train_mode"] if self.param_groups else True
            named = names_for_group(param_group, self.param_groups)
            param_group = {**named, **checked, "train_mode": mode}
        super().add_param_group(param_group)
        self._rates.append(self.param_groups[-1]["lr"])

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update.

        Args:
            closure: reevaluates the model and returns the loss.

        Returns:
            The closure's loss, or None without one.

        Raises:
            EvaluationModeError: the optimizer is in evaluation mode.
        """
        return self._step(closure)

    def _step(self, closure: Callable[[], float] | None) -> float | None:
        # A method of its own, kept uncompiled: the library's step() doesn't survive compilation.
        update = without_hooks(super().step)
        if closure is None and is_dry_step(self, self._rates):
            # Without state there is one set of weights, so that it is of no matter which mode this is.
            before = [dict(group) for group in self.param_groups]
            try:
                for group in self.param_groups:
                    group["train_mode"] = True
                update(self, None)
            finally:
                for group, options in zip(self.param_groups, before, strict=True):
                    group.update(options)
            self._state_is_dry = True
            return None
        if not all(group["train_mode"] for group in self.param_groups):
            raise EvaluationModeError(
                f"{type(self).__name__}.step() was called in evaluation mode, where the parameters are the averaged "
                "weights. Call train() on the optimizer (or on the ComponentOptimizers) after an evaluation, or "
                "evaluate inside ComponentOptimizers.eval_mode(); give a trainer the callback for it in "
                "optim_core.integrations"
            )
        self._drop_dry_state()
        self._notice_changed_rates()
        loss: float | None = self._fused_update(closure) if self._fused else update(self, closure)
        return loss

    def _fused_update(self, closure: Callable[[], float] | None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        failures: list[str] = []
        with torch.no_grad():
            self._fused_step.update(self.param_groups, self.state, failures.append)
        if failures:
            # Not before all is done: a warning may be an error.
            self._warn_uncompiled(failures[0])
        return loss

    def _warn_uncompiled(self, reason: str) -> None:
        warn_caller(
            f"{type(self).__name__} with fused=True can't compile its step, and makes it with PyTorch's single "
            f"operations, which is slower: {reason}. On a CPU torch.compile needs a C++ compiler, on a GPU Triton",
            OptimWarning,
        )

    def _notice_changed_rates(self) -> None:
        """Warn, once, of a learning rate that was changed since the last step."""
        rates = [group["lr"] for group in self.param_groups]
        # As many as there were, unless somebody has taken a group away.
        changed = [pair for pair in zip(self._rates, rates, strict=False) if pair[0] != pair[1]]
        if changed and not self._rates_may_change and not self._warned_changed:
            self._warned_changed = True
            before, now = changed[0]
            warn_caller(
                f"the learning rate of {type(self).__name__} was changed from outside, from {before:.6g} to {now:.6g}. "
                "It needs no schedule, and averages weights as if there were none: take away the scheduler (where a "
                "trainer adds one, give it optim_core.integrations.ReadOnlyScheduler(optimizer) instead)",
                ScheduleWarning,
            )
        self._rates, self._rates_may_change = rates, False

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Restore the optimizer's state; `schedulefree.RAdamScheduleFree`'s fits too.

        Raises:
            StateMismatchError: it is the state of another kind of optimizer, or of other parameters;
                nothing was changed.
        """

        def require_own(_: torch.optim.Optimizer, state: StateDict) -> StateDict:
            state = matched_by_name(self.param_groups, state, type(self).__name__)
            require_same_groups(self.param_groups, state, type(self).__name__, ("z", "exp_avg_sq"))
            groups, states = state["param_groups"], state["state"].values()
            missing = {name for group in groups for name in _COUNTERS if name not in group}
            missing |= {name for own in states for name in ("z", "exp_avg_sq") if own and name not in own}
            if missing:
                raise StateMismatchError(
                    f"{type(self).__name__}: this is the state of another kind of optimizer: it lacks "
                    f"{', '.join(map(repr, sorted(missing)))}"
                )
            return state

        # A hook, to see what a user's own hooks make of the state; for this call only.
        handle = self.register_load_state_dict_pre_hook(require_own)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()

    def train(self) -> None:
        """Switch the parameters to the training weights, if they aren't."""
        self._drop_dry_state()
        super().train()
        self._drop_empty_state()

    def eval(self) -> None:
        """Switch the parameters to the evaluation weights, if they aren't."""
        self._drop_dry_state()
        super().eval()
        self._drop_empty_state()

    def _drop_dry_state(self) -> None:
        # It holds the weights as they were at the dry step, which may have been loaded since.
        if self._state_is_dry:
            self.state.clear()
            self._state_is_dry = False

    def _drop_empty_state(self) -> None:
        # The library looks a parameter up in a defaultdict, which leaves an entry where there was
        # none; whoever looks next believes that the state exists.
        for parameter in [p for p, state in self.state.items() if isinstance(p, torch.Tensor) and not state]:
            del self.state[parameter]
