"""Scenarios: `ComponentOptimizers` over the components of a data-parallel or a sharded network."""

import functools

import torch
from torch import distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from training import (
    PEAK,
    SUBJECTS,
    UPDATES,
    assert_close,
    assert_same,
    one_cycle,
    own_part,
    schedule_free,
    warmup_cosine,
    whole,
)

from optim_core import ComponentOptimizers, build_optimizers, load_checkpoint, save_checkpoint

COMPONENTS = {
    "encoder": ("adamw_warmup_cosine_decay", "warmup cosine"),
    "middle": ("schedule_free_radam", "schedule-free"),
    "head": ("adamw_cosine_schedule", "one cycle"),
}


class Network(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder, self.middle, self.head = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(3, 1)
        self.double()

    def forward(self, inputs):
        return self.head(self.middle(self.encoder(inputs).tanh()).tanh())


class ComponentTraining:
    """A network with an optimizer for each of its three components.

    Args:
        implementation: "built" by build_optimizers, or "naive".
        wrap: "none"; "ddp" around the whole; "ddp of each" component, which are then given as a
            dictionary; "fsdp" of each component and the whole.
        seed: of the initial weights.
    """

    def __init__(self, implementation, wrap, *, seed=0):
        self.network = Network(seed)
        self.model = self.network
        self._distributed = wrap != "none"
        self.updates = 0
        if wrap == "ddp":
            self.model = nn.parallel.DistributedDataParallel(self.network)
        elif wrap == "ddp of each":
            for name in COMPONENTS:
                setattr(self.network, name, nn.parallel.DistributedDataParallel(getattr(self.network, name)))
        elif wrap == "fsdp":
            mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
            for name in COMPONENTS:
                fully_shard(getattr(self.network, name), mesh=mesh)
            fully_shard(self.network, mesh=mesh)
        parts = {name: getattr(self.network, name) for name in COMPONENTS}
        self.models = parts if wrap == "ddp of each" else self.model
        if implementation == "naive":
            self.optimizers = ComponentOptimizers(
                {
                    name: SUBJECTS[f"naive {subject}"].build(parts[name].parameters())
                    for name, (_, subject) in COMPONENTS.items()
                }
            )
        else:
            configuration = {
                name: {"type": key, "params": SUBJECTS[subject].arguments()}
                for name, (key, subject) in COMPONENTS.items()
            }
            self.optimizers = build_optimizers(self.models, configuration)

    def history(self, until):
        """This process's part of the weights after each update up to that one; each rate is checked."""
        weights = []
        while self.updates < until:
            self.update()
            self.assert_rates()
            weights.append(list(map(own_part, self.network.parameters())))
        return weights

    def update(self):
        generator = torch.Generator().manual_seed(100 + self.updates)
        inputs = torch.randn(8, 6, generator=generator, dtype=torch.float64)
        if self._distributed:
            inputs = inputs.chunk(distributed.get_world_size())[distributed.get_rank()]
        self.optimizers.zero_grad()
        (self.model(inputs) - inputs[:, :1].cos()).square().mean().backward()
        self.optimizers.step()
        self.updates += 1

    def weights(self):
        names = [name.replace("module.", "") for name, _ in self.network.named_parameters()]
        return dict(zip(names, map(whole, self.network.parameters()), strict=True))

    def assert_rates(self):
        expected = {
            "encoder": warmup_cosine(self.updates, PEAK)["lr"],
            "middle": schedule_free(self.updates, PEAK)["scheduled_lr"],
            "head": one_cycle(self.updates, PEAK)["lr"],
        }
        torch.testing.assert_close(self.optimizers.learning_rates(), expected, rtol=1e-12, atol=1e-15)


@functools.cache
def uninterrupted(implementation, wrap):
    return ComponentTraining(implementation, wrap).history(UPDATES)


def updates_are_those_of_one_process(implementation, wrap):
    training, alone = ComponentTraining(implementation, wrap), ComponentTraining(implementation, "none")
    training.history(UPDATES)
    alone.history(UPDATES)
    assert_close(training.weights(), alone.weights())


def evaluation_leaves_no_trace(implementation, wrap):
    training = ComponentTraining(implementation, wrap)
    training.history(5)
    before = training.weights()
    with training.optimizers.eval_mode():
        inside = training.weights()
    assert not torch.equal(inside["middle.weight"], before["middle.weight"])
    assert_same(training.weights(), before)
    assert_same(training.history(UPDATES), uninterrupted(implementation, wrap)[5:])


def continues_exactly(implementation, wrap, how, after, folder):
    """Each component's state by itself, or "together" in one call of PyTorch's."""
    training, resumed = ComponentTraining(implementation, wrap), ComponentTraining(implementation, wrap, seed=1)
    training.history(after)
    options = StateDictOptions(flatten_optimizer_state_dict=how == "flattened")

    checkpoint.save(_state(training, options, how), checkpoint_id=folder)
    state = _state(resumed, options, how)
    checkpoint.load(state, checkpoint_id=folder)
    set_model_state_dict(resumed.model, state["model"])
    if how == "together":
        set_optimizer_state_dict(resumed.model, resumed.optimizers.values(), state["optimizers"])
    else:
        for name, optimizer in resumed.optimizers.items():
            set_optimizer_state_dict(resumed.model, optimizer, state["optimizers"][name], options=options)
    resumed.updates = after

    _assert_continues(training, resumed, uninterrupted(implementation, wrap)[after:])


def _state(training, options, how):
    model, optimizers = training.model, training.optimizers
    if how == "together":
        states = get_optimizer_state_dict(model, optimizers.values(), options=options)
    else:
        states = {name: get_optimizer_state_dict(model, o, options=options) for name, o in optimizers.items()}
    return {"model": get_model_state_dict(model), "optimizers": states}


def rank_0_saves_and_all_load(implementation, wrap, after, folder):
    training, resumed = ComponentTraining(implementation, wrap), ComponentTraining(implementation, wrap, seed=1)
    training.history(after)

    if distributed.get_rank() == 0:
        save_checkpoint(folder, training.models, training.optimizers, extra={"updates": training.updates})
    distributed.barrier()
    resumed.updates = load_checkpoint(folder, resumed.models, resumed.optimizers)["updates"]

    assert resumed.updates == after
    _assert_continues(training, resumed, uninterrupted(implementation, wrap)[after:])


def sharded_network_is_not_saved_in_part(implementation, wrap, folder):
    """One process has a part of the weights only; `save_checkpoint` there must say so."""
    training = ComponentTraining(implementation, wrap)
    training.history(5)
    refusal = None
    if distributed.get_rank() == 0:
        try:
            save_checkpoint(folder, training.models, training.optimizers)
        except (ValueError, TypeError) as error:
            refusal = str(error)
    refusals = [None] * distributed.get_world_size()
    distributed.all_gather_object(refusals, refusal)
    assert refusals[0] is not None, "a part of the weights was saved as if it were all"
    assert "torch.distributed.checkpoint" in refusals[0], refusals[0]


def _assert_continues(training, resumed, expected):
    resumed.assert_rates()
    assert_same(training.history(UPDATES), expected)
    assert_same(resumed.history(UPDATES), expected)
