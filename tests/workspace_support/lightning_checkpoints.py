"""Checkpoints that Lightning keeps in the folder of a test; needs Lightning."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

WHEN = {
    "at the end of an epoch": {"save_on_train_epoch_end": True},
    "at the end of a validation": {"save_on_train_epoch_end": False},
    "inside an epoch": {"every_n_train_steps": 3},
}


def kept_checkpoints(tmp_path, when, **options):
    options = {"dirpath": tmp_path / "kept", "filename": "{step}", "save_top_k": -1, **WHEN[when], **options}
    return ModelCheckpoint(**options)


def checkpoints_in(tmp_path):
    """The kept checkpoints by the number of steps that they are of."""
    found = {int(path.stem.removeprefix("step=").split("-")[0]): path for path in (tmp_path / "kept").glob("*.ckpt")}
    assert found
    return found


# A checkpoint from inside an epoch, where the data are a function of the step.
resumes_inside = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")


def saved_weights(path):
    state = torch.load(path, weights_only=True)["state_dict"]
    return torch.cat([weights.flatten() for weights in state.values()])
