"""The trainer of examples/digits, run as a user runs it: to the end, killed and resumed, on two processes."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
TRAIN = [sys.executable, str(DIGITS / "train.py")]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def two_processes():
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return [*launcher, "--master-addr", "127.0.0.1", "--master-port", str(free_port()), str(DIGITS / "train.py")]


def run(*arguments, command=TRAIN):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=300
    )


def last_line(output):
    found = re.search(r"accuracy ([\d.]+) % after (\d+) updates; ([\d.]+) s; weights (\w+)", output.stderr)
    assert output.returncode == 0, output.stderr
    assert found is not None, output.stderr
    return float(found[1]), int(found[2]), found[4]


@pytest.fixture
def short(tmp_path):
    """The example's configuration with six epochs, a horizon to match, and frequent checkpoints."""
    configuration = yaml.safe_load((DIGITS / "config.yaml").read_text())
    configuration["training"].update(epochs=6, checkpoint_every=7)
    for spec in configuration["model"]["component_optims"].values():
        if "total_steps" in spec["params"]:
            spec["params"]["total_steps"] = 6 * 22
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(configuration))
    return path


def test_the_example_learns_the_digits_and_shows_what_it_does(tmp_path):
    output = run("--run-dir", tmp_path / "run")
    accuracy, updates, _ = last_line(output)
    assert accuracy >= 95
    assert updates == 440
    assert "component 'stem' is skipped" in output.stderr
    assert re.search(r"epoch 20 .* lr: backbone \S+  embedder \S+  classifier \S+", output.stderr)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_very_same_weights(tmp_path, short):
    whole = last_line(run("--config", short, "--run-dir", tmp_path / "whole"))
    moments = random.Random(20)
    manifest = tmp_path / "killed" / "checkpoint.json"
    killed = 0
    while True:
        before = manifest.read_bytes() if manifest.exists() else None
        arguments = ["--config", str(short), "--run-dir", str(tmp_path / "killed"), "--resume"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([*TRAIN, *arguments], stderr=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + 120
        while process.poll() is None and (not manifest.exists() or manifest.read_bytes() == before):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.15))
        if killed == 3 or process.poll() is not None:
            process.wait(timeout=120)
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
    assert killed >= 2
    assert last_line(run("--config", short, "--run-dir", tmp_path / "killed", "--resume")) == whole


@pytest.mark.slow
def test_two_processes_train_and_resume_exactly(tmp_path, short):
    whole = last_line(run("--config", short, "--run-dir", tmp_path / "whole", command=two_processes()))
    half = yaml.safe_load(short.read_text())
    half["training"]["epochs"] = 3
    (tmp_path / "half.yaml").write_text(yaml.safe_dump(half))
    last_line(run("--config", tmp_path / "half.yaml", "--run-dir", tmp_path / "parts", command=two_processes()))
    resumed = last_line(run("--config", short, "--run-dir", tmp_path / "parts", "--resume", command=two_processes()))
    assert whole[0] >= 90
    assert resumed == whole


def test_a_run_is_not_started_over_another(tmp_path, short):
    last_line(run("--config", short, "--run-dir", tmp_path / "run"))
    before = (tmp_path / "run" / "checkpoint.json").read_bytes()
    output = run("--config", short, "--run-dir", tmp_path / "run")
    assert output.returncode == 2
    assert "--resume" in output.stderr
    assert (tmp_path / "run" / "checkpoint.json").read_bytes() == before


def test_a_misspelt_configuration_is_explained_without_a_traceback(tmp_path, short):
    short.write_text(short.read_text().replace("peak_lr", "peek_lr"))
    output = run("--config", short, "--run-dir", tmp_path / "run")
    assert output.returncode == 1
    assert "Did you mean 'peak_lr'?" in output.stderr
    assert "Traceback" not in output.stderr
