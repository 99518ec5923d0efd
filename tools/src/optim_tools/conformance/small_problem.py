"""The small real problem on which optimizers are tried: three spiral arms, told apart by a network."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from optim_tools.conformance.subject import Subject

__all__ = ["Classifier", "Training", "fill"]

_ARMS, _POINTS, _BATCHES = 3, 40, 4
_HIDDEN, _LATE = 4, 3


class Classifier(nn.Module):
    """Two layers, or with hidden ones between them; with biases where the optimizer is claimed to take vectors."""

    def __init__(self, *, bias: bool = True, dtype: torch.dtype = torch.float32, hidden: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8, bias=bias, dtype=dtype)
        self.hidden = nn.ModuleList(nn.Linear(8, 8, bias=bias, dtype=dtype) for _ in range(hidden))
        self.second = nn.Linear(8, _ARMS, bias=bias, dtype=dtype)
        for number, parameter in enumerate(self.parameters()):
            fill(parameter, number if hidden else 0)

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores of the three arms, in columns."""
        values = self.first(inputs).tanh()
        for layer in self.hidden:
            values = values + layer(values).tanh()
        scores: Tensor = self.second(values)
        return scores


class Training:
    """A model, its optimizer and the batches it is trained on; the same each time.

    Args:
        subject: whose optimizer it is.
        dtype: of the model's parameters.
        groups: in how many parameter groups they are given.
        layers: those of the model whose parameters are given.
        device: of the model's parameters.
        rate: of every group; the factory's own if None.
        uneven: whether it is a network of several layers alike, of which one gets no gradient before the
            fourth update and one never; and where there are groups, the second has half the rate.
        ascending: whether the gradients are those of the negative loss.
        **changes: to the subject's params.

    Attributes:
        model: what is trained.
        optimizer: built by the subject's factory.
        batch: the number of the next batch.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        dtype: torch.dtype = torch.float32,
        groups: int = 1,
        layers: Sequence[str] = ("first", "hidden", "second"),
        device: torch.device | str = "cpu",
        rate: float | Tensor | None = None,
        uneven: bool = False,
        ascending: bool = False,
        **changes: Any,
    ) -> None:
        self.subject = subject
        self._kind: dict[str, Any] = {
            "dtype": dtype,
            "groups": groups,
            "layers": layers,
            "device": device,
            "rate": rate,
            "uneven": uneven,
            "ascending": ascending,
            **changes,
        }
        self.model = Classifier(bias=subject.claims.vectors, dtype=dtype, hidden=_HIDDEN if uneven else 0).to(device)
        parameters = [p for layer in layers for p in self.model.get_submodule(layer).parameters()]
        params: Any = parameters
        if groups > 1 or rate is not None:
            own = {} if rate is None else {"lr": rate}
            params = [{"params": parameters[index::groups], **own} for index in range(groups)]
        if uneven and groups > 1 and subject.has_rate:
            params[-1]["lr"] = subject.default_rate / 2
        self.optimizer = subject.build(params, **changes)
        self.batch = 0

    def data(self, batch: int | None = None) -> tuple[Tensor, Tensor]:
        """Inputs and arms of one batch, or all of the data."""
        parameter = next(self.model.parameters())
        inputs, arms = _spirals(parameter.dtype)
        if batch is not None:
            inputs, arms = inputs[batch % _BATCHES :: _BATCHES], arms[batch % _BATCHES :: _BATCHES]
        return inputs.to(parameter.device), arms.to(parameter.device)

    def loss(self, batch: int | None = None) -> Tensor:
        """The loss on one batch, or on all of the data."""
        inputs, arms = self.data(batch)
        return nn.functional.cross_entropy(self.model(inputs), arms)

    def closure(self) -> Tensor:
        """Compute the gradients on the current batch, and return its loss."""
        self.optimizer.zero_grad()
        loss = self.loss(self.batch)
        torch.autograd.backward(-loss if self._kind["ascending"] else loss)
        if self._kind["uneven"]:
            self.model.get_parameter("hidden.2.weight").grad = None
            if self.batch < _LATE:
                self.model.first.weight.grad = None
        return loss

    def run(self, steps: int) -> Training:
        """Make so many updates, each on the next batch."""
        for _ in range(steps):
            # An optimizer may draw random numbers: in the same update, the same ones.
            torch.default_generator.manual_seed(self.batch)
            self.subject.step(self.optimizer, self.closure)
            self.batch += 1
        return self

    def weights(self) -> dict[str, Tensor]:
        """Copies of the model's parameters by name."""
        return {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}

    def rates(self) -> list[float]:
        """The learning rate of each parameter group, where it has one."""
        return [float(group["lr"]) for group in self.optimizer.param_groups if group.get("lr") is not None]

    def fresh(self, *, device: torch.device | str | None = None) -> Training:
        """The same training from its beginning, on another device if one is given."""
        kind = self._kind if device is None else {**self._kind, "device": device}
        return Training(self.subject, **kind)

    def around(self, model: Classifier, optimizer: torch.optim.Optimizer) -> Training:
        """This training with a copy of its model and optimizer."""
        other = copy.copy(self)
        other.model, other.optimizer = model, optimizer
        return other

    def with_weights(self, *, device: torch.device | str | None = None) -> Training:
        """A training with a fresh optimizer over a fresh model, which has this one's weights."""
        fresh = self.fresh(device=device)
        fresh.model.load_state_dict(self.model.state_dict())
        fresh.batch = self.batch
        return fresh

    def resumed(self) -> Training:
        """A training with a fresh optimizer that goes on from here, as a new process would."""
        fresh = self.with_weights()
        fresh.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        return fresh


def fill(parameter: Tensor, number: int = 0) -> None:
    """Give a parameter values that are the same on every machine, and of the size that training begins with.

    Args:
        parameter: to be filled.
        number: of the parameter; those of different numbers get different values.
    """
    with torch.no_grad():
        count = torch.arange(parameter.numel(), dtype=torch.float64)
        values = (1.7 * count + parameter.ndim + number).sin() * 0.6
        if parameter.is_complex():
            values = torch.complex(values, (2.3 * count + 1).cos() * 0.6)
        parameter.copy_(values.reshape(parameter.shape))


@functools.cache
def _spirals(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    arms = torch.arange(_ARMS).repeat_interleave(_POINTS)
    way = torch.linspace(0.2, 1, _POINTS, dtype=torch.float64).repeat(_ARMS)
    angle = 3 * way + arms * (2 * math.pi / _ARMS)
    x, y = way * angle.cos(), way * angle.sin()
    inputs = torch.stack([x, y, x * y, x * x - y * y], dim=1) * 2
    # Neighbours in different batches, so that each batch has all arms.
    return inputs.to(dtype), arms
