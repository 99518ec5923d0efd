"""`optim check`: every problem of a configuration, what may surprise in it, and who owns what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from optim_core import (
    OPTIMIZER_BUILDER_REGISTRY,
    ComponentOptimizers,
    ConfigurationError,
    GroupAssignment,
    InvalidArgumentsError,
    OptimizerFactory,
    Problem,
    ScheduledOptimizer,
    hook_manager,
)
from optim_core.for_tools import (
    NUMERIC_COLUMNS,
    Configuration,
    Models,
    build_configured,
    component_factories,
    finite_number,
    group_rows,
    in_one_line,
    in_order,
    option_notes,
    option_problems,
    parameter_rows,
    policy_problems,
)
from optim_tools.command.configuration_file import located, problem_document
from optim_tools.command.model import build_model
from optim_tools.command.plugins import import_factories, patience, quiet_log
from optim_tools.command.report import print_rows, printable
from optim_tools.inspection.configuration_notes import configuration_notes
from optim_tools.inspection.ownership import Owner, Ownership, ownership
from optim_tools.inspection.trial import trial_optimizer

if TYPE_CHECKING:
    from pluggy import PluginManager
    from rich.console import Console

__all__ = ["ConfigurationReport", "check_configuration"]


@dataclass(frozen=True)
class ComponentSummary:
    """A component that is right; of its rates and its horizon, what can be told without a step."""

    component: str
    type: str
    optimizer: str
    learning_rate: float | None
    peak_lr: float | None
    total_steps: int | None


@dataclass(frozen=True)
class ConfigurationReport:
    """What was found in a configuration."""

    source: str
    problems: Sequence[Problem]
    notes: Sequence[Problem] = ()
    components: Sequence[ComponentSummary] = ()
    ownership: Ownership | None = None
    groups: Sequence[GroupAssignment] = ()
    verbose: bool = False

    @property
    def status(self) -> int:
        """1 where there is a problem; notes are none."""
        return int(bool(self.problems))

    def document(self) -> dict[str, Any]:
        """Problems and notes with their places, and who owns what."""
        owned = self.ownership
        return {
            "configuration": self.source,
            "ok": not self.problems,
            "problems": [problem_document(problem) for problem in self.problems],
            "notes": [problem_document(note) for note in self.notes],
            "components": [vars(component) for component in self.components],
            "model": None
            if owned is None
            else {
                "components": [vars(owner) for owner in owned.owners],
                "uncovered": dict(owned.uncovered),
                "frozen_elsewhere": dict(owned.frozen_elsewhere),
                "groups": [assignment.document() for assignment in self.groups],
            },
        }

    def render(self, console: Console) -> None:
        """A line for each problem and note, as compilers write them, and a table of the components."""
        for kind, style, found in (("error", "red", self.problems), ("note", "cyan", self.notes)):
            for problem in found:
                console.print(printable(located(self.source, problem, kind)), style=style)
        if not self.problems:
            self._render_components(console)
        counts = [_count(len(self.problems), "problem")] if self.problems else ["fine"]
        counts += [_count(len(self.notes), "note")] if self.notes else []
        console.print(f"{self.source}: {', '.join(counts)}", style="bold red" if self.problems else "bold green")

    def _render_components(self, console: Console) -> None:
        if self.ownership is not None:
            headings: tuple[str, ...] = ("component", "type", "optimizer", "tensors", "trainable", "frozen")
            owned = [_owner_row(owner) for owner in self.ownership.owners]
            owned += [(part, "", "none", "", *counts) for part, counts in _unowned(self.ownership)]
            print_rows(console, headings, owned, numeric=("tensors", "trainable", "frozen"))
            if self.groups:
                console.print()
                headings, *groups = (parameter_rows if self.verbose else group_rows)(self.groups)
                print_rows(console, headings, groups, numeric=NUMERIC_COLUMNS)
        else:
            headings = ("component", "type", "optimizer", "lr", "peak lr", "horizon in updates")
            rows = [_summary_row(component) for component in self.components]
            print_rows(console, headings, rows, numeric=headings[3:])


def check_configuration(
    configuration: Configuration, *, model: str | None, verbose: bool = False
) -> ConfigurationReport:
    """Check a configuration, against a model where one is named (`module:callable`).

    Args:
        configuration: as read.
        model: the model's reference.
        verbose: list every parameter of the model in its group.

    Raises:
        CommandError: the model can't be built.
    """
    import_factories(spec.type for spec in configuration.specs.values())
    with quiet_log():
        constructed = component_factories(configuration, OPTIMIZER_BUILDER_REGISTRY)
        optimizers, faults = _tried(configuration, constructed.factories)
        notes, unnoted = configuration_notes(configuration, OPTIMIZER_BUILDER_REGISTRY, optimizers)
    faults += unnoted
    for name, optimizer in optimizers.items():
        spec = configuration.specs[name]
        notes += [configuration.locate(note, spec) for note in option_notes(spec, optimizer)]
    owned: Ownership | None = None
    groups: Sequence[GroupAssignment] = ()
    problems: Sequence[Problem] = [*configuration.problems, *constructed.all_problems, *faults]
    if model is not None:
        models = build_model(model)
        with patience("the hooks"):
            hook_manager()
        with quiet_log():
            built, problems = _built(models, configuration, faults)
        if built is not None:
            owned, groups = ownership(models, built), built.assignments()
        notes += _ownership_notes(configuration, owned)
    elif any(spec.param_groups for spec in configuration.specs.values()):
        with patience("the hooks"):
            manager = hook_manager()
        with quiet_log():
            problems = [*problems, *_group_problems(configuration, constructed.factories, optimizers, manager)]
    summaries = [_summary(configuration, name, optimizer) for name, optimizer in optimizers.items()]
    return ConfigurationReport(
        configuration.source, in_order(problems), in_order(notes), summaries, owned, groups, verbose
    )


def _tried(
    configuration: Configuration, factories: Mapping[str, OptimizerFactory]
) -> tuple[dict[str, Optimizer], list[Problem]]:
    """Build each factory over a dummy parameter: some faults show only then."""
    optimizers: dict[str, Optimizer] = {}
    problems: list[Problem] = []
    for name, factory in factories.items():
        spec = configuration.specs[name]
        try:
            optimizers[name] = trial_optimizer(factory)
        except InvalidArgumentsError as error:
            problems += [configuration.locate(problem, spec, "params") for problem in error.problems]
        except Exception as error:
            # Whatever a stranger's build raises is about this component; the cause is kept.
            message = f"the optimizer can't be built: {in_one_line(error)}"
            problems.append(configuration.locate(Problem("", message, cause=error), spec, "params"))
    return optimizers, problems


def _group_problems(
    configuration: Configuration,
    factories: Mapping[str, OptimizerFactory],
    optimizers: Mapping[str, Optimizer],
    manager: PluginManager,
) -> list[Problem]:
    """What is wrong with rules and policies, as far as that can be told without a model."""
    problems: list[Problem] = []
    for name, spec in configuration.specs.items():
        found = policy_problems(spec, manager)
        if name in optimizers and spec.param_groups:
            samples = [parameter for group in optimizers[name].param_groups for parameter in group["params"]]
            # Matrices and vectors may be in groups with other options; not every factory takes both.
            both = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,))]
            found += option_problems(spec, factories[name], both, samples)
        problems += [configuration.locate(problem, spec) for problem in found]
    return problems


def _built(
    models: Models, configuration: Configuration, faults: Sequence[Problem]
) -> tuple[ComponentOptimizers | None, Sequence[Problem]]:
    """Build for real, with hooks; or every problem that there is with these models."""
    try:
        optimizers = build_configured(models, configuration, OPTIMIZER_BUILDER_REGISTRY, "ignore", faults)
    except ConfigurationError as error:
        return None, error.problems
    except (Exception, SystemExit) as error:
        # Only a hook's or a factory's own; building adds a note that names the component.
        place = "; ".join(getattr(error, "__notes__", ())) or "building the optimizers"
        return None, [Problem(place, in_one_line(error), cause=error)]
    return optimizers, []


def _ownership_notes(configuration: Configuration, owned: Ownership | None) -> list[Problem]:
    notes = []
    for owner in owned.owners if owned else ():
        if owner.optimizer is None:
            spec = configuration.specs[owner.component]
            notes.append(
                configuration.locate(Problem("", "is frozen, and so skipped: nothing in it is trainable"), spec)
            )
    for part, count in owned.uncovered.items() if owned else ():
        hint = "Make it part of a component, or freeze it with requires_grad_(False)"
        notes.append(Problem(part, f"{count:,} trainable parameters have no optimizer and will not be trained", hint))
    return notes


def _summary(configuration: Configuration, name: str, optimizer: Optimizer) -> ComponentSummary:
    schedule = optimizer.schedule if isinstance(optimizer, ScheduledOptimizer) else None
    return ComponentSummary(
        name,
        configuration.specs[name].type,
        type(optimizer).__name__,
        finite_number(optimizer.param_groups[0].get("lr")),
        None if schedule is None else finite_number(schedule.peak_lr),
        None if schedule is None else schedule.total_steps,
    )


def _summary_row(summary: ComponentSummary) -> tuple[str, ...]:
    rates = ("" if rate is None else f"{rate:g}" for rate in (summary.learning_rate, summary.peak_lr))
    horizon = "" if summary.total_steps is None else f"{summary.total_steps:,}"
    return (summary.component, summary.type, summary.optimizer, *rates, horizon)


def _unowned(ownership: Ownership) -> Iterator[tuple[str, tuple[str, str]]]:
    """The parts without an optimizer, and how much of them is trainable and frozen."""
    for part in dict.fromkeys([*ownership.uncovered, *ownership.frozen_elsewhere]):
        trainable, frozen = ownership.uncovered.get(part, 0), ownership.frozen_elsewhere.get(part, 0)
        yield part, (f"{trainable:,}", f"{frozen:,}")


def _owner_row(owner: Owner) -> tuple[str, ...]:
    optimizer = owner.optimizer or "(skipped: frozen)"
    return (owner.component, owner.type, optimizer, *(f"{n:,}" for n in (owner.tensors, owner.trainable, owner.frozen)))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
