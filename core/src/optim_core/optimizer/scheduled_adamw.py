"""`ScheduledAdamW`: AdamW on any schedule, by the fastest way that PyTorch has for the parameters given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from optim_core.errors import InvalidArgumentsError, Problem
from optim_core.optimizer.device_schedule import is_capturing
from optim_core.optimizer.fused_or_foreach import choose_implementation, names_implementation, use_implementation
from optim_core.optimizer.schedule_state import OnMismatch
from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer
from optim_core.pytorch.fused_adamw import TensorLists, update_fused
from optim_core.schedules.schedule import Schedule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

__all__ = ["ScheduledAdamW"]

# What AdamW keeps of each element of a parameter; the last with amsgrad only.
_AVERAGES = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

# What every tensor is asked, in loops that are not Python's.
_is_on_cpu, _is_contiguous, _is_negated, _size = attrgetter("is_cpu"), Tensor.is_contiguous, Tensor.is_neg, Tensor.numel
_exp_avg, _exp_avg_sq, _max_exp_avg_sq = map(itemgetter, _AVERAGES)
_step, _is_fused = itemgetter("step"), itemgetter("fused")


class ScheduledAdamW(ScheduledOptimizer, torch.optim.AdamW):
    """`torch.optim.AdamW` on a `Schedule`, fused where PyTorch can.

    >>> import torch
    >>> from optim_core import ScheduledAdamW, WarmupCosine
    >>> optimizer = ScheduledAdamW(
    ...     [torch.nn.Parameter(torch.ones(2))],
    ...     schedule=WarmupCosine(peak_lr=1e-3, total_steps=100, warmup_steps=10),
    ...     weight_decay=0.1,
    ... )
    >>> optimizer.param_groups[0]["fused"]
    True

    Unless `fused` or `foreach` is given, for the optimizer or for a group, the implementation is chosen:
    fused where PyTorch supports that for every parameter; else foreach, for several tensors at a time; else
    one by one. The choice stands in every group, as `"fused"` and `"foreach"`, and is made again when a
    group is added. It is this program's: loading a state dict doesn't change it.

    Args:
        params: parameters or parameter groups; dictionaries given are not changed.
        schedule: the shape of the learning rate; see `ScheduledOptimizer`, as for the next two.
        on_mismatch: whose schedule holds where a loaded state has another.
        initial_step: number of updates already made, where training goes on without a state dict.
        **options: arguments of `torch.optim.AdamW`.

    Raises:
        InvalidArgumentsError: see `ScheduledOptimizer`.
    """

    _PER_ELEMENT = _AVERAGES
    _chooses = False
    _is_undecided = False

    def __init__(
        self,
        params: ParamsT,
        *,
        schedule: Schedule,
        on_mismatch: OnMismatch = "config",
        initial_step: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(params, schedule=schedule, on_mismatch=on_mismatch, initial_step=initial_step, **options)
        self._chooses = not any(map(names_implementation, self.param_groups))
        self._choose()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, which joins the schedule at its current position.

        Args:
            param_group: as for `torch.optim.AdamW`; an `lr` in it is the group's peak. The dictionary
                is not changed.

        Raises:
            InvalidArgumentsError: the group's `lr` isn't a finite number of zero or more.
        """
        super().add_param_group(param_group)
        if names_implementation(self.param_groups[-1]):
            # If one group names its implementation, nothing is chosen for the others either.
            self._chooses = False
        self._choose()

    def _choose(self) -> None:
        # Of parameters that are still to be made nothing is chosen yet.
        self._is_undecided = self._chooses and not choose_implementation(self)

    # What torch.amp.GradScaler asks, before it leaves unscaling and skipping to the kernels. PyTorch has no
    # public name for it, and sets it in the constructor, as if that could say it of all groups.
    @property
    def _step_supports_amp_scaling(self) -> bool:
        return all(map(_is_fused, self.param_groups))

    @_step_supports_amp_scaling.setter
    def _step_supports_amp_scaling(self, value: bool) -> None:
        pass

    def __getstate__(self) -> dict[str, Any]:
        choice = {"_chooses": self._chooses, "_is_undecided": self._is_undecided}
        return {**super().__getstate__(), **choice}

    def _step_at_these_rates(self, closure: Callable[[], float] | None) -> float | None:
        # What AdamW.step() does, with two differences. It asks less of each tensor, which is a fifth of the time
        # where they are many and small. And fused kernels go through memory without asking which element is
        # where: PyTorch, of whom they have to be asked for, leaves it to who asks.
        if self._is_undecided:
            self._choose()
        kind: Any = type(self)
        if not _steps_as_adamw(kind) or not all(map(_is_fused, self.param_groups)):
            return super()._step_at_these_rates(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # As torch.no_grad() does, which takes longer.
        grad_is_enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        try:
            tensors = [self._tensors_of(group) for group in self.param_groups]
            if None in tensors:
                self._update_by_adamw()
                return loss
            # What a gradient scaler sets while it calls step(); see ScheduledOptimizer.
            grad_scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
            for group, lists in zip(self.param_groups, tensors, strict=True):
                assert lists is not None  # as was asked above
                update_fused(lists, group, grad_scale, found_inf)
                if grad_scale is not None:
                    # The kernels also unscale what they are given.
                    for parameter, used in zip(lists[0], lists[1], strict=True):
                        if parameter.grad is not None and parameter.grad is not used:
                            parameter.grad.copy_(used)
        finally:
            torch.set_grad_enabled(grad_is_enabled)
        return loss

    def _tensors_of(self, group: dict[str, Any]) -> TensorLists | None:
        """The group's tensors for `update_fused`, the elements in one order in memory.

        Returns:
            None where it is for `AdamW.step()`: to make state, to do something else, or to refuse.
        """
        params = [p for p in group["params"] if p.grad is not None]
        grads: list[Any] = [p.grad for p in params]
        states: list[Any] = list(map(self.state.get, params))
        try:
            exp_avgs = list(map(_exp_avg, states))
            exp_avg_sqs = list(map(_exp_avg_sq, states))
            max_exp_avg_sqs = list(map(_max_exp_avg_sq, states)) if group["amsgrad"] else []
            steps = list(map(_step, states))
        except (KeyError, TypeError):  # a parameter has its first gradient
            return None
        if group["differentiable"] or not group.get("decoupled_weight_decay", True):
            return None
        if params and is_capturing(params[0]):
            return None
        lists = params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps
        if list(map(_size, params)) != list(map(_size, exp_avgs)):
            what = "holds a parameter that has another shape than its state: it was changed after the state was made"
            raise InvalidArgumentsError(type(self).__name__, [Problem("param_groups", what, "Make a new optimizer")])
        together = params + grads + exp_avgs + exp_avg_sqs + max_exp_avg_sqs
        if not all(map(_is_contiguous, together)) or any(map(_is_negated, grads)):
            if not all(map(_is_dense, params)) or any(grad.is_sparse for grad in grads):
                return None
            for index, parameter in enumerate(params):
                grads[index] = _in_order_of(parameter, grads[index])
                _put_in_order(parameter, states[index])
            # The same once more, of what has changed.
            exp_avgs[:], exp_avg_sqs[:] = map(_exp_avg, states), map(_exp_avg_sq, states)
            max_exp_avg_sqs[:] = map(_max_exp_avg_sq, states) if group["amsgrad"] else []
        return lists

    def _update_by_adamw(self) -> None:
        # Parameters may have become something else before their first gradient.
        self._choose()
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        given = [p.grad for p in params]
        if not all(map(_is_dense, params)):
            if not self._chooses:
                what = "= True: the elements of a parameter are not side by side in memory, as fused kernels need them"
                hint = "Leave fused out, or give the parameter memory of its own with clone()"
                raise InvalidArgumentsError(type(self).__name__, [Problem("fused", what, hint)])
            self._chooses = False
            use_implementation(self, fused=False)
        try:
            for parameter, gradient in zip(params, given, strict=True):
                if gradient is not None and not gradient.is_sparse and _is_dense(parameter):
                    parameter.grad = _in_order_of(parameter, gradient)
                    _put_in_order(parameter, self.state.get(parameter, {}))
            super()._step_at_these_rates(None)
        finally:
            for parameter, gradient in zip(params, given, strict=True):
                if gradient is not None and parameter.grad is not None and parameter.grad is not gradient:
                    gradient.copy_(parameter.grad)  # which is unscaled, if there is a gradient scaler
                    parameter.grad = gradient


@functools.cache
def _steps_as_adamw(kind: type) -> bool:
    """Whether what a class inherits from AdamW is PyTorch's own, and not of a class between them."""
    rest = kind.__mro__[kind.__mro__.index(ScheduledOptimizer) + 1 :]
    owners = [
        next(owner for owner in classes if name in vars(owner))
        for name, classes in (("step", rest), ("_init_group", kind.__mro__))
    ]
    return {torch.optim.AdamW, torch.optim.Adam}.issuperset(owners)


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor's elements are side by side in memory, in whatever order of its dimensions."""
    if tensor.is_contiguous():
        return True
    strides = tensor.stride()
    order = sorted(range(len(strides)), key=lambda dimension: -strides[dimension])
    return tensor.permute(order).is_contiguous()


def _in_order_of(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A tensor with its elements in the order in memory of a parameter's, which is dense; itself where they are."""
    if tensor.stride() == parameter.stride() and not tensor.is_neg():
        return tensor
    return torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)


def _put_in_order(parameter: Tensor, state: dict[str, Any]) -> None:
    for name in _AVERAGES:
        if name in state:
            state[name] = _in_order_of(parameter, state[name])
