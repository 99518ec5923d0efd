"""Write the golden files of new cases: from the folder `tests`, `python -m golden.write_golden_files [CASE...]`.

Run it once for each case, with the code whose format the case is to keep. Never write existing files anew: that
would turn a broken format into the expected one. Where a format changes, add a new case, and leave the old ones alone.

Without names, it writes every case that has no files. Each case has a folder in `files`:

    checkpoint/       what save_checkpoint wrote, or
    state.pt          what state_dict() returned, or
    distributed/      what torch.distributed.checkpoint wrote of it; or nothing, and another case's are loaded
    expected.json     which versions wrote it; the weights when it was saved; what is seen once it is loaded, and
                      after each of the next updates; the weights after them
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .cases import CASES
from .run import Case, go_on, load, save, start, start_later, uncompiled

FILES = Path(__file__).with_name("files")
DISTRIBUTIONS = (
    "torch",
    "optim-core",
    "optim-adamw-warmup-cosine",
    "optim-adamw-onecycle",
    "optim-schedule-free-radam",
    "schedulefree",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the cases that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m golden.write_golden_files", description="Write golden files.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: every case that has no files")
    parser.add_argument("--overwrite", action="store_true", help="write files anew that no commit has yet")
    options = parser.parse_args(arguments)
    names = options.cases or [name for name in CASES if not (FILES / name).exists()]
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"there are no such cases: {', '.join(unknown)}")
    if not options.overwrite and (existing := [name for name in names if (FILES / name).exists()]):
        parser.error(f"these have files, which are never to change: {', '.join(existing)}. Add a new case")
    warnings.simplefilter("error")
    for name in names:
        with uncompiled():
            replace(FILES / name, CASES[name])


def replace(folder: Path, case: Case) -> None:
    """Write the files of a case in place of what is there, once all of them are written."""
    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary, folder.name)
        write(case, written)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(written, folder)


def write(case: Case, folder: Path) -> None:
    """Write the files of a case into a new folder.

    Raises:
        RuntimeError: the loaded run doesn't go on as the saved one does, so that the case is not sound.
    """
    folder.mkdir(parents=True)
    saved = start(case)
    expected: dict[str, Any] = {"written_by": written_by(), "updates": saved.updates}
    if case.form != "checkpoint":
        expected["saved_weights"] = saved.weights()
    if case.saved_as is None:
        save(case, saved, folder)
    run = start_later(case, expected)
    with case.loading():
        load(case, run, FILES / case.saved_as if case.saved_as else folder)
    expected |= {"loaded": run.seen(), **go_on(case, run)}
    (folder / "expected.json").write_text(_json(expected), encoding="utf-8")
    # The saved run has given its one warning of the end of a schedule.
    uninterrupted = go_on(dataclasses.replace(case, past_end=False), saved)
    if case.build_later is None and any(expected[name] != seen for name, seen in uninterrupted.items()):
        raise RuntimeError(f"{folder.name}: the loaded run doesn't go on as the saved one does")


def written_by() -> dict[str, Any]:
    """The versions that write, and the options that PyTorch's AdamW has, which are in the files too."""
    versions: dict[str, Any] = {name: version(name) for name in DISTRIBUTIONS}
    return {**versions, "options_of_AdamW": sorted(torch.optim.AdamW([torch.zeros(1)]).defaults)}


def _json(content: dict[str, Any]) -> str:
    """One line for each value, and for each update: small, and readable in a diff."""
    lines = []
    for name, value in content.items():
        listed = isinstance(value, list)
        text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]" if listed else json.dumps(value)
        lines.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
