"""Trainers of Lightning that write to the test's folder, and the training by hand to compare with."""

import signal

import pytest

from workspace_support.training_by_hand import SCHEDULE_FREE, Run


@pytest.fixture(scope="module")
def schedule_free_run():
    return Run(SCHEDULE_FREE)


@pytest.fixture
def make_trainer(tmp_path):
    """Makes a trainer that writes to the test's folder and prints nothing."""
    # Here: it may not be installed.
    import lightning.pytorch as lightning

    from workspace_support.lightning_modules import EPOCHS

    def make(*callbacks, package=lightning, **options):
        options = {"max_epochs": EPOCHS, "logger": False, "enable_checkpointing": False, **options}
        if any(isinstance(callback, package.callbacks.Checkpoint) for callback in callbacks):
            options["enable_checkpointing"] = True
        return package.Trainer(
            accelerator="cpu",
            devices=1,
            default_root_dir=tmp_path,
            callbacks=list(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )

    return make


@pytest.fixture
def _signals():
    """Puts back the handling of Ctrl-C, which Lightning turns off when it has seen one."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)
