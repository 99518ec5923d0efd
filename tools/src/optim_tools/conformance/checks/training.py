"""What training with an optimizer has to do, whatever its formula."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from optim_tools.conformance.check import Deviation, check
from optim_tools.conformance.comparison import difference, moved, weights_difference
from optim_tools.conformance.not_applicable import NotApplicable
from optim_tools.conformance.small_problem import Training, fill
from optim_tools.conformance.subject import Subject

__all__: list[str] = []

_STEPS, _MOST_STEPS = 300, 3000
_FALL = 0.01  # the part of the loss by which it has to fall; a small learning rate takes its time


@check(
    "training-loss-falls",
    why="An optimizer that is built from its example trains a small network.",
    cause="the update has the wrong sign or size",
)
def loss_falls(subject: Subject) -> None:
    training, opposite = Training(subject), Training(subject, ascending=True)
    first, steps = float(training.loss()), 0
    # A step with a closure may make dozens of evaluations.
    limit = subject.within_horizon(_STEPS if subject.claims.needs_closure else _MOST_STEPS)
    # Of a training of a few steps nobody can ask for more than a beginning.
    wanted = first * (1 if limit < _STEPS else 1 - _FALL)
    last = first
    while not last < wanted and steps < limit and math.isfinite(last):
        count = min(_STEPS, limit - steps)
        last = float(training.run(count).loss())
        steps += count
    if not last < wanted:
        raise Deviation(
            f"the loss goes from {first:.4g} to {last:.4g} in {steps} steps",
            f"that it falls by {_FALL:.0%} at least",
            "the update has the wrong sign or is far too small or large; or the example's learning rate is",
        )
    if subject.claims.needs_closure:
        return
    # What falls without heeding the gradient falls by luck.
    reached = float(opposite.run(steps).loss())
    if reached <= first - (first - last) / 2:
        raise Deviation(
            f"with the gradients of the negative loss, too, the loss goes from {first:.4g} to {reached:.4g}",
            f"that it rises, where it falls to {last:.4g} with its own gradients",
            "the update doesn't follow the gradient, but noise or a direction of its own making",
        )


@check(
    "training-every-parameter-moves",
    why="A parameter with a gradient that is never updated costs quality, and nobody notices.",
    cause="the loop over the groups or their parameters ends early, or leaves a kind of parameter out",
)
def every_parameter_moves(subject: Subject) -> None:
    training = Training(subject, groups=subject.group_count)
    before = training.weights()
    training.run(subject.within_horizon(30))
    if still := sorted(set(before) - set(moved(before, training.weights()))):
        raise Deviation(
            f"{', '.join(still)} did not move in {training.batch} steps, with gradients in each",
            "that every parameter with a gradient moves",
        )


@check(
    "training-gradient-none",
    why="A parameter that a batch doesn't use has no gradient; it has no say in what becomes of the others.",
    cause="parameters without a gradient are counted, averaged over or paired with the wrong gradients",
)
def gradient_none(subject: Subject) -> None:
    alone, beside = Training(subject), Training(subject)
    unused = nn.Parameter(torch.ones(2, 2))
    beside.optimizer = subject.build([unused, *beside.model.parameters()])
    if apart := weights_difference(alone.run(8).weights(), beside.run(8).weights(), rtol=1e-4, atol=1e-6):
        raise Deviation(
            f"beside a parameter whose gradient is None, the others are trained otherwise: {apart}",
            "the same training as without it",
        )


@check(
    "training-without-gradient-unmoved",
    why="Weight decay and momentum must not move parameters that have no gradient in this step.",
    cause="weights are decayed, or momentum applied, before it is asked whether there is a gradient",
)
def without_gradient_unmoved(subject: Subject) -> None:
    training = Training(subject).run(8)
    before = training.weights()
    idle = training.model.first.weight
    learnt = copy.deepcopy(dict(training.optimizer.state.get(idle, {})))

    def closure() -> Tensor:
        training.optimizer.zero_grad()
        loss = training.model.second.weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    for _ in range(2):
        subject.step(training.optimizer, closure)
    changed = [name for name in moved(before, training.weights()) if name != "second.weight"]
    if changed:
        raise Deviation(
            f"{', '.join(changed)} moved in steps in which its gradient is None",
            "that a parameter without gradient stays as it is, bit for bit",
        )
    if change := difference(learnt, dict(training.optimizer.state.get(idle, {})), "its state"):
        raise Deviation(
            f"of a parameter whose gradient is None in a step, {change}",
            "that what was learnt of it stays as it is",
            "averages decay, or updates are counted, before it is asked whether there is a gradient",
        )
    if subject.claims.needs_closure:
        return
    training.optimizer.zero_grad()
    before = training.weights()
    training.optimizer.step()
    if changed := moved(before, training.weights()):
        raise Deviation(
            f"{', '.join(changed)} moved in a step in which there is no gradient at all",
            "that nothing moves",
        )


@check(
    "training-closure",
    why="Trainers and second-order methods give step() a closure, whose loss it has to return.",
    cause="step() doesn't take a closure, or calls it without torch.enable_grad()",
    claim="closure",
)
def closure(subject: Subject) -> None:
    training, reference = Training(subject), Training(subject)
    calls: list[bool] = []
    losses: list[float] = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        if not calls[-1]:
            return training.loss()
        loss = training.closure()
        losses.append(float(loss.detach()))
        return loss

    for number in range(4):
        # As in `Training.run`, for optimizers that draw random numbers.
        torch.default_generator.manual_seed(number)
        with torch.no_grad():
            returned: Any = training.optimizer.step(closure)  # type: ignore[arg-type] # PyTorch means the loss itself
        training.batch += 1
        if not all(calls):
            raise Deviation(
                "the closure is called with gradients switched off",
                "that it can compute gradients",
                "step() has @torch.no_grad() around it; call the closure inside `with torch.enable_grad():`",
            )
        if not subject.claims.needs_closure and len(calls) != number + 1:
            raise Deviation(
                f"{len(calls)} calls of the closure in {number + 1} steps",
                "one call in each step",
                "the closure is passed on to the base class after it was called already",
            )
        if returned is None or not math.isclose(float(returned), losses[-1 if len(calls) == number + 1 else 0]):
            _require_returned(subject, returned, losses, number)
    if subject.claims.needs_closure:
        return
    if apart := weights_difference(reference.run(4).weights(), training.weights()):
        raise Deviation(
            f"step(closure) trains otherwise than step() after the same gradients: {apart}",
            "the same update",
            "the update is computed before the closure was called, from old gradients",
        )


def _require_returned(subject: Subject, returned: Any, losses: list[float], number: int) -> None:
    # A method that calls it several times may return any of its losses.
    if returned is not None and subject.claims.needs_closure and float(returned) in losses:
        return
    raise Deviation(
        f"step(closure) returns {returned!r} in step {number}, where the closure returned {losses[-1]:.6g}",
        "the closure's loss",
        "step() lacks `return loss`",
    )


@check(
    "training-zero-grad",
    why="zero_grad() is how every training loop clears the gradients of all groups.",
    cause="zero_grad() is overridden and takes no set_to_none",
)
def zero_grad(subject: Subject) -> None:
    training = Training(subject, groups=subject.group_count).run(2)
    torch.autograd.backward(training.loss())
    training.optimizer.zero_grad(set_to_none=False)
    left = [name for name, p in training.model.named_parameters() if p.grad is None or bool(p.grad.any())]
    if left:
        raise Deviation(
            f"zero_grad(set_to_none=False) leaves something else than zeros in the gradients of {', '.join(left)}",
            "zeros",
            "zero_grad() is overridden, and ignores set_to_none or some of the groups",
        )
    torch.autograd.backward(training.loss())
    training.optimizer.zero_grad()
    left = [name for name, p in training.model.named_parameters() if p.grad is not None]
    if left:
        raise Deviation(
            f"zero_grad() leaves the gradients of {', '.join(left)} in place",
            "None, as torch.optim.Optimizer makes them",
            "zero_grad() is overridden, and doesn't go through all groups",
        )


@check(
    "training-determinism",
    why="The same seed, data and configuration give the same weights; else nothing can be reproduced.",
    cause="the update draws random numbers from another generator than PyTorch's, or depends on time or order",
)
def determinism(subject: Subject) -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(7)
        runs.append(Training(subject).run(25).weights())
    if apart := weights_difference(*runs):
        raise Deviation(
            f"two trainings from the same seed end differently: {apart}",
            "the same weights, bit for bit",
        )


@check(
    "training-gradients-unchanged",
    why="Gradients are logged, clipped and accumulated by others after the step.",
    cause="the update uses the gradient as scratch: weight decay is added to it in place, say",
    claim="unchanged_gradients",
)
def gradients_unchanged(subject: Subject) -> None:
    training = Training(subject).run(2)
    for _ in range(4):
        training.closure()
        before = {name: p.grad.clone() for name, p in training.model.named_parameters() if p.grad is not None}
        if subject.claims.needs_closure:
            raise NotApplicable("it computes gradients of its own within the step")
        training.optimizer.step()
        training.batch += 1
        after = {name: p.grad for name, p in training.model.named_parameters() if p.grad is not None}
        if set(before) != set(after) or (changed := moved(before, after)):
            names = sorted(set(before) - set(after)) or changed
            raise Deviation(
                f"step() changes the gradients of {', '.join(names)}",
                "that they are as they were",
                "the update works on `parameter.grad` in place; use `grad = grad.add(...)` for `grad.add_(...)`",
            )


@check(
    "training-group-rate",
    why="A group with a learning rate of its own, a slowly trained backbone say, is trained at that rate.",
    cause="the update uses the rate of the first group, or of the constructor, for all groups",
    claim="groups",
)
def group_rate(subject: Subject) -> None:
    slow, fast = nn.Parameter(torch.empty(3, 4)), nn.Parameter(torch.empty(3, 4))
    fill(slow)
    fill(fast)
    start = fast.detach().clone()
    rate = subject.default_rate
    groups: list[dict[str, Any]] = [{"params": [fast]}, {"params": [slow], "lr": rate / 10}]
    optimizer = subject.build(groups)

    def closure() -> Tensor:
        for parameter in (fast, slow):
            parameter.grad = torch.full_like(parameter, 0.5)
        return torch.ones(())

    for _ in range(subject.within_horizon(50)):
        subject.step(optimizer, closure)
        if bool(moved({"": start}, {"": fast.detach()})):
            break
    ways = [float((parameter.detach() - start).norm()) for parameter in (fast, slow)]
    # Weight decay, coupled to the rate or not, makes it no exact tenth.
    if not 0.02 * ways[0] <= ways[1] <= 0.5 * ways[0]:
        raise Deviation(
            f"a group with a tenth of the rate moves by {ways[1]:.3g} where another moves by {ways[0]:.3g}",
            "about a tenth",
        )


@check(
    "training-group-weight-decay",
    why="Biases and norms are commonly taken out of the weight decay, by a group of their own.",
    cause="the update uses the weight decay of the first group, or of the constructor, for all groups",
    claim="groups",
)
def group_weight_decay(subject: Subject) -> None:
    if not isinstance(subject.build([nn.Parameter(torch.ones(2, 2))]).param_groups[0].get("weight_decay"), float | int):
        raise NotApplicable("its parameter groups have no weight decay")
    spared, decayed = nn.Parameter(torch.empty(3, 4)), nn.Parameter(torch.empty(3, 4))
    fill(spared)
    fill(decayed)
    groups: list[dict[str, Any]] = [
        {"params": [spared], "weight_decay": 0.0},
        {"params": [decayed], "weight_decay": 0.5},
    ]
    optimizer = subject.build(groups)

    def closure() -> Tensor:
        for parameter in (spared, decayed):
            parameter.grad = torch.linspace(-1, 1, 12).reshape(3, 4)
        return torch.ones(())

    for _ in range(subject.within_horizon(30)):
        subject.step(optimizer, closure)
    if torch.equal(spared, decayed):
        raise Deviation(
            "a group with weight_decay=0.5 is trained as one with weight_decay=0",
            "that each group has its own",
        )


@check(
    "training-in-place",
    why="Captured graphs, DDP's buckets and views hold a parameter's memory, which has to be what is updated.",
    cause="a parameter's memory can't be looked at",
)
def in_place(subject: Subject) -> None:
    training = Training(subject)
    before = {name: parameter.data_ptr() for name, parameter in training.model.named_parameters()}
    training.run(4)
    after = {name: parameter.data_ptr() for name, parameter in training.model.named_parameters()}
    if replaced := [name for name, place in before.items() if after[name] != place]:
        raise Deviation(
            f"the memory of {', '.join(replaced)} is another after 4 steps",
            "that a step writes into the memory that is there",
            "the step assigns to `parameter.data`; use parameter.copy_() or an update in place",
        )


@check(
    "training-late-group",
    why="Layers that are unfrozen or added during training join by add_param_group().",
    cause="what the optimizer keeps per group is made in the constructor only",
    claim="groups",
)
def late_group(subject: Subject) -> None:
    training = Training(subject).run(4)
    late = nn.Parameter(torch.empty(3, 4))
    fill(late)
    start = late.detach().clone()
    training.optimizer.add_param_group({"params": [late]})

    def closure() -> Tensor:
        loss = training.closure()
        late.grad = torch.full_like(late, 0.5)
        return loss

    # Some optimizers look at a few gradients first.
    for _ in range(subject.within_horizon(30) - 4):
        torch.default_generator.manual_seed(training.batch)
        subject.step(training.optimizer, closure)
        training.batch += 1
    if not bool(moved({"": start}, {"": late.detach()})):
        raise Deviation(
            f"a parameter that was added by add_param_group() doesn't move in {training.batch - 4} steps",
            "that it is trained from then on",
            "the step goes through groups, or parameters, that were noted in the constructor",
        )
    _require_alike_from_the_start(subject)
    reference = Training(subject).run(training.batch)
    if apart := weights_difference(reference.weights(), training.weights(), rtol=1e-4, atol=1e-6):
        raise Deviation(
            f"after add_param_group() the other groups are trained otherwise: {apart}",
            "that they go on as if nothing had happened",
            "adding a group resets counts or rates of the others",
        )


def _require_alike_from_the_start(subject: Subject) -> None:
    """That the first move of a parameter, as a part of its rate, doesn't depend on when it was added."""
    first, late = _first_move(subject, after=0), _first_move(subject, after=6)
    if not 0.8 * first <= late <= 1.25 * first:
        raise Deviation(
            f"a parameter that was added after 6 updates first moves by {late:.3g} times its rate, and one that was "
            f"there from the beginning by {first:.3g} times",
            "about the same",
            "a count of updates that is global, or the first group's, where the parameter's own belongs: in the "
            "correction of its running averages, say",
        )


def _first_move(subject: Subject, after: int) -> float:
    """By how much a parameter that is added after so many updates first moves, as a part of its rate."""
    early, added = nn.Parameter(torch.empty(2, 2)), nn.Parameter(torch.empty(3, 4))
    fill(early)
    fill(added)
    start = added.detach().clone()
    optimizer = subject.build([early] if after else [early, added])

    def closure() -> Tensor:
        for parameter in (early, added):
            parameter.grad = torch.full_like(parameter, 0.5)
        return torch.ones(())

    for number in range(subject.within_horizon(40)):
        if number and number == after:
            optimizer.add_param_group({"params": [added]})
        rate = optimizer.param_groups[-1].get("lr")
        torch.default_generator.manual_seed(number)
        subject.step(optimizer, closure)
        way = float((added.detach() - start).norm())
        if way and rate != 0:
            return way if rate is None else way / float(rate)
    return 0.0
