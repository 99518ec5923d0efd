"""A training run of a case: what is built, how it is saved and loaded in each form, and what is seen of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from optim_core import ComponentOptimizers, ScheduleWarning, evaluation_weights, load_checkpoint, save_checkpoint

from .models import Models, parameters_of, set_gradients

__all__ = ["Case", "Form", "Run", "go_on", "load", "nothing", "save", "start", "start_later", "uncompiled"]

Form = Literal["checkpoint", "state_dict", "distributed", "flattened"]
"""`save_checkpoint`; `torch.save` of `state_dict()`; torch.distributed.checkpoint, as it is and flattened."""

UPDATES = 3
"""How many updates are made after loading."""


@dataclass
class Run:
    """Models and optimizers in training.

    Attributes:
        models: modules by component, or one module.
        optimizers: those of all components, or one optimizer.
        updates: how many were made.
    """

    models: Models
    optimizers: ComponentOptimizers | Optimizer
    updates: int = 0

    @property
    def each(self) -> dict[str, Any]:
        """The optimizers by component; a single one has the empty name."""
        return {"": self.optimizers} if isinstance(self.optimizers, Optimizer) else dict(self.optimizers)

    def train(self, updates: int) -> None:
        """Make some updates."""
        for _ in range(updates):
            set_gradients(self.models, self.updates)
            self.optimizers.step()
            self.optimizers.zero_grad()
            self.updates += 1

    def weights(self) -> dict[str, list[float]]:
        """All weights by name; of a complex one, real and imaginary parts."""
        found = {name: parameter.detach() for name, parameter in parameters_of(self.models).items()}
        real = {name: torch.view_as_real(w) if w.is_complex() else w for name, w in found.items()}
        return {name: w.double().flatten().tolist() for name, w in sorted(real.items())}

    def set_weights(self, weights: Mapping[str, list[float]]) -> None:
        """Put in what `weights()` returned."""
        for name, parameter in parameters_of(self.models).items():
            values = torch.tensor(weights[name], dtype=torch.float64)
            values = torch.view_as_complex(values.reshape(-1, 2)) if parameter.is_complex() else values
            parameter.data.copy_(values.reshape(parameter.shape))

    def evaluation_weights(self) -> dict[str, list[float]]:
        """All weights to evaluate."""
        with evaluation_weights(*self.each.values()):
            return self.weights()

    def seen(self) -> dict[str, Any]:
        """What a training loop can see between two updates, apart from the weights: rates, positions, modes."""
        components = isinstance(self.optimizers, ComponentOptimizers)
        return {
            "groups": {name: [_options(g) for g in o.param_groups] for name, o in self.each.items()},
            "learning_rates": self.optimizers.learning_rates() if components else {},
            "schedule_step": {n: o.schedule_step for n, o in self.each.items() if hasattr(o, "schedule_step")},
        }


def nothing(run: Run) -> None:
    """Do nothing to a run."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of saved state, and how a run gets to it and goes on from it.

    Attributes:
        models: makes the models.
        build: makes the optimizers over them.
        form: how it is saved.
        before: what happens before it is saved.
        before_loading: what is done to the new run, once it is built, before anything is loaded into it.
        after: what happens once it is loaded, before training goes on.
        models_later: makes the models that it is loaded into, where these are others.
        build_later: makes the optimizers that it is loaded into, where these are others.
        warning: an expression found in the warning that loading gives, and the warning's class.
        past_end: whether its steps are past the end of a schedule.
        extra: what a checkpoint has beside models and optimizers.
        saved_as: the case whose files are loaded, where it has none of its own.
    """

    models: Callable[[], Models]
    build: Callable[[Any], ComponentOptimizers | Optimizer]
    form: Form = "checkpoint"
    before: Callable[[Run], None] = nothing
    before_loading: Callable[[Run], None] = nothing
    after: Callable[[Run], None] = nothing
    models_later: Callable[[], Models] | None = None
    build_later: Callable[[Any], ComponentOptimizers | Optimizer] | None = None
    warning: tuple[type[Warning], str] | None = None
    past_end: bool = False
    extra: Mapping[str, Any] | None = None
    saved_as: str | None = None

    def loading(self) -> AbstractContextManager[Any]:
        """Expects the warning that loading gives."""
        return nullcontext() if self.warning is None else pytest.warns(self.warning[0], match=self.warning[1])

    def training(self) -> AbstractContextManager[Any]:
        """Expects the warning that training gives."""
        return pytest.warns(ScheduleWarning, match="is past the end") if self.past_end else nullcontext()


def start(case: Case) -> Run:
    """A run of a case that is to be saved, from its beginning until then."""
    models = case.models()
    run = Run(models, case.build(models))
    with case.training():
        case.before(run)
    return run


def start_later(case: Case, expected: Mapping[str, Any]) -> Run:
    """A run of a case that a saved one is to be loaded into; of the latter it has the weights, unless those are saved.

    Args:
        case: the run's.
        expected: what is known of the saved run: its weights and how many updates it had made.
    """
    models = (case.models_later or case.models)()
    run = Run(models, (case.build_later or case.build)(models), expected["updates"])
    case.before_loading(run)
    if case.form != "checkpoint":
        run.set_weights(expected["saved_weights"])
    return run


def save(case: Case, run: Run, folder: Path) -> None:
    """Save a run into a folder, in the form of its case."""
    if case.form == "checkpoint":
        save_checkpoint(folder / "checkpoint", run.models, run.optimizers, extra=case.extra)
        # Only for processes that save at the same time.
        (folder / "checkpoint" / ".checkpoint.lock").unlink(missing_ok=True)
        return
    if case.form == "state_dict":
        torch.save(run.optimizers.state_dict(), folder / "state.pt")
        return
    # By a relative path, which is written into the file.
    with _one_process(), chdir(folder):
        dcp.save(_distributed(case, run), checkpoint_id="distributed", no_dist=True)


def load(case: Case, run: Run, folder: Path, edit: Callable[[Any], Any] | None = None) -> Mapping[str, Any]:
    """Load what was saved into a run, and return the `extra` of a checkpoint.

    Args:
        case: the run's.
        run: a new one; it has the weights already, where the case is no checkpoint.
        folder: where it was saved.
        edit: changes a state dict before it is loaded.
    """
    if case.form == "checkpoint":
        return load_checkpoint(folder / "checkpoint", run.models, run.optimizers)
    if case.form == "state_dict":
        state = torch.load(folder / "state.pt", weights_only=True)
        run.optimizers.load_state_dict(edit(state) if edit else state)
        return {}
    with _one_process():
        state = _distributed(case, run)
        dcp.load(state, checkpoint_id=folder / "distributed", no_dist=True)
        set_optimizer_state_dict(_whole(run), run.optimizers, state["optimizer"], options=_options_of_form(case))
    return {}


def go_on(case: Case, run: Run) -> dict[str, Any]:
    """Go on with training, and return what is seen after each update, and the weights at the end."""
    case.after(run)
    continued = []
    with case.training():
        for _ in range(UPDATES):
            run.train(1)
            continued.append(run.seen())
    weights, to_evaluate = run.weights(), run.evaluation_weights()
    end = {"weights": weights, "evaluation_weights": to_evaluate} if weights != to_evaluate else {"weights": weights}
    return {"continued": continued, **end}


@contextmanager
def uncompiled() -> Iterator[None]:
    """Runs what is to be compiled as it is: no compiler is needed, and the state is the same."""
    with torch.compiler.set_stance("force_eager"):
        yield


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    """What a schedule or a loaded state decides about a group, as plain numbers."""
    names = ("lr", "scheduled_lr", "peak_lr", "schedule_step", "k", "betas", "momentum", "weight_decay", "train_mode")
    return {name: _plain(group[name]) for name in names if name in group}


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(element) for element in value]
    return value.item() if isinstance(value, torch.Tensor) else value


@contextmanager
def _one_process() -> Iterator[None]:
    with warnings.catch_warnings():
        # Which is what is wanted here. Not every version of PyTorch says it.
        warnings.filterwarnings("ignore", message="torch.distributed is .*unavailable or uninitialized")
        yield


def _whole(run: Run) -> nn.Module:
    (module,) = run.models.values()
    return module


def _distributed(case: Case, run: Run) -> dict[str, Any]:
    return {"optimizer": get_optimizer_state_dict(_whole(run), run.optimizers, options=_options_of_form(case))}


def _options_of_form(case: Case) -> StateDictOptions:
    return StateDictOptions(flatten_optimizer_state_dict=case.form == "flattened")
