"""`optim check` notes what is surprising, which is no problem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools_support.checked_configurations import PLUGIN, Check

Install = Callable[..., Path]


def notes(out: str) -> list[str]:
    return [line for line in out.splitlines() if ": note: " in line]


def test_notes_say_what_is_surprising_and_change_no_status(check: Check) -> None:
    text = """\
        encoder:
          type: warm
          params:
            peak_lr: 1e-3
            total_steps: 100
            start_lr: 1e-5
            warmup_steps: 0
            momentum: 0.95
            nesterov: true
        decoder:
          type: warm
          params: {peak_lr: 1e-3, total_steps: 5000, warmup_steps: 100}
        """
    status, out, _ = check(text)
    assert status == 0
    assert notes(out) == [
        "config.yaml:5: note: encoder.params.total_steps: its horizon of 100 updates ends before the warmup of "
        "'decoder' (100 updates) does",
        "config.yaml:6: note: encoder.params.start_lr = 1e-05: is not used without a warmup",
        "config.yaml:7: note: encoder.params.warmup_steps: no warmup: the first update already has the highest rate, "
        "0.001",
        "config.yaml:8: note: encoder.params.momentum = 0.95: is high for nesterov",
    ]
    assert out.splitlines()[-1] == "config.yaml: fine, 4 notes"


def test_a_warmup_that_is_left_out_is_noted_at_the_params(check: Check) -> None:
    status, out, _ = check("encoder:\n  type: warm\n  params:\n    peak_lr: 0.5\n    total_steps: 9\n")
    assert status == 0
    assert notes(out) == [
        "config.yaml:3: note: encoder.params: no warmup: the first update already has the highest rate, 0.5"
    ]


def test_a_horizon_as_long_as_the_others_warmup_needs_no_note(check: Check) -> None:
    text = """\
        encoder: {type: warm, params: {peak_lr: 1, total_steps: 101, warmup_steps: 10}}
        decoder: {type: warm, params: {peak_lr: 1, total_steps: 5000, warmup_steps: 100}}
        """
    assert notes(check(text)[1]) == []


def test_a_note_stands_at_the_argument_that_it_is_about(check: Check, distribution: Install) -> None:
    source = PLUGIN.replace("total_steps: int\n", "total_steps: int\n    epochs: int = 1\n    last_epoch: int = -1\n")
    source = source.replace(
        "return ScheduledSGD(params, ", "return ScheduledSGD(params, initial_step=self.last_epoch + 1, "
    ).replace('k not in ("momentum", "nesterov")', 'k not in ("momentum", "nesterov", "epochs", "last_epoch")')
    distribution("optim-late", factories={"late": "late:Warm"}, modules={"late": source})
    text = """\
        encoder:
          type: late
          params:
            peak_lr: 1.0
            total_steps: 9
            warmup_steps: 2
            epochs: 3
            last_epoch: 30
        """
    assert notes(check(text)[1]) == [
        "config.yaml:8: note: encoder.params.last_epoch: starts at update 31, past its horizon of 9: its rate never "
        "moves"
    ]


def test_a_peak_that_is_never_reached_is_noted(check: Check) -> None:
    _, out, _ = check("encoder: {type: warm, params: {peak_lr: 1.0, total_steps: 1}}")
    assert "its rate never comes near its peak of 1: the highest is 0" in out
