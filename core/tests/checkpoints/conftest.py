"""A checkpoint to load."""

import pytest

from core_support.checkpointed_training import make, train
from optim_core import save_checkpoint


@pytest.fixture
def saved(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 3)
    save_checkpoint(tmp_path, models, optimizers)
    return tmp_path
