"""What constructing a factory, and building an optimizer over any kind of parameter, has to do."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from optim_core import InvalidArgumentsError
from optim_core.for_tools import effective_params, in_one_line
from optim_tools.conformance.check import Deviation, check
from optim_tools.conformance.comparison import difference, moved, snapshot, weights_difference
from optim_tools.conformance.small_problem import Training, fill
from optim_tools.conformance.subject import Subject

__all__: list[str] = []

_WAYS_OF_GIVING = "as a list, as a generator, with names and in groups"
_FEWEST_STEPS, _MOST_STEPS = 12, 60
_STEPS_TO_COUNT = 40
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_GROWING = ("param_groups", "state", "defaults")  # of an optimizer's attributes, looked at otherwise


@check(
    "construction-builds",
    why="Whoever names the optimizer in a configuration gets a torch.optim.Optimizer over a model's parameters.",
    cause="`build` passes on an argument that its optimizer doesn't take, or needs parameters of a certain kind",
)
def builds(subject: Subject) -> None:
    optimizer = subject.factory().build([nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(3, 2))])
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise Deviation(
            f"build() returns a {type(optimizer).__name__}",
            "a torch.optim.Optimizer",
            "`build` lacks a return, or its class doesn't inherit from torch.optim.Optimizer",
        )
    if subject.denies_its_schedule:
        raise Deviation(
            "its learning rate follows a schedule, and Claims(schedule=False) says that there is none",
            "claims that are true",
            "the factory's CLAIMS are those of another optimizer",
        )
    if subject.horizon is not None and subject.horizon < _FEWEST_STEPS:
        raise Deviation(
            f"its schedule is over after {subject.horizon} updates",
            f"a schedule of {_FEWEST_STEPS} updates at least, without which there is little to look at",
            "the example_params, or the params given, are too short; or another argument is taken for the horizon, "
            "which Claims(horizon=...) says outright",
        )
    if problem := subject.problem_with_vectors:
        raise Deviation(
            f"over a matrix it can be built and stepped; with a vector beside it, {problem}",
            "that it takes biases, too",
            "it takes matrices only: its factory has to say so, by "
            "CLAIMS = Claims(vectors=False, scalars=False, empty=False)",
        )


@check(
    "construction-missing-argument",
    why="An argument that is missing in a configuration is named before training begins, not by a failure within it.",
    cause="an argument that is needed has a default, None say, and is looked at only by `build`",
)
def missing_argument(subject: Subject) -> None:
    for name in subject.params:
        rest = {other: value for other, value in subject.params.items() if other != name}
        try:
            factory = Subject(subject.target, rest, subject.claims).factory()
        except InvalidArgumentsError as error:
            if any(re.search(rf"(?<![a-z0-9_]){re.escape(name)}(?![a-z0-9_])", str(p)) for p in error.problems):
                continue
            raise Deviation(
                f"without {name!r} the constructor says: {in_one_line(error)}",
                f"a refusal that names {name!r}",
                "the constructor takes **options and looks its arguments up by hand; name them in its signature",
            ) from error
        try:
            factory.build([nn.Parameter(torch.ones(2, 2))])
        except Exception as error:
            # Whatever a stranger's build raises, it comes too late.
            raise Deviation(
                f"without {name!r} the factory is constructed, and build() raises {in_one_line(error)}",
                f"that the constructor refuses, and names {name!r}",
                f"{name!r} has a default that isn't one; leave the default out",
            ) from error


@check(
    "construction-unknown-argument",
    why="A misspelt argument in a configuration must not silently leave its default in place.",
    cause="the constructor takes **options and drops what it doesn't know",
)
def unknown_argument(subject: Subject) -> None:
    for name in ("no_such_argument", *(f"{name}x" for name in subject.params)):
        if subject.accepts(name):
            continue
        value = subject.params.get(name[:-1], 0.1)
        try:
            subject.factory(**{name: value})
        except InvalidArgumentsError:
            continue
        raise Deviation(
            f"the constructor takes {name}={value!r} without a word",
            "that an unknown name is refused",
            "the constructor takes **options and drops what it doesn't know; or a pydantic model allows extra fields",
        )


@check(
    "construction-wrong-type",
    why="A text where a number belongs is refused with the argument's name, before training begins.",
    cause="the argument has no annotation, so that nothing is known of its type",
)
def wrong_type(subject: Subject) -> None:
    for name, value in subject.params.items():
        if isinstance(value, str) or value is None:
            continue
        try:
            subject.factory(**{name: "no value of its type"})
        except InvalidArgumentsError:
            continue
        raise Deviation(
            f"the constructor takes {name}='no value of its type'",
            "that it is refused",
            f"{name!r} has no annotation, or one that admits everything; annotate it, as in `{name}: float`",
        )


@check(
    "construction-every-argument-counts",
    why="An argument that a configuration sets and nothing heeds is a training that isn't what it says.",
    cause="the factory can't be built with another value of an argument",
)
def every_argument_counts(subject: Subject) -> None:
    given = effective_params(subject.target, subject.params)
    # A truth value may be about what is said or logged.
    numbers = {name: value for name, value in given.items() if type(value) in (int, float)}
    ignored = [name for name, value in numbers.items() if not _counts(subject, name, value)]
    if ignored:
        raise Deviation(
            f"another value of {', '.join(ignored)} changes neither the optimizer nor its training",
            "that every argument has an effect",
            "`build` doesn't pass it on, or the optimizer doesn't use it",
        )


@check(
    "construction-arguments-unchanged",
    why="Configurations, parameter lists and group dictionaries belong to the caller, who may use them again.",
    cause="the optimizer writes into the dictionaries it was given; copy them first",
)
def arguments_unchanged(subject: Subject) -> None:
    params = copy.deepcopy(subject.params)
    before = copy.deepcopy(params)
    factory = Subject(subject.target, params, subject.claims).factory()
    weights = _matrices(4)
    values = [weight.detach().clone() for weight in weights]
    groups: list[Any] = [{"params": weights[:2]}, {"params": weights[2:3]}] if subject.claims.groups else weights[:3]
    torch.rand(1)  # so that seeding it anew makes a difference
    generator = torch.get_rng_state()
    optimizer = subject.ready(factory.build(groups))
    _require_unchanged("the state of PyTorch's random generator is", generator, torch.get_rng_state())
    _require_unchanged("the parameters' values are", values, [weight.detach() for weight in weights])
    if not all(weight.requires_grad and weight.grad is None for weight in weights):
        raise Deviation(
            "build() changes requires_grad or grad of the parameters",
            "that they are as they were",
            "`build` freezes parameters, or makes gradients; that is the training script's affair",
        )
    subject.step(optimizer, _constant_gradients(weights[:3]))
    if subject.claims.groups:
        late: dict[str, Any] = {"params": [weights[3]]}
        optimizer.add_param_group(late)
        for group in [*groups, late]:
            _require_reusable(group, optimizer.defaults)
    _require_unchanged("the params given to the factory are", before, params)


@check(
    "construction-independent-builds",
    why="One factory may build for several components, and their optimizers must not share what they learn.",
    cause="state is kept on the class, on the factory, or in a mutable default value",
)
def independent_builds(subject: Subject) -> None:
    factory = subject.factory()
    first, second = Training(subject), Training(subject)
    first.optimizer = subject.ready(factory.build(list(first.model.parameters())))
    second.optimizer = subject.ready(factory.build(list(second.model.parameters())))
    before = snapshot(second.optimizer)
    first.run(5)
    if change := difference(before, snapshot(second.optimizer)):
        raise Deviation(
            f"steps of one optimizer change another: {change}",
            "that two optimizers of one factory share nothing",
        )
    second.run(5)
    if apart := weights_difference(first.weights(), second.weights()):
        raise Deviation(
            f"the second optimizer of a factory trains otherwise than the first: {apart}",
            "the same trajectory from the same beginning",
        )


@check(
    "construction-ways-of-giving-parameters",
    why=f"Parameters come {_WAYS_OF_GIVING}, as torch.optim.Optimizer takes them.",
    cause="`build` goes through the parameters more than once, or takes for granted that they are tensors",
)
def ways_of_giving(subject: Subject) -> None:
    expected = Training(subject, uneven=True).run(6).weights()
    ways: dict[str, Callable[[nn.Module], Any]] = {
        "as a generator": lambda model: model.parameters(),
        "with names": lambda model: model.named_parameters(),
    }
    if subject.claims.groups:
        ways["in one group"] = lambda model: [{"params": list(model.parameters())}]
        ways["in two groups"] = lambda model: _halves(list(model.parameters()))
        ways["in a group each"] = lambda model: [{"params": [parameter]} for parameter in model.parameters()]
    for way, given in ways.items():
        training = Training(subject, uneven=True)
        training.optimizer = subject.build(given(training.model))
        if apart := weights_difference(expected, training.run(6).weights(), rtol=1e-4, atol=1e-6):
            raise Deviation(
                f"parameters given {way} are trained otherwise than in a list: {apart}",
                "the same training",
                "`build` goes through the parameters more than once, or into their groups",
            )


@check(
    "construction-frozen-parameters",
    why="Components have frozen parameters; they stay as they are, and can be unfrozen later.",
    cause="the optimizer takes for granted that every parameter has a gradient, or decays the weights of all",
)
def frozen_parameters(subject: Subject) -> None:
    training = Training(subject)
    frozen = training.model.first.weight
    frozen.requires_grad_(False)
    if subject.claims.groups:
        # A group may be frozen as a whole.
        parts: list[dict[str, Any]] = [{"params": [frozen]}, {"params": list(training.model.second.parameters())}]
        subject.build(parts)
    training.optimizer = subject.build(list(training.model.parameters()))
    before = training.weights()
    changed = _run_until_moved(training, before)
    if "first.weight" in changed:
        raise Deviation(
            "a parameter with requires_grad=False moves",
            "that it stays as it is, bit for bit",
            "weights are decayed, or averaged, whether or not they have a gradient",
        )
    frozen.requires_grad_(True)
    if "first.weight" not in _run_until_moved(training, before, "first.weight"):
        raise Deviation(
            "a parameter that was frozen doesn't move after requires_grad_(True)",
            "that it is trained from then on",
            "`build` leaves frozen parameters out; pass on all of them",
        )


@check(
    "construction-scalar-parameters",
    why="Temperatures and learnt scales are parameters of no dimension.",
    cause="the update indexes, transposes or takes a norm over a dimension",
    claim="scalars",
)
def scalar_parameters(subject: Subject) -> None:
    _require_progress(subject, [nn.Parameter(torch.tensor(1.5))], "a parameter of no dimension")


@check(
    "construction-empty-parameters",
    why="A layer of size zero, which configurable models and sharding produce, must not stop the training.",
    cause="the update divides by the number of elements, or takes a maximum over none",
    claim="empty",
)
def empty_parameters(subject: Subject) -> None:
    empty = [nn.Parameter(torch.empty(0)), nn.Parameter(torch.empty(3, 0))]
    _require_progress(subject, [*empty, *_matrices(1)], "a matrix beside parameters without elements")


@check(
    "construction-non-contiguous-parameters",
    why="Transposed and channels-last weights don't lie in memory in one piece.",
    cause="the update uses view(), or works on a contiguous copy that is not the parameter",
)
def non_contiguous_parameters(subject: Subject) -> None:
    plain, transposed = Training(subject), Training(subject)
    model = transposed.model
    # Transposed in memory, with the same values.
    model.first.weight = nn.Parameter(model.first.weight.detach().t().contiguous().t())
    transposed.optimizer = subject.build(list(model.parameters()))
    before = plain.weights()
    plain.run(10)
    transposed.run(10)
    step = plain.weights()["first.weight"] - before["first.weight"]
    other = transposed.weights()["first.weight"] - before["first.weight"]
    # Sums in another order round otherwise, in half precision by some percent.
    if not float((step - other).norm()) <= 0.1 * float(step.norm()):
        raise Deviation(
            f"a transposed weight moves by {float(other.norm()):.3g} in 10 steps, off by "
            f"{float((step - other).norm()):.3g} from where the same weight goes in one piece",
            "the same training",
        )


@check(
    "construction-bfloat16-parameters",
    why="Large models are trained in half precision.",
    cause="tensors of float32 are mixed with the parameter's, or a small constant vanishes in its precision",
    claim="bfloat16",
)
def bfloat16_parameters(subject: Subject) -> None:
    training = Training(subject, dtype=torch.bfloat16)
    first = float(training.loss())
    changed = _run_until_moved(training, training.weights())
    if not changed:
        raise Deviation(
            f"no parameter of bfloat16 moves in {training.batch} steps",
            "that they are trained",
            "the step works on copies in float32, and doesn't write them back",
        )
    _require_dtype(training.model.parameters(), torch.bfloat16)
    training.run(10)
    if not float(training.loss()) <= first * 1.05:
        raise Deviation(
            f"the loss goes from {first:.4g} to {float(training.loss()):.4g} with parameters of bfloat16",
            "that it falls, or stays finite at least",
            "a small constant (eps) vanishes in half precision; keep the state in float32, or add it after the root",
        )


@check(
    "construction-complex-parameters",
    why="Complex parameters, of Fourier layers say, are trained in their real and imaginary parts.",
    cause="the square of a complex gradient is used where its absolute value belongs: see torch.view_as_real",
    claim="complex",
)
def complex_parameters(subject: Subject) -> None:
    # In every direction of the plane, as arithmetic that is wrong for some may be right for others.
    for eighth in range(8):
        weight = nn.Parameter(torch.zeros(3, 4, dtype=torch.complex64))
        fill(weight)
        angle = torch.tensor(eighth * math.pi / 4)
        target = weight.detach() + torch.polar(torch.tensor(1.0), angle)

        def distance(weight: nn.Parameter = weight, target: Tensor = target) -> Tensor:
            return torch.view_as_real(weight - target).square().mean()

        _require_falling_loss(subject, [weight], distance, f"towards {45 * eighth} degrees in the complex plane")
        _require_dtype([weight], torch.complex64)
        # Weight decay pulls a little in other directions.
        way = (weight.detach() - target + torch.polar(torch.tensor(1.0), angle)).mean() * torch.polar(
            torch.tensor(1.0), -angle
        )
        if abs(float(way.imag)) > 0.5 * abs(float(way.real)):
            raise Deviation(
                f"with the optimum at {45 * eighth} degrees, a complex parameter goes off by "
                f"{math.degrees(math.atan2(float(way.imag), float(way.real))):.0f} degrees",
                "that it goes there",
                "the update is that of the real or of the imaginary part alone; see torch.view_as_real",
            )


@check(
    "construction-sparse-gradients",
    why="Large embeddings have sparse gradients, of the rows that were used.",
    cause="the update does arithmetic on a sparse gradient that only dense tensors have",
    claim="sparse",
)
def sparse_gradients(subject: Subject) -> None:
    table = nn.Embedding(6, 3, sparse=True)
    fill(table.weight)
    rows = torch.tensor([0, 2, 4])

    def loss() -> Tensor:
        result: Tensor = (table(rows) - 1).square().mean()
        return result

    _require_falling_loss(subject, list(table.parameters()), loss, "of an embedding with sparse gradients")


def _counts(subject: Subject, name: str, value: int | float) -> bool:
    """Whether any other value of an argument makes another optimizer, or another training."""
    others = [value * 2, value + 1, value / 2, value - 1, 0.05, 1e-4]
    plain = Training(subject)
    before = _traits(plain.optimizer)
    tried = []
    for other in (other for other in others if other != value):
        try:
            training = Training(subject)
            training.optimizer = subject.build(list(training.model.parameters()), **{name: other})
        except Exception:
            # Not every value is allowed, nor possible here: a fused kernel on some devices, say.
            continue
        if difference(before, _traits(training.optimizer)):
            return True
        tried.append(training)
    steps = subject.within_horizon(_STEPS_TO_COUNT)
    expected = plain.run(steps).weights() if tried else {}
    # Where no other value can be tried, nothing is known against it.
    return not tried or any(weights_difference(expected, training.run(steps).weights()) for training in tried)


def _traits(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What is set in an optimizer, its attributes as text."""
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    attributes = {
        name: _ADDRESS.sub("", repr(value)) for name, value in vars(optimizer).items() if name not in _GROWING
    }
    saved = {name: value for name, value in optimizer.state_dict().items() if name not in _GROWING}
    return {"groups": groups, "defaults": dict(optimizer.defaults), "attributes": attributes, "saved": saved}


def _halves(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    middle = len(parameters) // 2
    return [{"params": parameters[:middle]}, {"params": parameters[middle:]}]


def _matrices(count: int) -> list[nn.Parameter]:
    weights = [nn.Parameter(torch.empty(3, 2 + index)) for index in range(count)]
    for weight in weights:
        fill(weight)
    return weights


def _constant_gradients(weights: Iterable[nn.Parameter]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        for weight in weights:
            weight.grad = torch.full_like(weight, 0.5)
        return torch.ones(())

    return closure


def _require_reusable(group: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """That a dictionary, given as a group, can be given to another optimizer without leaking into it."""
    # PyTorch itself fills in the defaults; whoever wants to know better copies the dictionary first.
    leaked = {name: value for name, value in group.items() if name != "params" and name not in defaults}
    changed = {name: group[name] for name in group if name in defaults and difference(defaults[name], group[name])}
    if leaked or changed:
        raise Deviation(
            f"a dictionary that was given as a parameter group has {leaked | changed} in it afterwards",
            "that nothing of this training gets into it",
            "a group is the caller's dictionary; override add_param_group() to pass on a copy: "
            "`super().add_param_group(dict(param_group))`",
        )


def _require_unchanged(what: str, before: Any, after: Any) -> None:
    if change := difference(before, after):
        raise Deviation(
            f"{what} changed: {change}",
            "that they are as they were",
            "the optimizer writes into what it was given; copy it first",
        )


def _run_until_moved(training: Training, before: Mapping[str, Tensor], name: str | None = None) -> list[str]:
    """Train until a parameter (that of the name) has moved, some steps more, and return which have."""
    for _ in _rounds(training):
        training.run(3)
        changed = moved(before, training.weights())
        if changed if name is None else name in changed:
            break
    training.run(3)
    return moved(before, training.weights())


def _rounds(training: Training) -> Iterator[int]:
    # Within the schedule, whose rate may be zero behind its end.
    limit = training.subject.within_horizon(_MOST_STEPS)
    yield from range(max(1, limit // 3))


def _require_dtype(parameters: Iterable[Tensor], dtype: torch.dtype) -> None:
    found = {parameter.dtype for parameter in parameters}
    if found != {dtype}:
        raise Deviation(
            f"parameters of {dtype} have become {', '.join(map(str, found))}",
            "that they keep their type",
            "the step assigns to `parameter.data`; write into the parameter instead",
        )


def _require_progress(subject: Subject, parameters: list[nn.Parameter], what: str) -> None:
    def loss() -> Tensor:
        return torch.stack([(p - 0.5).square().sum() for p in parameters]).sum()

    _require_falling_loss(subject, parameters, loss, f"of {what}")


def _require_falling_loss(
    subject: Subject, parameters: list[nn.Parameter], loss_of: Callable[[], Tensor], what: str
) -> None:
    optimizer = subject.build(parameters)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        torch.autograd.backward(loss)
        return loss

    first = float(loss_of())
    for _ in range(subject.within_horizon(_MOST_STEPS)):
        subject.step(optimizer, closure)
        if float(loss_of()) < first * 0.999:
            return
    raise Deviation(
        f"the loss {what} goes from {first:.4g} to {float(loss_of()):.4g}",
        "that it falls",
        "such parameters are left out of the update, or the update is wrong for them",
    )
