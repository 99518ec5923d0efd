"""The built-ins under Accelerate, which needs no adapter: on one process, and on two real ones."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from optim_core import OPTIMIZER_BUILDER_REGISTRY, evaluation_weights
from optim_core.integrations import ReadOnlyScheduler
from optim_core.optimizer.evaluation_weights import has_modes
from workspace_support.training_by_hand import PARAMS, SCHEDULE_FREE, STEPS, Run, batch, loss_of, network, vector

pytest.importorskip("accelerate", reason="accelerate is not installed; the nox session 'trainers' has it")
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

each_key = pytest.mark.parametrize("key", PARAMS)
HALF = STEPS // 2


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Training:
    """The shortest loop under Accelerate, for a number of batches to each update."""

    def __init__(self, key, seed=0, micro_batches=1):
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=micro_batches)
        self.network = network(seed)
        optimizer = OPTIMIZER_BUILDER_REGISTRY[key](**PARAMS[key]).build(self.network.parameters())
        self.model, self.optimizer = self.accelerator.prepare(self.network, optimizer)
        self.micro_batches = micro_batches
        self.weights, self.rates = [], []

    def run(self, first, last):
        for index in range(first * self.micro_batches, last * self.micro_batches):
            with self.accelerator.accumulate(self.model):
                self.rates.append(self.optimizer.param_groups[0]["lr"])
                self.accelerator.backward(loss_of(self.model, batch(index)))
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.weights.append(vector(self.network))


def saved_weights(folder):
    state = load_file(folder / "model.safetensors")
    return torch.cat([state[name].flatten() for name, _ in network().named_parameters()])


@each_key
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_it_trains_as_by_hand_with_and_without_accumulation(key, micro_batches):
    run, training = Run(key, micro_batches=micro_batches), Training(key, micro_batches=micro_batches)
    training.run(0, STEPS)
    for index, weights in enumerate(training.weights, 1):
        assert torch.equal(weights, run.training[index // micro_batches])
    if key != SCHEDULE_FREE:
        expected = [rate for rate in run.rates for _ in range(micro_batches)]
        assert training.rates == pytest.approx(expected, rel=1e-12)


@each_key
def test_resuming_is_exact(tmp_path, key):
    run, training = Run(key), Training(key)
    training.run(0, HALF)
    training.accelerator.save_state(str(tmp_path / "state"))
    resumed = Training(key, seed=1)
    resumed.accelerator.load_state(str(tmp_path / "state"))
    assert torch.equal(vector(resumed.network), run.training[HALF])
    resumed.run(HALF, STEPS)
    assert torch.equal(vector(resumed.network), run.training[-1])


def test_a_scheduler_is_not_needed_and_a_read_only_one_reports_under_its_wrapper(tmp_path):
    run, training = Run("adamw_cosine_schedule"), Training("adamw_cosine_schedule", micro_batches=2)
    scheduler = training.accelerator.prepare(ReadOnlyScheduler(training.optimizer))
    reported = []
    for update in range(HALF):
        reported += scheduler.get_last_lr()
        training.run(update, update + 1)
        scheduler.step()
    assert reported == pytest.approx(run.rates[:HALF], rel=1e-12)
    training.accelerator.save_state(str(tmp_path / "state"))
    training.accelerator.load_state(str(tmp_path / "state"))
    assert scheduler.scheduler.last_epoch == HALF
    assert scheduler.get_last_lr() == pytest.approx([run.rates[HALF]], rel=1e-12)


def test_what_is_saved_inside_evaluation_weights_are_those_and_training_goes_on_as_if_it_hadn_t_been(tmp_path):
    run, training = Run(SCHEDULE_FREE), Training(SCHEDULE_FREE)
    training.run(0, HALF)
    with evaluation_weights(training.optimizer):
        assert torch.equal(vector(training.network), run.evaluation[HALF])
        training.accelerator.save_model(training.model, str(tmp_path / "published"))
    assert torch.equal(saved_weights(tmp_path / "published"), run.evaluation[HALF])
    training.run(HALF, STEPS)
    assert torch.equal(vector(training.network), run.training[-1])


def test_without_it_training_weights_are_saved(tmp_path):
    run, training = Run(SCHEDULE_FREE), Training(SCHEDULE_FREE)
    training.run(0, HALF)
    training.accelerator.save_model(training.model, str(tmp_path / "published"))
    assert torch.equal(saved_weights(tmp_path / "published"), run.training[HALF])
    assert not torch.allclose(run.training[HALF], run.evaluation[HALF], rtol=1e-3)


def test_a_state_saved_in_evaluation_mode_goes_on_as_the_training_that_saved_it(tmp_path):
    training = Training(SCHEDULE_FREE)
    training.run(0, HALF)
    training.optimizer.eval()
    training.accelerator.save_state(str(tmp_path / "state"))
    assert torch.equal(saved_weights(tmp_path / "state"), Run(SCHEDULE_FREE).evaluation[HALF])
    training.optimizer.train()
    training.run(HALF, STEPS)

    resumed = Training(SCHEDULE_FREE, seed=1)
    resumed.accelerator.load_state(str(tmp_path / "state"))
    resumed.optimizer.train()
    resumed.run(HALF, STEPS)
    assert torch.equal(vector(resumed.network), vector(training.network))


@each_key
def test_modes_are_seen_through_accelerates_wrapper(key):
    training = Training(key)
    assert callable(training.optimizer.train)
    assert has_modes(training.optimizer) is (key == SCHEDULE_FREE)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes wrote, and the folder that they wrote to."""
    folder = tmp_path_factory.mktemp("two_processes")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(folder)]
    logs = [folder / f"{rank}.log" for rank in range(2)]
    processes = []
    try:
        for rank, log in enumerate(logs):
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            with log.open("w") as file:
                processes.append(
                    subprocess.Popen(command, env=environment | ranks, cwd=folder, stdout=file, stderr=file)
                )
        codes = [process.wait(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0, 0], "\n".join(log.read_text() for log in logs)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)], folder


@pytest.fixture(scope="module")
def runs():
    return {key: Run(key, micro_batches=2, processes=2, size=4) for key in PARAMS}


@each_key
def test_two_processes_count_updates_as_one_does(two_processes, runs, key):
    results, _ = two_processes
    for result in results:
        assert result[key]["rates"] == pytest.approx(runs[key].rates, rel=1e-12)
        applied = runs[key].rates
        expected = applied if key == SCHEDULE_FREE else [*applied[1:], applied[-1]]
        assert result[key]["reported"] == pytest.approx(expected, rel=1e-12)


@each_key
def test_two_processes_train_as_by_hand(two_processes, runs, key):
    results, _ = two_processes
    for result in results:
        assert len(result[key]["weights"]) == STEPS
        for weights, expected in zip(result[key]["weights"], runs[key].training[1:], strict=True):
            assert torch.equal(weights, expected)


@each_key
def test_two_processes_resume_exactly(two_processes, runs, key):
    results, _ = two_processes
    for result in results:
        assert result[key]["resumed rates"] == pytest.approx(runs[key].rates[HALF:], rel=1e-12)
        assert len(result[key]["resumed"]) == HALF
        for weights, expected in zip(result[key]["resumed"], runs[key].training[HALF + 1 :], strict=True):
            assert torch.equal(weights, expected)


@each_key
def test_two_processes_publish_the_evaluation_weights(two_processes, runs, key):
    _, folder = two_processes
    assert torch.equal(saved_weights(folder / f"{key}-published"), runs[key].evaluation[HALF])
    assert torch.equal(saved_weights(folder / key), runs[key].training[HALF])


def test_a_scheduler_beside_the_optimizer_would_be_stepped_once_for_each_process(two_processes):
    results, _ = two_processes
    assert [result["naive scheduler steps"] for result in results] == [2, 2]
