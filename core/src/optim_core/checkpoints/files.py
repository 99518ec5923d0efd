"""The folder of a checkpoint: how files get into it whole, and how they are read back and verified.

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
import re
import shutil
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pydantic
import torch
from filelock import FileLock
from torch import Tensor, nn

from optim_core.errors import CheckpointError

__all__ = ["MANIFEST", "Contents", "Writer", "read", "writing"]

MANIFEST = "checkpoint.json"
_LOCK = ".checkpoint.lock"
_FORMAT = 1
_PLAIN = (bool, int, float, str, type(None))
_CHUNK = 1 << 20
# Nothing else is ever deleted: a user may keep other things in the folder.
_DATA = re.compile(r"data-[0-9a-f]{12}|\.data-[0-9a-f]{12}\.partial")

Part = Literal["models", "optimizers"]


@dataclass(frozen=True)
class _File:
    size: int
    sha256: str


@dataclass
class _Manifest:
    """What belongs to a checkpoint: file names by component, and how to verify each file."""

    data: str
    format: int = _FORMAT
    models: dict[str, str] = field(default_factory=dict)
    optimizers: dict[str, str] = field(default_factory=dict)
    extra: str = ""
    files: dict[str, _File] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [*self.models.values(), *self.optimizers.values(), self.extra]


_MANIFEST_READER = pydantic.TypeAdapter(_Manifest)


@dataclass(frozen=True)
class Contents:
    """Everything in a checkpoint, read and verified.

    Attributes:
        models: weights by component; a single module has the empty name.
        optimizers: what was saved of each optimizer, by component.
        extra: what the caller added.
    """

    models: Mapping[str, Any]
    optimizers: Mapping[str, Any]
    extra: Mapping[str, Any]


class Writer:
    """Writes the files of one checkpoint into a folder that is not part of it yet."""

    def __init__(self, folder: Path, manifest: _Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._taken: set[str] = set()

    def add(self, part: Part, component: str, content: Mapping[str, Any]) -> None:
        """Write what belongs to a component.

        Raises:
            ValueError: the content could not be loaded again with `weights_only=True`.
        """
        name = self._name(part.removesuffix("s"), component)
        getattr(self._manifest, part)[component] = name
        self._manifest.files[name] = _write(self._folder / name, content)

    def add_extra(self, content: Mapping[str, Any]) -> None:
        """Write what the caller adds; a ValueError as in `add`."""
        self._manifest.extra = name = self._name("extra", "")
        self._manifest.files[name] = _write(self._folder / name, content)

    def _name(self, kind: str, component: str) -> str:
        """A file name, whatever characters are in the component's; no two are alike, in any case."""
        stem = ".".join(filter(None, (kind, quote(component, safe="")[:80])))
        name, number = stem, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{stem}~{number}"
        self._taken.add(name.lower())
        return f"{name}.pt"


@contextmanager
def writing(root: Path) -> Iterator[Writer]:
    """A `Writer` whose files become the checkpoint in `root` at the end of the `with` block.

    Where the block raises, or what comes after it does, the previous checkpoint is as it was. Two
    processes that save to one folder wait for each other.
    """
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / _LOCK):
        yield from _writing(root)


def _writing(root: Path) -> Iterator[Writer]:
    data = root / f"data-{uuid.uuid4().hex[:12]}"
    partial = data.with_name(f".{data.name}.partial")
    partial.mkdir()
    try:
        manifest = _Manifest(data.name)
        yield Writer(partial, manifest)
        _sync_folder(partial)
        partial.rename(data)
        _sync_folder(root)
        written = root / f".{MANIFEST}.partial"
        with written.open("w", encoding="utf-8") as file:
            json.dump(asdict(manifest), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        written.replace(root / MANIFEST)
        _sync_folder(root)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if not _refers_to(root, data.name):
            shutil.rmtree(data, ignore_errors=True)
        raise
    for leftover in root.iterdir():
        if leftover != data and _DATA.fullmatch(leftover.name) and leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)


def read(root: Path) -> Contents:
    """Read and verify the checkpoint in `root`.

    Raises:
        CheckpointError: there is none, or a file of it is missing or damaged.
    """
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


def _write(path: Path, content: Mapping[str, Any]) -> _File:
    surely_loadable = _surely_loadable(content)
    try:
        # By name: an interrupt while PyTorch writes to a file object of Python's can end the process.
        torch.save(content, str(path))
        if not surely_loadable:
            torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        if surely_loadable:
            raise
        # Whatever it is about: what can't be read back must not become the checkpoint.
        raise ValueError(
            f"{path.name}: the content could not be loaded again with weights_only=True: {error}. Save numbers, "
            "strings, tensors, and dictionaries and lists of them"
        ) from error
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return _File(path.stat().st_size, _digest(path))


def _surely_loadable(value: object) -> bool:
    if isinstance(value, Mapping):
        return type(value) in (dict, OrderedDict) and all(_surely_loadable(v) for pair in value.items() for v in pair)
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
    """Make renames in a folder durable, where the system has that."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refers_to(root: Path, data: str) -> bool:
    try:
        return _read_manifest(root).data == data
    except CheckpointError:
        return False


def _read_manifest(root: Path) -> _Manifest:
    path = root / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("format", _FORMAT) != _FORMAT:
            known = f"the format {content['format']!r} is not known here (known: {_FORMAT}). Upgrade optim-core"
            raise CheckpointError(path, known)
        manifest = _MANIFEST_READER.validate_python(content)
    except FileNotFoundError as error:
        raise CheckpointError(root, f"there is no checkpoint here (no {MANIFEST})") from error
    except OSError as error:
        raise CheckpointError(path, f"the file can't be read: {error}") from error
    except ValueError as error:
        raise CheckpointError(path, "the file is damaged: it is not what save_checkpoint writes") from error
    outside = [name for name in (manifest.data, *manifest.names) if Path(name).name != name]
    unknown = [name for name in manifest.names if name not in manifest.files]
    if outside or unknown:
        raise CheckpointError(path, f"the file is damaged: it names {(outside or unknown)[0]!r}, which it can't")
    return manifest


def _read_contents(root: Path, manifest: _Manifest) -> Contents:
    data = root / manifest.data
    for name in manifest.names:
        path, expected = data / name, manifest.files[name]
        try:
            size = path.stat().st_size
            if size != expected.size:
                raise CheckpointError(path, f"the file is damaged: it has {size} bytes, not {expected.size}")
            if _digest(path) != expected.sha256:
                raise CheckpointError(path, "the file is damaged: its content is not what was saved")
        except FileNotFoundError as error:
            raise CheckpointError(path, "the file is missing from the checkpoint") from error
        except OSError as error:
            raise CheckpointError(path, f"the file can't be read: {error}") from error
    return Contents(
        models={name: _load_file(data / file) for name, file in manifest.models.items()},
        optimizers={name: _load_file(data / file) for name, file in manifest.optimizers.items()},
        extra=_load_file(data / manifest.extra),
    )


def _load_file(path: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load raises anything from EOFError to UnpicklingError for a file it can't read.
        raise CheckpointError(path, f"the file can't be loaded: {error}") from error
    return content
