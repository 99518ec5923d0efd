"""What one of two processes does under Accelerate: `python two_processes.py FOLDER`.

It trains each built-in, saves its state after half of the updates, trains the other half twice, and
writes what test_accelerate.py compares.
"""

import sys
import warnings
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch.optim.lr_scheduler import LambdaLR

from optim_core import OPTIMIZER_BUILDER_REGISTRY, evaluation_weights
from optim_core.integrations import ReadOnlyScheduler
from workspace_support.training_by_hand import PARAMS, STEPS, batch, loss_of, network, vector

HALF = STEPS // 2
SIZE, MICRO_BATCHES, PROCESSES = 4, 2, 2


class Training:
    """A training under Accelerate, and what it has to show for each update."""

    def __init__(self, key, seed=0):
        AcceleratorState._reset_state()
        GradientState._reset_state()
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=MICRO_BATCHES)
        self.network = network(seed)
        optimizer = OPTIMIZER_BUILDER_REGISTRY[key](**PARAMS[key]).build(self.network.parameters())
        batches = [batch(index, SIZE) for index in range(STEPS * MICRO_BATCHES * PROCESSES)]
        inputs, targets = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=SIZE)
        self.model, self.optimizer, self.loader, self.scheduler = self.accelerator.prepare(
            self.network, optimizer, loader, ReadOnlyScheduler(optimizer)
        )
        self.rates, self.reported, self.weights = [], [], []

    def run(self, first, last):
        loader = self.accelerator.skip_first_batches(self.loader, first * MICRO_BATCHES)
        for index, inputs in enumerate(loader, first * MICRO_BATCHES):
            if index == last * MICRO_BATCHES:
                break
            with self.accelerator.accumulate(self.model):
                rate = self.optimizer.param_groups[0]["lr"]
                self.accelerator.backward(loss_of(self.model, inputs))
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
            if self.accelerator.sync_gradients:
                self.rates.append(self.optimizer.param_groups[0].get("scheduled_lr", rate))
                self.reported += self.scheduler.get_last_lr()
                self.weights.append(vector(self.network))


def train(key, folder):
    whole = Training(key)
    whole.run(0, HALF)
    whole.accelerator.save_state(str(folder / key))
    with evaluation_weights(whole.optimizer):
        whole.accelerator.save_model(whole.model, str(folder / f"{key}-published"))
    whole.run(HALF, STEPS)
    resumed = Training(key, seed=1)
    resumed.accelerator.load_state(str(folder / key))
    resumed.run(HALF, STEPS)
    return {
        "rates": whole.rates,
        "reported": whole.reported,
        "weights": whole.weights,
        "resumed": resumed.weights,
        "resumed rates": resumed.rates,
    }


def naive_scheduler_steps():
    """How often Accelerate steps a scheduler beside one optimizer update."""
    training = Training("adamw_cosine_schedule")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    optimizer, scheduler = training.accelerator.prepare(optimizer, LambdaLR(optimizer, lambda step: 1.0))
    training.accelerator.gradient_state._set_sync_gradients(True)
    optimizer.step()
    scheduler.step()
    return scheduler.scheduler.last_epoch


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = {key: train(key, folder) for key in PARAMS}
        results["naive scheduler steps"] = naive_scheduler_steps()
    rank = torch.distributed.get_rank()
    assert torch.distributed.get_world_size() == PROCESSES
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
