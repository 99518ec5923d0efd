"""What `train()` and `eval()` have to do, where an optimizer has evaluation weights beside its training weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from optim_core import evaluation_weights
from optim_core.for_tools import in_one_line
from optim_tools.conformance.check import Deviation, check
from optim_tools.conformance.comparison import difference, empty_entries, moved, snapshot, weights_difference
from optim_tools.conformance.continuation import Moment, course, parting
from optim_tools.conformance.not_applicable import NotApplicable
from optim_tools.conformance.small_problem import Training
from optim_tools.conformance.subject import Subject

__all__: list[str] = []

_UPDATES = 20
# Switching back and forth is arithmetic on the weights, which rounds; updates then enlarge what it has rounded.
_RTOL, _ATOL = 1e-5, 1e-6
_RTOL_LATER, _ATOL_LATER = 1e-3, 1e-4


@check(
    "modes-start",
    why="A training loop that has never heard of modes calls step() and nothing else.",
    cause="the constructor can't be followed by step()",
)
def start(subject: Subject) -> None:
    _require_modes(subject)
    if not subject.starts_in_evaluation:
        return
    training = Training(subject)
    training.optimizer = subject.factory().build(training.model.parameters())
    try:
        training.run(1)
    except Exception as error:
        raise Deviation(
            f"step() of a new optimizer raises {in_one_line(error)}",
            "a new optimizer is in training mode",
            "the mode begins as that of evaluation, as it does in the schedulefree package: call train() in the "
            "constructor",
        ) from error


@check(
    "modes-idempotent",
    why="Several parties, a loop and a trainer's callback say, switch modes without knowing of each other.",
    cause="train() or eval() relies on there having been a step, or on being called in turn",
)
def idempotent(subject: Subject) -> None:
    _require_modes(subject)
    for order in (("train", "train"), ("eval", "eval", "train"), ("eval", "train", "eval")):
        training = _training(subject)
        before = training.weights()
        for call in order:
            getattr(training.optimizer, call)()
            when = f"{call}() before the first step"
            _require_unmoved(before, training.weights(), when)
            if empty := empty_entries(training.optimizer):
                raise Deviation(
                    f"{when} leaves {empty} empty entries in `state`",
                    "none, as torch.distributed.checkpoint takes them for a state that has been created",
                    "`self.state[parameter]` makes an entry where there is none: ask `if parameter in self.state`",
                )
    training = _training(subject).run(subject.within_horizon(_UPDATES))
    optimizer: Any = training.optimizer
    for call in ("train", "eval", "train"):
        getattr(optimizer, call)()
        before_again = snapshot(optimizer)
        getattr(optimizer, call)()
        if found := difference(before_again, snapshot(optimizer)):
            raise Deviation(
                f"a second {call}() changes {found}",
                "it changes nothing",
                f"{call}() swaps the weights without asking which ones are in place",
            )


@check(
    "modes-exact",
    why="An evaluation must leave no trace in the training, and has to look at the evaluation weights.",
    cause="train() and eval() aren't each other's inverse",
)
def exact(subject: Subject) -> None:
    _require_modes(subject)
    made = subject.within_horizon(_UPDATES)
    expected = course(_training(subject).run(made), subject.within_horizon(8, made))
    training = _training(subject).run(made)
    optimizer: Any = training.optimizer
    trained = training.weights()
    optimizer.eval()
    evaluated = training.weights()
    _require_moved(trained, evaluated, f"eval() after {made} updates")
    optimizer.train()
    _require_close(trained, evaluated, training.weights(), "eval() and then train()")
    for _ in range(3):
        optimizer.eval()
        optimizer.train()
    _require_alike(training, expected, "after eval() and train()")

    training = _training(subject).run(made)
    before = training.weights()
    with evaluation_weights(training.optimizer):
        _require_moved(before, training.weights(), "`with evaluation_weights(optimizer):`")
    _require_unmoved(before, training.weights(), "`with evaluation_weights(optimizer):`")
    _require_alike(training, expected, "after `with evaluation_weights(optimizer):`")


@check(
    "modes-step-refused",
    why="An update of the evaluation weights, after a forgotten train(), would ruin a training unnoticed.",
    cause="train() fails after a step() that was refused",
)
def step_refused(subject: Subject) -> None:
    _require_modes(subject)
    made = subject.within_horizon(_UPDATES)
    expected = course(_evaluated(subject, made), subject.within_horizon(6, made))
    training = _training(subject).run(made)
    optimizer: Any = training.optimizer
    optimizer.eval()
    before = snapshot(optimizer)
    try:
        subject.step(optimizer, training.closure)
    except Exception as error:
        if found := difference(before, snapshot(optimizer)):
            raise Deviation(
                f"step() in evaluation mode is refused ({type(error).__name__}), but {found}",
                "nothing has changed",
                "the mode is asked for after the update has begun, group by group for instance",
            ) from error
    else:
        raise Deviation(
            "step() in evaluation mode raises nothing",
            "an exception that says to call train() first",
            "step() doesn't ask for the mode: raise optim_core.EvaluationModeError",
        )
    optimizer.train()
    _require_alike(training, expected, "after step() was refused in evaluation mode, and train(),")


@check(
    "modes-state",
    why="A model is often saved in evaluation mode, together with its optimizer; resumed, it has to train on.",
    cause="load_state_dict() can't restore a mode",
)
def state(subject: Subject) -> None:
    _require_modes(subject)
    made = subject.within_horizon(_UPDATES)
    steps = subject.within_horizon(8, made)
    saved: Any = _training(subject).run(made)
    in_training = saved.with_weights(), copy.deepcopy(saved.optimizer.state_dict())
    saved.optimizer.eval()
    in_evaluation = saved.with_weights(), copy.deepcopy(saved.optimizer.state_dict())
    after_both = course(_training(subject).run(made), steps), course(_evaluated(subject, made), steps)
    modes = ("training", "evaluation")
    for (resumed, given), expected, mode in zip((in_training, in_evaluation), after_both, modes, strict=True):
        optimizer: Any = resumed.optimizer
        if mode == "training":
            # Before the first step there is one set of weights: whatever is loaded now is all there is.
            optimizer.eval()
        optimizer.load_state_dict(given)
        if mode == "evaluation":
            optimizer.train()
        if found := parting(resumed, expected, rtol=_RTOL_LATER, atol=_ATOL_LATER):
            raise Deviation(
                f"saved in {mode} mode with the weights of that mode, loaded into an optimizer in the other mode "
                f"and switched to training, {found}",
                "the training goes on as if it hadn't been saved, within rounding",
                "the mode is in an attribute: keep it in `param_groups`, where it is saved and restored",
            )


@check(
    "modes-late-group",
    why="A group that is added during training has to be switched together with all others.",
    cause="what a mode needs is made in the constructor only",
    claim="groups",
)
def late_group(subject: Subject) -> None:
    _require_modes(subject)
    for mode in ("training", "evaluation"):
        training = Training(subject, layers=("first",)).run(subject.within_horizon(10))
        optimizer: Any = training.optimizer
        if mode == "evaluation":
            optimizer.eval()
        late = training.model.second
        before = _copies(late)
        optimizer.add_param_group({"params": list(late.parameters())})
        flags = [group.get("train_mode") for group in optimizer.param_groups]
        if flags[-1] != flags[0]:
            raise Deviation(
                f"a group added in {mode} mode has train_mode={flags[-1]}, the other {flags[0]}",
                "the same mode in all groups",
                "add_param_group() takes the mode from the defaults: give it that of param_groups[0]",
            )
        if mode == "evaluation":
            optimizer.train()
        what = f"a group added in {mode} mode: "
        _require_unmoved(before, _copies(late), f"{what}add_param_group()")
        training.run(subject.within_horizon(_UPDATES, training.batch))
        trained = _copies(late)
        optimizer.eval()
        _require_moved(trained, _copies(late), f"{what}eval() after more updates")


def _require_modes(subject: Subject) -> None:
    if not subject.has_modes:
        raise NotApplicable("the optimizer has no train() and eval()")


def _training(subject: Subject) -> Training:
    return Training(subject, groups=subject.group_count)


def _evaluated(subject: Subject, made: int) -> Training:
    """A training that was evaluated after so many updates: that this is exact is for one check to say."""
    training = _training(subject).run(made)
    optimizer: Any = training.optimizer
    optimizer.eval()
    optimizer.train()
    return training


def _copies(layer: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}


def _require_unmoved(before: Mapping[str, Tensor], after: Mapping[str, Tensor], what: str) -> None:
    if changed := moved(before, after):
        raise Deviation(
            f"{what} changes {', '.join(changed)}",
            "it leaves the weights as they are, bit for bit",
            "the weights are switched though there is nothing to switch to: no step has been made, or not of them",
        )


def _require_moved(trained: Mapping[str, Tensor], evaluated: Mapping[str, Tensor], what: str) -> None:
    if still := sorted(set(trained) - set(moved(trained, evaluated))):
        raise Deviation(
            f"{what} leaves {', '.join(still)} at the training weights",
            "every parameter that is trained has evaluation weights of its own",
            "eval() does nothing, or not to all groups: a group lacks the mode that the others are in",
        )


def _require_close(
    trained: Mapping[str, Tensor], evaluated: Mapping[str, Tensor], again: Mapping[str, Tensor], what: str
) -> None:
    gap = max(float((evaluated[name] - value).abs().max()) for name, value in trained.items())
    if found := weights_difference(trained, again, rtol=_RTOL, atol=_ATOL + gap / 1000):
        raise Deviation(
            f"{what} doesn't give back the training weights: {found}",
            f"the same weights within rounding, where the evaluation weights differ by {gap:.3g}",
            "train() isn't the inverse of eval(): the coefficients don't match, or the average was changed meanwhile",
        )


def _require_alike(training: Training, expected: list[Moment], what: str) -> None:
    if found := parting(training, expected, rtol=_RTOL_LATER, atol=_ATOL_LATER):
        raise Deviation(
            f"{what} {found}",
            "the training goes on as without it, within rounding",
            "train() or eval() changes what the next step() uses: the average, a count or a rate",
        )
