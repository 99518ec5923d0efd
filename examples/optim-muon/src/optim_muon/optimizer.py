"""`MuonAdamWWithWarmupCosine`: Muon and AdamW in one optimizer, on one `WarmupCosine` schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, overload

import torch
from annotated_types import Ge, Lt
from optim_core import (
    Beta,
    InvalidArgumentsError,
    LearningRate,
    NonNegative,
    OnMismatch,
    PeakLearningRate,
    PeakLearningRateOrTensor,
    Problem,
    Rule,
    ScheduledOptimizer,
    StateMismatchError,
    StepCount,
    Steps,
    WarmupCosine,
    check_arguments,
)
from optim_core.authoring import keep_uncompiled, without_hooks

from optim_muon.assignment import ALGORITHMS, Algorithm, algorithm_of, fits_muon

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT, StateDict

__all__ = ["AdjustLR", "MuonAdamWWithWarmupCosine", "NewtonSchulzSteps"]

AdjustLR = Literal["match_rms_adamw", "original"]
NewtonSchulzSteps = Annotated[int, Ge(1), Lt(100)]

_OPTIONS = {
    "muon": {name: name for name in ("weight_decay", "momentum", "nesterov", "ns_steps", "adjust_lr_fn", "capturable")},
    "adamw": {
        "weight_decay": "adamw_weight_decay",
        "betas": "adamw_betas",
        "eps": "adamw_eps",
        "capturable": "capturable",
    },
}
"""For each algorithm the options of its groups, by PyTorch's names, and the arguments that are their defaults."""


class _MuonAndAdamW(torch.optim.Optimizer):
    """Updates each parameter group by the algorithm that its option `"algorithm"` names.

    The updates are those of `torch.optim.Muon` and `torch.optim.AdamW`: an optimizer of each is made, which
    at each step is given this one's groups and state. They own nothing, so that whoever saves, copies or
    shards this optimizer has all there is.
    """

    _algorithms: Mapping[str, torch.optim.Optimizer] | None = None

    def __init__(self, params: ParamsT, *, lr: Any) -> None:
        keep_uncompiled(_MuonAndAdamW, "_bind")
        super().__init__(params, {"lr": lr})

    def __setstate__(self, state: dict[str, Any]) -> None:
        keep_uncompiled(_MuonAndAdamW, "_bind")
        super().__setstate__(state)
        for group in self.param_groups:
            # A state of another version of PyTorch may lack options.
            for name, value in self._defaults_of(group["algorithm"]).items():
                group.setdefault(name, value)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update.

        Args:
            closure: reevaluates the model and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        muon, adamw = self._bind()
        # As plain functions: the hooks of a step, also those of all optimizers, are for this one's. One after the
        # other, as PyTorch's compiler leaves a loop uncompiled where it meets what it can't compile.
        without_hooks(muon.step)(muon)
        without_hooks(adamw.step)(adamw)
        return loss

    def _bind(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """PyTorch's optimizers of the two algorithms, over what this one has now."""
        algorithms = self._own_algorithms()
        for name, algorithm in algorithms.items():
            algorithm.param_groups = [group for group in self.param_groups if group["algorithm"] == name]
            algorithm.state = self.state
        return algorithms["muon"], algorithms["adamw"]

    def _own_algorithms(self) -> Mapping[str, torch.optim.Optimizer]:
        # Made when they are needed: a copied or unpickled optimizer has none yet.
        if self._algorithms is None:
            placeholder = torch.zeros(1, 1)
            self._algorithms = {"muon": torch.optim.Muon([placeholder]), "adamw": torch.optim.AdamW([placeholder])}
        return self._algorithms

    def _defaults_of(self, algorithm: str) -> dict[str, Any]:
        """PyTorch's defaults of an algorithm's options, but for the rate."""
        defaults = self._own_algorithms()[algorithm].defaults
        return {name: value for name, value in defaults.items() if name != "lr"}

    def load_state_dict(self, state_dict: StateDict) -> None:
        handle = self.register_load_state_dict_pre_hook(_require_same_algorithms)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()


def _require_same_algorithms(optimizer: torch.optim.Optimizer, state: StateDict) -> None:
    for index, (own, saved) in enumerate(zip(optimizer.param_groups, state["param_groups"], strict=True)):
        if own["algorithm"] != saved.get("algorithm"):
            found = f"for {saved['algorithm']!r}" if "algorithm" in saved else "of another kind of optimizer"
            raise StateMismatchError(
                f"{type(optimizer).__name__}: parameter group {index} is for {own['algorithm']!r}, and in the "
                f"checkpoint {found}. Build it over groups with the same algorithms as the one that was saved"
            )


class MuonAdamWWithWarmupCosine(ScheduledOptimizer, _MuonAndAdamW):
    """Muon for matrices and AdamW for everything else, with linear warmup and cosine decay of the rates.

    Each parameter group has an option `"algorithm"`, "muon" or "adamw". A group without one is parted: its
    matrices are a group for Muon, and its other parameters one for AdamW, as all complex ones are. Embeddings and
    output layers are matrices too that AdamW is better for; `parameter_groups(module)` tells them apart.

    >>> import torch
    >>> from optim_muon import MuonAdamWWithWarmupCosine, parameter_groups
    >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 9))
    >>> optimizer = MuonAdamWWithWarmupCosine(parameter_groups(model), peak_lr=1e-3, total_steps=1000)
    >>> [(group["algorithm"], len(group["params"])) for group in optimizer.param_groups]
    [('muon', 1), ('adamw', 4)]

    Args:
        params: parameters or parameter groups. A group's own `lr` is the peak of its curve; its other options
            have the names that they have in `torch.optim.Muon` and `torch.optim.AdamW`.
        peak_lr: absolute learning rate at step `warmup_steps`; above zero. A tensor of one element gives each
            group a tensor `lr` of its own, filled in place, for compiled training steps.
        total_steps: horizon in optimizer updates, warmup included; from its last step on the rate is `end_lr`.
        warmup_steps: updates before the peak; less than `total_steps`.
        start_lr: absolute learning rate of the first update where there is a warmup; at most `peak_lr`.
        end_lr: absolute learning rate at the end; at most `peak_lr`.
        weight_decay: Muon's decoupled weight decay.
        momentum: coefficient of Muon's running average of the gradient.
        nesterov: look ahead with Muon's momentum.
        ns_steps: Newton-Schulz iterations of a Muon update.
        adjust_lr_fn: how Muon's rate goes with the shape of a matrix. "match_rms_adamw" makes its updates as
            large as AdamW's, so that one rate serves both; "original" is for rates of about 0.02, with an
            `adamw_peak_lr` for the rest.
        adamw_peak_lr: peak of AdamW's groups, whose curve is scaled as a whole; `peak_lr` if None.
        adamw_betas: coefficients of AdamW's running averages of the gradient and of its square.
        adamw_eps: added to AdamW's denominator.
        adamw_weight_decay: AdamW's decoupled weight decay; none by default, as its parameters are
            embeddings, norms and biases.
        capturable: make each group's `lr` a tensor on the device of its parameters, for compiled training
            steps; eager ones need a device for it that isn't the CPU.
        on_mismatch: whose schedule holds where a loaded state has another; see `ScheduledOptimizer`.

    Raises:
        InvalidArgumentsError: (a ValueError) with every argument that breaks a rule.
    """

    RULES: ClassVar[tuple[Rule, ...]] = WarmupCosine.RULES
    """The rules across arguments."""

    # By algorithm: the options of a group that has none of its own.
    _group_defaults: dict[str, dict[str, Any]]

    def __init__(
        self,
        params: ParamsT,
        peak_lr: PeakLearningRateOrTensor,
        total_steps: StepCount,
        warmup_steps: Steps = 0,
        start_lr: LearningRate = 0.0,
        end_lr: LearningRate = 0.0,
        *,
        weight_decay: NonNegative = 0.1,
        momentum: Beta = 0.95,
        nesterov: bool = True,
        ns_steps: NewtonSchulzSteps = 5,
        adjust_lr_fn: AdjustLR = "match_rms_adamw",
        adamw_peak_lr: PeakLearningRate | None = None,
        adamw_betas: tuple[Beta, Beta] = (0.9, 0.95),
        adamw_eps: NonNegative = 1e-8,
        adamw_weight_decay: NonNegative = 0.0,
        capturable: bool = False,
        on_mismatch: OnMismatch = "config",
    ) -> None:
        shape = {
            "peak_lr": peak_lr,
            "total_steps": total_steps,
            "warmup_steps": warmup_steps,
            "start_lr": start_lr,
            "end_lr": end_lr,
        }
        options = {
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            "adamw_peak_lr": adamw_peak_lr,
            "adamw_betas": adamw_betas,
            "adamw_eps": adamw_eps,
            "adamw_weight_decay": adamw_weight_decay,
            "capturable": capturable,
        }
        checked = check_arguments(MuonAdamWWithWarmupCosine, shape | options)
        self._group_defaults = {
            algorithm: {name: checked[argument] for name, argument in names.items()}
            for algorithm, names in _OPTIONS.items()
        }
        if checked["adamw_peak_lr"] is not None:
            self._group_defaults["adamw"]["lr"] = checked["adamw_peak_lr"]
        super().__init__(
            params,
            lr=peak_lr if isinstance(peak_lr, torch.Tensor) else checked["peak_lr"],
            schedule=WarmupCosine(**{name: checked[name] for name in shape}),
            on_mismatch=on_mismatch,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_group_defaults": self._group_defaults}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, or two: one for each algorithm, where it doesn't name its own.

        They join the schedule at its current position.

        Args:
            param_group: as for `torch.optim.Optimizer`; an `lr` in it is the group's peak. The dictionary
                is not changed.

        Raises:
            InvalidArgumentsError: an option of the group breaks a rule, or is one of the other algorithm.
        """
        parameters = param_group.get("params") if isinstance(param_group, dict) else None
        if parameters is None or isinstance(parameters, set):
            super().add_param_group(param_group)  # raises PyTorch's own error
            return
        parts = [self._completed(part) for part in _parted(param_group)]
        count = len(self.param_groups)
        try:
            for part in parts:
                super().add_param_group(part)
        except BaseException:
            # Both of them, or none.
            del self.param_groups[count:]
            raise

    def _completed(self, group: dict[str, Any]) -> dict[str, Any]:
        """A group with checked options of its algorithm, all of them."""
        algorithm = group["algorithm"]
        if problems := list(_problems_of(group)):
            raise InvalidArgumentsError(type(self).__name__, problems)
        names = _OPTIONS[algorithm]
        given = {argument: group[name] for name, argument in names.items() if name in group}
        checked = check_arguments(MuonAdamWWithWarmupCosine, given, partial=True)
        options = {name: checked[argument] for name, argument in names.items() if name in group}
        return {**self._defaults_of(algorithm), **self._group_defaults[algorithm], **group, **options}


def _parted(group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A group for each algorithm that the parameters of one without an algorithm are for."""
    parameters = [group["params"]] if isinstance(group["params"], torch.Tensor) else list(group["params"])
    if "algorithm" in group:
        return [{**group, "params": parameters}]
    parts: dict[Algorithm, list[Any]] = {}
    for item in parameters:
        # With their names, parameters come in pairs.
        parameter = item[-1] if isinstance(item, tuple) and item else item
        parts.setdefault(algorithm_of(parameter), []).append(item)
    if len(parts) < 2:
        return [{**group, "params": parameters, "algorithm": next(iter(parts), "adamw")}]
    return [
        {name: value for name, value in group.items() if name not in _foreign_to(algorithm)}
        | {"params": parts[algorithm], "algorithm": algorithm}
        for algorithm in ALGORITHMS
    ]


def _foreign_to(algorithm: str) -> set[str]:
    """The options that only the other algorithm has."""
    return {name for other in ALGORITHMS if other != algorithm for name in _OPTIONS[other]} - _OPTIONS[algorithm].keys()


def _problems_of(group: Mapping[str, Any]) -> Iterator[Problem]:
    algorithm = group["algorithm"]
    if algorithm not in ALGORITHMS:
        yield Problem("algorithm", f"= {algorithm!r}: must be one of {', '.join(map(repr, ALGORITHMS))}")
        return
    for name in sorted(_foreign_to(algorithm) & group.keys()):
        yield Problem(name, f"is no option of a parameter group for {algorithm!r}")
    for item in group["params"] if algorithm == "muon" else ():
        parameter = item[-1] if isinstance(item, tuple) and item else item
        if isinstance(parameter, torch.Tensor) and not fits_muon(parameter):
            kind = f"{str(parameter.dtype).removeprefix('torch.')} of shape {tuple(parameter.shape)}"
            yield Problem("params", f"{kind}: Muon takes real matrices only", "Give it to a group for 'adamw'")
