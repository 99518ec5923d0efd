"""What `optim plot` is given and what it gives: a file or a key, JSON, and the real command in a pipe or a terminal."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from tools_support.plotted_schedules import plot, spec

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_the_document_has_the_points_of_every_curve(config: Callable[..., str]) -> None:
    document = plot(config(a=spec(peak_lr=0.1, total_steps=20, warmup_steps=4), b={"type": "cyclic"})).document()

    first, second = document["curves"]
    assert (first["component"], first["type"], first["horizon"], first["stepped"]) == ("a", "warm", 20, False)
    assert first["steps"] == list(range(20))
    expected = [0.1 * s / 4 if s < 4 else 0.05 * (1 + math.cos(math.pi * (s - 4) / 15)) for s in range(20)]
    assert first["learning_rates"] == pytest.approx(expected)
    assert (second["horizon"], second["stepped"]) == (20, True)
    assert second["options"]["momentum"] == pytest.approx([0.9 * 0.999**step for step in range(20)])
    json.dumps(document, allow_nan=False)


def test_values_are_read_as_in_a_configuration(config: Callable[..., str]) -> None:
    (curve,) = plot("warm", "peak_lr=1e-3", "total_steps=1e2", "warmup_steps= 5").curves

    assert curve.horizon == 100
    assert curve.peak == (5, 1e-3)


def test_a_file_with_the_name_of_a_key_is_the_file_unless_parameters_are_given(config: Callable[..., str]) -> None:
    config("warm", a=spec(peak_lr=0.5))

    assert [curve.component for curve in plot("warm").curves] == ["a"]
    assert [curve.component for curve in plot("warm", "peak_lr=1").curves] == ["warm"]


PLUGIN = """
import torch
class Plain:
    def __init__(self, lr: float = 0.1) -> None:
        self.lr = lr
    def build(self, params):
        print("chatter")
        return torch.optim.SGD(params, lr=self.lr)
class Interrupted(Plain):
    def build(self, params):
        class Optimizer(torch.optim.SGD):
            def step(self, closure=None):
                raise KeyboardInterrupt
        return Optimizer(params, lr=0.1)
"""


@pytest.fixture
def plugin(distribution: Callable[..., Path]) -> None:
    factories = {"plain": "plain_plugin:Plain", "interrupted": "plain_plugin:Interrupted"}
    distribution("plain", factories=factories, modules={"plain_plugin": PLUGIN})


def test_the_command_draws_without_colour_into_a_pipe(plugin: None, optim: Run) -> None:
    done = optim("plot", "plain", "lr=0.25", "--steps", 50, COLUMNS="50")

    assert done.returncode == 0
    assert "constant 0.25; 50 steps" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "chatter" not in done.stdout
    assert max(map(cell_len, done.stdout.splitlines())) <= 50


def test_the_command_writes_a_picture_and_prints_json(plugin: None, optim: Run, folder: Path) -> None:
    done = optim("plot", "plain", "-o", "a.svg", "--json")

    assert done.returncode == 0
    assert json.loads(done.stdout)["output"] == "a.svg"
    assert (folder / "a.svg").is_file()


def test_an_interrupt_is_status_130_and_leaves_no_file(plugin: None, optim: Run, folder: Path) -> None:
    done = optim("plot", "interrupted", "-o", "a.png")

    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "optim: error: interrupted"
    assert not os.listdir(folder)


def test_a_terminal_sees_how_far_the_steps_are(plugin: None, in_terminal: Callable[..., str]) -> None:
    seen = in_terminal("stderr", "plot", "plain", "--steps", 30000, "-o", "plain.svg")
    assert "stepping plain" in seen
    assert "%" in seen
