"""The built-ins on a small training, and the same training done by hand with plain optimizers.

What trainers are compared with: no trainer, no schedule inside an optimizer and no code of this project.
"""

import math

import schedulefree
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.optim.lr_scheduler import OneCycleLR

STEPS = 12
PEAK, START, END, WARMUP = 0.05, 0.001, 0.002, 4
BETAS = (0.9, 0.95)
PARAMS = {
    "adamw_warmup_cosine_decay": {
        "peak_lr": PEAK,
        "start_lr": START,
        "end_lr": END,
        "warmup_steps": WARMUP,
        "total_steps": STEPS,
    },
    "adamw_cosine_schedule": {"max_lr": PEAK, "total_steps": STEPS},
    "schedule_free_radam": {"lr": PEAK, "betas": BETAS, "silent_sgd_phase": False},
}
"""The parameters of each built-in, by its key."""
SCHEDULED = ["adamw_warmup_cosine_decay", "adamw_cosine_schedule"]
SCHEDULE_FREE = "schedule_free_radam"


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def batch(step, size=8):
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(size, 4, generator=generator), torch.randn(size, 2, generator=generator)


def loss_of(network, batch):
    inputs, targets = batch
    return (network(inputs) - targets).square().mean()


def vector(module):
    """All weights of a module, in one tensor of their own."""
    return parameters_to_vector(module.parameters()).detach().clone()


class Plain:
    """One of the built-ins, made from a plain optimizer.

    Args:
        key: of the built-in.
        module: what to optimize.
    """

    def __init__(self, key, module):
        self.module = module
        self.updates = 0
        self.key = key
        if key == SCHEDULE_FREE:
            self.optimizer = schedulefree.RAdamScheduleFree(
                module.parameters(), lr=PEAK, betas=BETAS, silent_sgd_phase=False
            )
            self.optimizer.train()
        else:
            self.optimizer = torch.optim.AdamW(module.parameters(), lr=PEAK, fused=True)
        if key == "adamw_cosine_schedule":
            self.scheduler = OneCycleLR(self.optimizer, max_lr=PEAK, total_steps=STEPS)

    def step(self):
        (group,) = self.optimizer.param_groups
        if self.key == "adamw_warmup_cosine_decay":
            group["lr"] = warmup_cosine(self.updates)
        self.rate = group["lr"]
        self.optimizer.step()
        if self.key == "adamw_cosine_schedule" and self.updates < STEPS - 1:
            self.scheduler.step()
        if self.key == SCHEDULE_FREE:
            self.rate = group["scheduled_lr"]
        self.updates += 1

    def evaluation_weights(self):
        """x = y + (1 - 1 / beta) * (z - y), where the parameters are y."""
        if self.key != SCHEDULE_FREE:
            return vector(self.module)
        parameters = [p.detach() for p in self.module.parameters()]
        averages = [self.optimizer.state[p].get("z", p) for p in self.module.parameters()]
        weights = [p.lerp(z, 1 - 1 / BETAS[0]).flatten() for p, z in zip(parameters, averages, strict=True)]
        return torch.cat(weights)


def warmup_cosine(update):
    """The rate of an update, counted from 0."""
    if update < WARMUP:
        return START + (PEAK - START) * (update / WARMUP)
    fraction = min(1, (update - WARMUP) / (STEPS - 1 - WARMUP))
    return END + (PEAK - END) * (1 + math.cos(math.pi * fraction)) / 2


class Run:
    """A training by hand, with all that a trainer's is compared with.

    Args:
        key: of the built-in.
        micro_batches: how many batches of each process make an update.
        processes: how many processes share an update's batches; they take turns.
        size: examples in a batch.

    Attributes:
        rates: the rate that each update applied.
        training: the training weights, before the first update and after each.
        evaluation: the evaluation weights at the same times.
    """

    def __init__(self, key, *, micro_batches=1, processes=1, size=8):
        module = network()
        plain = Plain(key, module)
        self.rates, self.training, self.evaluation = [], [vector(module)], [plain.evaluation_weights()]
        for update in range(STEPS):
            gradients = []
            for process in range(processes):
                module.zero_grad()
                for micro_batch in range(micro_batches):
                    index = (update * micro_batches + micro_batch) * processes + process
                    (loss_of(module, batch(index, size)) / micro_batches).backward()
                gradients.append([p.grad for p in module.parameters()])
            for parameter, *shares in zip(module.parameters(), *gradients, strict=True):
                parameter.grad = sum(shares) / processes
            plain.step()
            self.rates.append(plain.rate)
            self.training.append(vector(module))
            self.evaluation.append(plain.evaluation_weights())
