"""What importing the integrations costs, and that their names are all there."""

import subprocess
import sys

import pytest

import optim_core.integrations

TRAINERS = ("lightning", "pytorch_lightning", "transformers", "accelerate")


def modules_after(code):
    """The names in sys.modules after a fresh interpreter has run `code`."""
    program = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_neither_torch_nor_a_trainer():
    modules = modules_after("import optim_core.integrations; dir(optim_core.integrations)")
    assert "optim_core.integrations" in modules
    assert modules.isdisjoint(("torch", *TRAINERS))


@pytest.mark.parametrize("name", ["ReadOnlyScheduler", "ScheduleFreeCallback"])
def test_the_adapters_that_need_no_class_of_a_trainer_import_none(name):
    assert modules_after(f"from optim_core.integrations import {name}").isdisjoint(TRAINERS)


def test_the_callback_for_lightning_says_what_is_missing():
    code = """
import sys
sys.modules["lightning"] = sys.modules["pytorch_lightning"] = None
from optim_core.integrations import ScheduleFreeCallback
try:
    ScheduleFreeCallback()
except ModuleNotFoundError as error:
    assert "pip install lightning" in str(error)
else:
    raise AssertionError
"""
    modules_after(code)


def test_the_callback_for_transformers_says_what_is_missing():
    code = """
import sys
sys.modules["transformers"] = None
try:
    from optim_core.integrations import ScheduleFreeTrainerCallback
except ModuleNotFoundError as error:
    assert "pip install transformers" in str(error)
else:
    raise AssertionError
"""
    modules_after(code)


def test_all_names_are_listed_and_no_others_are_found():
    names = ["ReadOnlyScheduler", "ScheduleFreeCallback", "ScheduleFreeTrainerCallback"]
    assert optim_core.integrations.__all__ == names
    assert set(optim_core.integrations.__all__) <= set(dir(optim_core.integrations))
    with pytest.raises(AttributeError, match="nonsense"):
        optim_core.integrations.nonsense  # noqa: B018
