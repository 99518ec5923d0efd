"""Checkpoints: weights and optimizers of all components, whole or not at all.

A checkpoint is a folder:

    checkpoint.json            what belongs to it, with the size and digest of every file
    data-<id>/model.*.pt       weights, as `state_dict()`s; of one component, or of the whole module
    data-<id>/optimizer.*.pt   one for each optimizer
    data-<id>/extra.pt         what the caller adds

Each save writes a new data folder, and only then replaces `checkpoint.json`, which is one atomic
rename: before it the previous checkpoint is there, after it the new one. The previous data goes last.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optim_core.component_optimizers import ComponentOptimizers, has_modes, in_training_mode
from optim_core.components import Models, named_modules_of, unwrapped
from optim_core.errors import (
    CheckpointError,
    CheckpointMismatchError,
    OptimWarning,
    Problem,
    StateMismatchError,
)
from optim_core.schedule_state import Difference, OnMismatch, differences
from optim_core.scheduled_optimizer import ScheduledOptimizer

__all__ = ["MANIFEST", "ResumeWarning", "load_checkpoint", "save_checkpoint"]

MANIFEST = "checkpoint.json"
_FORMAT = 1
_PLAIN = (bool, int, float, str, type(None))
_CHUNK = 1 << 20


class ResumeWarning(OptimWarning):
    """A run continues under a configuration that differs from the checkpoint's."""


@dataclass(frozen=True)
class _Contents:
    """Everything in a checkpoint, read and verified."""

    models: Mapping[str, Mapping[str, Any]]
    optimizers: Mapping[str, Mapping[str, Any]]
    extra: Mapping[str, Any]


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
    evaluation weights, and the training weights are kept beside the optimizer's state. One process
    saves at a time; with several, let one of them do it.

    Args:
        directory: a folder of the checkpoint's own; created where it isn't there.
        models: what `build_optimizers` was given.
        optimizers: what it returned.
        extra: what else to restore: the number of the next step, random states. Numbers, strings,
            tensors, and dictionaries and lists of them.

    Raises:
        ValueError: something to be saved could not be loaded again with `weights_only=True`.
        OSError: the files can't be written; the previous checkpoint is untouched.
    """
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    data = root / f"data-{uuid.uuid4().hex[:12]}"
    partial = data.with_name(f".{data.name}.partial")
    partial.mkdir()
    try:
        manifest: dict[str, Any] = {"format": _FORMAT, "data": data.name, "models": {}, "optimizers": {}, "files": {}}
        names = _FileNames()
        for component, optimizer in optimizers.items():
            name = manifest["optimizers"][component] = names.of("optimizer", component)
            manifest["files"][name] = _write(partial / name, _optimizer_payload(component, optimizer, optimizers))
        with optimizers.eval_mode():
            for component, module in named_modules_of(models).items():
                name = manifest["models"][component] = names.of("model", component)
                manifest["files"][name] = _write(partial / name, dict(unwrapped(module).state_dict()))
        manifest["extra"] = names.of("extra", "")
        manifest["files"][manifest["extra"]] = _write(partial / manifest["extra"], dict(extra or {}))
        _sync_folder(partial)
        partial.rename(data)
        _sync_folder(root)
        written = root / f".{MANIFEST}.partial"
        with written.open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        written.replace(root / MANIFEST)
        _sync_folder(root)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if not _refers_to(root, data.name):
            shutil.rmtree(data, ignore_errors=True)
        raise
    for leftover in [*root.glob("data-*"), *root.glob(".data-*.partial")]:
        if leftover != data:
            shutil.rmtree(leftover, ignore_errors=True)


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
    """
    if on_mismatch not in get_args(OnMismatch):
        raise ValueError(f"on_mismatch = {on_mismatch!r}: must be one of {get_args(OnMismatch)}")
    root = Path(directory)
    contents = _read(root)
    modules = {name: unwrapped(module) for name, module in named_modules_of(models).items()}
    problems = list(_model_problems(modules, contents.models))
    if optimizers is not None:
        problems += _optimizer_problems(optimizers, contents.optimizers)
    if problems:
        raise CheckpointMismatchError(root, problems)
    if optimizers is not None:
        _load_optimizers(root, optimizers, contents.optimizers, on_mismatch)
    for name, module in modules.items():
        module.load_state_dict(contents.models[name])
    if optimizers is not None:
        for component, payload in contents.optimizers.items():
            named = optimizers.parameters_of(component)
            with torch.no_grad():
                for name, weights in payload.get("training_weights", {}).items():
                    named[name].copy_(weights)
    return dict(contents.extra)


def _optimizer_payload(component: str, optimizer: Optimizer, optimizers: ComponentOptimizers) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "type": optimizers.specs[component].type if component in optimizers.specs else "",
        "class": type(optimizer).__name__,
        "params": _plain(optimizers.params.get(component, {})),
        "initial_options": [_plain(group) for group in optimizers.initial_options(component)],
        "parameters": _layout(component, optimizer, optimizers),
        "state": optimizer.state_dict(),
    }
    if has_modes(optimizer) and in_training_mode(optimizer):
        named = optimizers.parameters_of(component)
        payload["training_weights"] = {name: parameter.detach() for name, parameter in named.items()}
    return payload


def _layout(component: str, optimizer: Optimizer, optimizers: ComponentOptimizers) -> list[list[list[Any]]]:
    """For each group of an optimizer the name and shape of each parameter, in order."""
    names = {id(parameter): name for name, parameter in optimizers.parameters_of(component).items()}
    return [
        [[names.get(id(p), "(added later)"), list(p.shape)] for p in group["params"]]
        for group in optimizer.param_groups
    ]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they can be saved and compared; what is no plain value, as text."""

    def plain(value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, Tensor) and value.numel() == 1:
            return value.item()
        return f"{type(value).__module__}.{type(value).__qualname__}"

    return {name: plain(value) for name, value in values.items()}


def _model_problems(modules: Mapping[str, nn.Module], saved: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    yield from _set_problems("models", set(modules), set(saved))
    for name in [name for name in modules if name in saved]:
        where = f"weights of {name!r}" if name else "weights"
        ours = modules[name].state_dict()
        yield from _set_problems(where, set(ours), set(saved[name]))
        for key, value in ours.items():
            other = saved[name].get(key)
            if isinstance(value, Tensor) and isinstance(other, Tensor) and value.shape != other.shape:
                yield Problem(
                    where, f"{key!r} is {list(other.shape)} in the checkpoint and {list(value.shape)} in the model"
                )


def _optimizer_problems(optimizers: ComponentOptimizers, saved: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    yield from _set_problems("optimizers", set(optimizers), set(saved))
    for component in [component for component in optimizers if component in saved]:
        payload, optimizer = saved[component], optimizers[component]
        where = f"optimizer of {component!r}"
        spec = optimizers.specs.get(component)
        ours = (spec.type if spec else "", type(optimizer).__name__)
        theirs = (payload["type"], payload["class"])
        if ours != theirs:
            yield Problem(
                where, f"is {_described(*theirs)} in the checkpoint and {_described(*ours)} in the configuration"
            )
            continue
        layout = _layout(component, optimizer, optimizers)
        if layout != payload["parameters"]:
            yield from _layout_problems(where, layout, payload["parameters"])


def _described(key: str, class_name: str) -> str:
    return f"{key} ({class_name})" if key else class_name


def _layout_problems(where: str, ours: list[list[list[Any]]], theirs: list[list[list[Any]]]) -> Iterator[Problem]:
    if [len(group) for group in ours] != [len(group) for group in theirs]:
        sizes = [[len(group) for group in groups] for groups in (theirs, ours)]
        yield Problem(where, f"has groups of {sizes[0]} parameters in the checkpoint and {sizes[1]} now")
    flat_ours, flat_theirs = ({p[0]: p[1] for group in groups for p in group} for groups in (ours, theirs))
    yield from _set_problems(f"{where}, parameters", set(flat_ours), set(flat_theirs))
    different = [name for name in flat_ours if name in flat_theirs and flat_ours[name] != flat_theirs[name]]
    for name in different:
        yield Problem(where, f"{name!r} is {flat_theirs[name]} in the checkpoint and {flat_ours[name]} now")
    if not different and set(flat_ours) == set(flat_theirs):
        yield Problem(where, "has its parameters in another order or in other groups than in the checkpoint")


def _set_problems(where: str, ours: set[str], theirs: set[str]) -> Iterator[Problem]:
    if missing := sorted(ours - theirs):
        yield Problem(where, f"not in the checkpoint: {_listed(missing)}")
    if unexpected := sorted(theirs - ours):
        yield Problem(where, f"only in the checkpoint: {_listed(unexpected)}")


def _listed(names: list[str], most: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _load_optimizers(
    root: Path, optimizers: ComponentOptimizers, saved: Mapping[str, Mapping[str, Any]], policy: OnMismatch
) -> None:
    changed = {name: _differences(name, optimizers, saved[name]) for name in optimizers}
    listed = [
        Problem(
            f"{component}.{difference.name}",
            f"is {difference.saved!r} in the checkpoint and {difference.current!r} now",
        )
        for component, found in changed.items()
        for difference in found
    ]
    if listed and policy == "error":
        raise CheckpointMismatchError(root, listed)

    def load(component: str, optimizer: Optimizer, state: dict[str, Any]) -> None:
        keep = _changed_options(component, optimizers, saved[component]) if policy == "config" else []
        if isinstance(optimizer, ScheduledOptimizer):
            optimizer._load(state, policy, keep)
            return
        kept = [{key: group[key] for key in names} for names, group in zip(keep, optimizer.param_groups, strict=False)]
        optimizer.load_state_dict(state)
        for group, values in zip(optimizer.param_groups, kept, strict=False):
            group.update(values)

    try:
        optimizers.load_state_dict({name: saved[name]["state"] for name in optimizers}, load)
    except StateMismatchError as error:
        raise CheckpointMismatchError(root, [Problem("optimizers", str(error), cause=error)]) from error
    if listed:
        whose = "the configuration's values hold" if policy == "config" else "the checkpoint's values hold"
        text = f"{root}: the configuration has changed, and {whose}: " + "; ".join(map(str, listed))
        warnings.warn(text, ResumeWarning, stacklevel=3)


def _differences(component: str, optimizers: ComponentOptimizers, payload: Mapping[str, Any]) -> list[Difference]:
    """Everything that the configuration, or a hook, has other than when the checkpoint was saved."""
    ours, theirs = _plain(optimizers.params.get(component, {})), payload["params"]
    found = [
        Difference(name, theirs.get(name), ours.get(name))
        for name in dict.fromkeys([*ours, *theirs])
        if theirs.get(name) != ours.get(name)
    ]
    optimizer = optimizers[component]
    if isinstance(optimizer, ScheduledOptimizer):
        found += differences(optimizer.schedule, optimizer.param_groups, payload["state"])
    for index, names in enumerate(_changed_options(component, optimizers, payload)):
        before, now = payload["initial_options"][index], _plain(optimizers.initial_options(component)[index])
        for name in names:
            label = f"{name} of parameter group {index}" if len(payload["initial_options"]) > 1 else name
            found.append(Difference(label, before.get(name), now.get(name)))
    named: dict[str, Difference] = {}
    for difference in found:
        named.setdefault(difference.name, difference)
    if isinstance(optimizer, ScheduledOptimizer):
        # The first rate of the curve: what moved it is in the list by its own name.
        named = {name: d for name, d in named.items() if name != "lr" or "lr" in ours}
    return list(named.values())


def _changed_options(
    component: str, optimizers: ComponentOptimizers, payload: Mapping[str, Any]
) -> list[Collection[str]]:
    """For each group, the options that it was built with other than the saved one."""
    now = [_plain(group) for group in optimizers.initial_options(component)]
    pairs = zip(now, payload["initial_options"], strict=False)
    return [[name for name in ours if name in theirs and ours[name] != theirs[name]] for ours, theirs in pairs]


class _FileNames:
    """File names for components, whatever characters are in their names; no two are alike."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, kind: str, component: str) -> str:
        stem = ".".join(filter(None, (kind, quote(component, safe="")[:80])))
        name, number = stem, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{stem}~{number}"
        self._taken.add(name.lower())
        return f"{name}.pt"


def _write(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    with path.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    if not _surely_loadable(content):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            # Whatever it is about: what can't be read back must not become the checkpoint.
            raise ValueError(
                f"{path.name}: the content could not be loaded again with weights_only=True: {error}. Save numbers, "
                "strings, tensors, and dictionaries and lists of them"
            ) from error
    return {"size": path.stat().st_size, "sha256": _digest(path)}


def _surely_loadable(value: object) -> bool:
    if isinstance(value, Mapping):
        return type(value) is dict and all(_surely_loadable(v) for pair in value.items() for v in pair)
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(map(_surely_loadable, value))
    return type(value) in (*_PLAIN, Tensor, nn.Parameter)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(path: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refers_to(root: Path, data: str) -> bool:
    try:
        return bool(_read_manifest(root)["data"] == data)
    except CheckpointError:
        return False


def _read(root: Path) -> _Contents:
    manifest = _read_manifest(root)
    while True:
        try:
            return _read_contents(root, manifest)
        except CheckpointError:
            # Another process may have saved meanwhile, which takes the files of the previous one away.
            newer = _read_manifest(root)
            if newer == manifest:
                raise
            manifest = newer


def _read_contents(root: Path, manifest: Mapping[str, Any]) -> _Contents:
    data = root / manifest["data"]
    for name, expected in manifest["files"].items():
        path = data / name
        if not path.is_file():
            raise CheckpointError(path, "the file is missing from the checkpoint")
        size = path.stat().st_size
        if size != expected["size"]:
            raise CheckpointError(path, f"the file is damaged: it has {size} bytes, not {expected['size']}")
        if _digest(path) != expected["sha256"]:
            raise CheckpointError(path, "the file is damaged: its content is not what was saved")
    return _Contents(
        models={name: _load_file(data / file) for name, file in manifest["models"].items()},
        optimizers={name: _load_file(data / file) for name, file in manifest["optimizers"].items()},
        extra=_load_file(data / manifest["extra"]),
    )


def _load_file(path: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load raises anything from EOFError to UnpicklingError for a file it can't read.
        raise CheckpointError(path, f"the file can't be loaded: {error}") from error
    return content


def _read_manifest(root: Path) -> dict[str, Any]:
    path = root / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(root, f"there is no checkpoint here (no {MANIFEST})") from error
    except OSError as error:
        raise CheckpointError(path, f"the file can't be read: {error}") from error
    except ValueError as error:
        raise CheckpointError(path, f"the file is damaged: {error}") from error
    if not isinstance(manifest, dict) or not {"format", "data", "models", "optimizers", "extra", "files"} <= set(
        manifest
    ):
        raise CheckpointError(path, "the file is damaged: it is not what save_checkpoint writes")
    if manifest["format"] != _FORMAT:
        raise CheckpointError(
            path, f"the format {manifest['format']!r} is not known here (known: {_FORMAT}). Upgrade optim-core"
        )
    return manifest
