"""Warnings point at the user's line."""

from __future__ import annotations

import linecache
import subprocess
import sys
import warnings

import pytest
import torch

from optim_core import OptimWarning
from optim_core.authoring import warn_caller


def test_warning_points_at_the_line_outside_the_file_that_warns() -> None:
    # A plugin's file, between two of PyTorch.
    code = compile("def step(*_):\n    warn_caller('said', category)", "/somewhere/plugin.py", "exec")
    names = {"warn_caller": warn_caller, "category": OptimWarning}
    exec(code, names)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    optimizer.register_step_pre_hook(names["step"])  # type: ignore[arg-type]
    with pytest.warns(OptimWarning, match="said") as caught:
        optimizer.step()
    assert caught[0].filename == __file__
    assert linecache.getline(__file__, caught[0].lineno).strip() == "optimizer.step()"


def test_each_line_that_leads_there_is_warned_once() -> None:
    def leads_there() -> None:
        # As a plugin's file does.
        exec(
            compile("warn('said', category)", "/somewhere/plugin.py", "exec"),
            {"warn": warn_caller, "category": OptimWarning},
        )

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            leads_there()
    assert len(caught) == 1


def test_warning_of_a_class_written_in_the_script_that_uses_it_points_into_the_script() -> None:
    with pytest.warns(OptimWarning, match="said") as caught:
        warn_caller("said", OptimWarning)
    # Here the script was called by pytest, which is the first line outside of it.
    assert caught[0].filename != "sys"
    code = "from optim_core import OptimWarning, authoring\n\nauthoring.warn_caller('said', OptimWarning)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.startswith("<string>:3: OptimWarning: said")
