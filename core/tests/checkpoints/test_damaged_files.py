"""Folders and files that are no sound checkpoint: each is named, and nothing changes."""

import hashlib
import json
import subprocess

import pytest
import torch

from core_support.checkpointed_training import everything, make, same, train
from optim_core import CheckpointError, load_checkpoint, save_checkpoint


def files_of(directory):
    return [directory / "checkpoint.json", *sorted(directory.glob("data-*/*"))]


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "emptied"])
def test_a_damaged_file_is_named_and_nothing_changes(tmp_path, index, damage):
    models, optimizers = make()
    train(models, optimizers, 3)
    save_checkpoint(tmp_path, models, optimizers)
    assert len(files_of(tmp_path)) == 7
    path = files_of(tmp_path)[index]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(
        {"missing": b"", "truncated": content[: len(content) // 2], "flipped": content, "emptied": b""}[damage]
    )
    if damage == "missing":
        path.unlink()
    other, other_optimizers = make(seed=1)
    train(other, other_optimizers, 1)
    before = everything(other, other_optimizers)

    if (index, damage) == (0, "flipped"):
        path.write_text('{"format": 1}')
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path, other, other_optimizers)

    assert path.name in str(caught.value)
    assert same(everything(other, other_optimizers), before)


def test_an_empty_folder_is_no_checkpoint(tmp_path):
    models, optimizers = make()
    with pytest.raises(CheckpointError, match="there is no checkpoint here"):
        load_checkpoint(tmp_path / "nowhere", models, optimizers)


def test_a_format_of_the_future_says_to_upgrade(tmp_path):
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers)
    manifest = json.loads((tmp_path / "checkpoint.json").read_text())
    (tmp_path / "checkpoint.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(CheckpointError, match=r"99.*Upgrade"):
        load_checkpoint(tmp_path, models, optimizers)


def test_a_checkpoint_holding_code_is_refused(tmp_path):
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers)
    path = next(tmp_path.glob("data-*/extra.pt"))
    torch.save({"run": subprocess.Popen}, path)
    manifest = json.loads((tmp_path / "checkpoint.json").read_text())
    sound = {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest["files"]["extra.pt"] = sound
    (tmp_path / "checkpoint.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"extra\.pt.*can't be loaded"):
        load_checkpoint(tmp_path, models, optimizers)


def test_a_manifest_that_leaves_files_out_or_points_outside_is_damaged(saved):
    models, optimizers = make()
    manifest = json.loads((saved / "checkpoint.json").read_text())
    for broken in ({**manifest, "files": {}}, {**manifest, "data": "../elsewhere"}, {**manifest, "models": 3}, []):
        (saved / "checkpoint.json").write_text(json.dumps(broken))
        with pytest.raises(CheckpointError, match=r"checkpoint\.json: the file is damaged"):
            load_checkpoint(saved, models, optimizers)
