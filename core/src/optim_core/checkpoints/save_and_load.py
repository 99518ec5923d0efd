"""Checkpoints: weights and optimizers of all components, saved whole and restored exactly."""

from __future__ import annotations

import dataclasses
import inspect
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optim_core.checkpoints.comparison import (
    changed_options,
    changed_values,
    model_problems,
    optimizer_problems,
    plain,
)
from optim_core.checkpoints.files import Contents, read, writing
from optim_core.checkpoints.regrouping import aligned, is_regrouped, layout_of
from optim_core.component_optimizers.component_optimizers import ComponentOptimizers
from optim_core.components.lookup import Models, named_modules_of
from optim_core.errors import CheckpointMismatchError, Problem, ResumeWarning
from optim_core.optimizer.evaluation_weights import has_modes, in_training_mode
from optim_core.optimizer.schedule_state import SCHEDULER, OnMismatch
from optim_core.optimizer.scheduled_optimizer import ScheduledOptimizer
from optim_core.pytorch.sharding import is_sharded

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    directory: str | os.PathLike[str],
    models: Models,
    optimizers: ComponentOptimizers,
    *,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Save weights and optimizers, replacing the checkpoint that `directory` holds.

    A crash at any instant leaves the previous checkpoint or the new one, whole. Nothing that is
    saved is changed, not even in its last bit: the weight files of schedule-free components hold the
    evaluation weights, and the training weights are kept beside the optimizer's state. Of several
    processes let one save; where more do, they wait for each other.

    Args:
        directory: a folder for the checkpoint; created where it isn't there.
        models: what `build_optimizers` was given.
        optimizers: what it returned.
        extra: what else to restore: the number of the next step, random states. Numbers, strings,
            tensors, and dictionaries and lists of them.

    Raises:
        TypeError: an argument is of another kind than these.
        ValueError: the optimizers are of other models than those given, the models are sharded, or
            something to be saved could not be loaded again with `weights_only=True`.
        OSError: the files can't be written; the previous checkpoint is untouched.
    """
    root = _checked(directory, models, optimizers)
    if extra is not None and not isinstance(extra, Mapping):
        raise TypeError(f"extra must be a mapping, not {type(extra).__name__}")
    with writing(root) as writer:
        for component in optimizers:
            writer.add("optimizers", component, _payload(component, optimizers))
        with optimizers.eval_mode():
            for component, module in named_modules_of(models).items():
                writer.add("models", component, module.state_dict())
        writer.add_extra(dict(extra or {}))


def load_checkpoint(
    directory: str | os.PathLike[str],
    models: Models,
    optimizers: ComponentOptimizers | None,
    *,
    on_mismatch: OnMismatch = "config",
) -> dict[str, Any]:
    """Restore weights and optimizers from what `save_checkpoint` wrote, after checking all of it.

    The position is always the checkpoint's. Where the configuration has changed, a warning names
    every value that differs, and by default the configuration's hold from here on.

    Args:
        directory: the folder that was saved to.
        models: modules as they were when it was saved.
        optimizers: built over them; None to restore the weights only, those for evaluation where
            an optimizer has such.
        on_mismatch: "config" keeps the configuration's values where they differ, "checkpoint" takes
            the saved ones, "error" refuses.

    Returns:
        The `extra` that was saved.

    Raises:
        CheckpointError: there is no checkpoint, or a file of it is missing or damaged.
        CheckpointMismatchError: it is of other components, weights or optimizers, or the
            configuration differs and that is to be an error.
        TypeError: an argument is of another kind than these.
        ValueError: the optimizers are of other models than those given, or the models are sharded.
    """
    if on_mismatch not in get_args(OnMismatch):
        raise ValueError(f"on_mismatch = {on_mismatch!r}: must be one of {get_args(OnMismatch)}")
    root = _checked(directory, models, optimizers)
    contents = read(root)
    modules = named_modules_of(models)
    problems = list(model_problems(modules, contents.models))
    changes: list[Problem] = []
    if optimizers is not None:
        saved = contents.optimizers
        in_order = dict(saved)
        apart: dict[str, Sequence[str]] = {}
        for component in optimizers.keys() & saved.keys():
            in_order[component], apart[component] = aligned(component, optimizers, saved[component])
        contents = dataclasses.replace(contents, optimizers=in_order)
        problems += optimizer_problems(optimizers, in_order, apart)
        regrouped = [c for c in optimizers if c in saved and is_regrouped(c, optimizers, saved[c])]
        changes = [] if problems else list(_changes(optimizers, in_order, regrouped))
        if changes and on_mismatch == "checkpoint":
            problems += _unable(optimizers, in_order)
            message = "has its parameters in other groups than in the checkpoint"
            hint = "Configure its param_groups as they were"
            problems += [Problem(component, message, hint) for component in regrouped]
    if problems or (changes and on_mismatch == "error"):
        raise CheckpointMismatchError(root, problems or changes)
    notice = None
    if changes:
        whose = {
            "config": "the configuration's values hold (the position is the checkpoint's)",
            "checkpoint": "the checkpoint's values hold, where an optimizer keeps them in its state",
        }[on_mismatch]
        notice = f"{root}: the configuration has changed, and {whose}: {'; '.join(map(str, changes))}"
    # Under "error" the configurations are the same by now: what differs all the same, the training
    # itself has changed, and that is restored.
    _apply(root, modules, optimizers, contents, "config" if on_mismatch == "config" else "checkpoint", notice)
    return dict(contents.extra)


def _checked(directory: object, models: Models, optimizers: object) -> Path:
    """The folder as a path, once it is clear that the arguments are what they should be."""
    if not isinstance(directory, (str, os.PathLike)):
        raise TypeError(f"directory must be a path, not {type(directory).__name__}")
    modules = named_modules_of(models)
    sharded = [name for name, module in modules.items() if any(is_sharded(p) for p in module.parameters())]
    if sharded:
        raise ValueError(
            f"the weights of {', '.join(map(repr, filter(None, sharded))) or 'the model'} are sharded, so that this "
            "process has a part of them only. Save and load sharded models and their optimizers with "
            "torch.distributed.checkpoint"
        )
    held = {id(p) for module in modules.values() for p in module.parameters()}
    if optimizers is None:
        return Path(directory)
    if not isinstance(optimizers, ComponentOptimizers):
        raise TypeError(
            f"optimizers must be the ComponentOptimizers that build_optimizers returned, not a "
            f"{type(optimizers).__name__}"
        )
    strangers = [
        component
        for component in optimizers
        if any(id(parameter) not in held for parameter in optimizers.parameters_of(component).values())
    ]
    if strangers:
        raise ValueError(
            f"the optimizers of {', '.join(map(repr, strangers))} are not of the models given: build them over these"
        )
    return Path(directory)


def _payload(component: str, optimizers: ComponentOptimizers) -> dict[str, Any]:
    optimizer = optimizers[component]
    payload: dict[str, Any] = {
        "type": optimizers.specs[component].type if component in optimizers.specs else "",
        "class": type(optimizer).__name__,
        "params": plain(optimizers.params.get(component, {})),
        "initial_options": [plain(group) for group in optimizers.initial_options(component)],
        "parameters": layout_of(component, optimizers),
        "state": optimizer.state_dict(),
    }
    if has_modes(optimizer) and in_training_mode(optimizer):
        # In the groups' order, like the state itself: a parameter that was added later has no name.
        payload["training_weights"] = [[p.detach() for p in group["params"]] for group in optimizer.param_groups]
    return payload


def _shown(value: object) -> str:
    # Without the last digits, in which a product of scales has rounded.
    return f"{value:.12g}" if isinstance(value, float) else repr(value)


def _changes(
    optimizers: ComponentOptimizers, saved: Mapping[str, Any], regrouped: Collection[str]
) -> Iterator[Problem]:
    for component in optimizers:
        for change in changed_values(component, optimizers, saved[component]):
            message = f"is {_shown(change.saved)} in the checkpoint and {_shown(change.current)} now"
            yield Problem(f"{component}.{change.name}", message)
        if component in regrouped:
            yield Problem(component, "has its parameters in other groups than in the checkpoint")


def _unable(optimizers: ComponentOptimizers, saved: Mapping[str, Any]) -> Iterator[Problem]:
    """The optimizers with a schedule inside that can't be told to take over a changed one."""
    for component, optimizer in optimizers.items():
        scheduled = SCHEDULER in saved[component]["state"] and not isinstance(optimizer, ScheduledOptimizer)
        if scheduled and not _takes_policy(optimizer) and any(changed_values(component, optimizers, saved[component])):
            message = f"{type(optimizer).__name__} can't take over the checkpoint's schedule"
            hint = "Its load_state_dict must accept on_mismatch, and pass it on to the optimizer inside"
            yield Problem(component, message, hint)


def _takes_policy(optimizer: Optimizer) -> bool:
    return "on_mismatch" in inspect.signature(optimizer.load_state_dict).parameters


def _apply(
    root: Path,
    modules: Mapping[str, nn.Module],
    optimizers: ComponentOptimizers | None,
    contents: Contents,
    policy: OnMismatch,
    notice: str | None,
) -> None:
    """Load what was checked; where something refuses all the same, everything is as it was."""
    notices = [notice] if notice else []
    try:
        with _weights_restored_on_failure(modules):
            for name, module in modules.items():
                module.load_state_dict(contents.models[name])
            if optimizers is None:
                return
            with optimizers._restored_on_failure():
                for component, optimizer in optimizers.items():
                    payload = contents.optimizers[component]
                    keep = changed_options(component, optimizers, payload)
                    inferred = _load_optimizer(optimizer, payload, policy, keep)
                    notices += [f"{component}: {inferred}"] if inferred else []
                # Here, where it can be undone: a warning may be an error.
                for text in notices:
                    warnings.warn(text, ResumeWarning, stacklevel=3)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointMismatchError(root, [Problem("the checkpoint", str(error), cause=error)]) from error
    if policy == "checkpoint":
        for component, payload in contents.optimizers.items():
            optimizers._adopt(component, payload["params"], payload["initial_options"])


def _load_optimizer(
    optimizer: Optimizer, payload: Mapping[str, Any], policy: OnMismatch, keep: list[Collection[str]]
) -> str | None:
    """Load one optimizer, and its training weights; returns what there is to warn about."""
    state, inferred = payload["state"], None
    kept: list[dict[str, Any]] = []
    if isinstance(optimizer, ScheduledOptimizer):
        inferred = optimizer._load(state, policy, keep).inferred
    else:
        if policy == "config":
            groups = optimizer.param_groups
            kept = [{name: group[name] for name in names} for names, group in zip(keep, groups, strict=False)]
        # A wrapper around a scheduled optimizer can be told whose values hold, if it takes the argument.
        optimizer.load_state_dict(state, **({"on_mismatch": policy} if _takes_policy(optimizer) else {}))
    with torch.no_grad():
        for group, weights in zip(optimizer.param_groups, payload.get("training_weights", ()), strict=False):
            for parameter, saved in zip(group["params"], weights, strict=True):
                parameter.copy_(saved)
    if any(kept):
        _change_options(optimizer, kept)
    return inferred


def _change_options(optimizer: Any, options: list[dict[str, Any]]) -> None:
    # The evaluation weights follow from the training weights by the options that those were made
    # with: they are what stays when an option changes.
    by_evaluation = in_training_mode(optimizer)
    if by_evaluation:
        optimizer.eval()
    for group, values in zip(optimizer.param_groups, options, strict=False):
        group.update(values)
    if by_evaluation:
        optimizer.train()


@contextmanager
def _weights_restored_on_failure(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    # Copies in main memory: a module's own loading code may raise when half of it is written.
    before = {
        name: {k: v.to("cpu", copy=True) if isinstance(v, Tensor) else v for k, v in module.state_dict().items()}
        for name, module in modules.items()
    }
    try:
        yield
    except BaseException:
        for name, module in modules.items():
            live = module.state_dict()
            with torch.no_grad():
                for key, value in before[name].items():
                    if isinstance(value, Tensor):
                        live[key].copy_(value)
        raise
