"""Writing a folder as a whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["new_folder", "write_files"]


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `target` when the block ends.

    It lies beside the target under a hidden name, and is taken away where the block raises, by Ctrl-C too.

    Raises:
        FileExistsError: there is something at `target` already; it is left as it is.
    """
    _require_free(target)
    staging = target.parent / f".{target.name}.{os.getpid()}.new"
    staging.mkdir()
    try:
        yield staging
        # Renaming would replace an empty folder without a word.
        _require_free(target)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts below a folder, by relative path; one that is there already is replaced."""
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")


def _require_free(target: Path) -> None:
    # A link that leads nowhere is in the way, too.
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already")
