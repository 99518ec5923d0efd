"""Scenarios: torch.distributed.checkpoint and models that register their layers in another order."""

import copy
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from training import SUBJECTS, UPDATES, assert_same, own_part

from optim_core import OPTIMIZER_BUILDER_REGISTRY, OptimizerRegistry, build_optimizers

ORDER = ("first", "second", "third")
REORDERED = ("third", "first", "second")
KEYS = {
    "warmup cosine": "adamw_warmup_cosine_decay",
    "one cycle": "adamw_cosine_schedule",
    "schedule-free": "schedule_free_radam",
}
RULES = {
    "one group": [],
    "two groups": [{"match": "bias$", "weight_decay": 0.05}],
    "ordered groups": [{"match": f"^{name}", "weight_decay": 0.1 * place} for place, name in enumerate(ORDER, 2)],
    "rates": [{"match": "bias$", "weight_decay": 0.05}, {"match": "^first", "lr_scale": 0.1}],
}


@dataclass(frozen=True, kw_only=True)
class AdamWFactory:
    """PyTorch's AdamW, which knows nothing of names."""

    lr: float = 0.05
    weight_decay: float = 0.1

    def build(self, params):
        return torch.optim.AdamW(params, lr=self.lr, weight_decay=self.weight_decay)


class Layers(nn.Module):
    def __init__(self, order, seed):
        super().__init__()
        for name in order:
            torch.manual_seed(sum(name.encode()) + seed)
            self.add_module(name, nn.Linear(4, 4))

    def forward(self, inputs):
        return self.third(self.second(self.first(inputs).tanh()).tanh())


class Network(nn.Module):
    """Two components whose parameters have the same names within them."""

    def __init__(self, order, seed):
        super().__init__()
        self.body, self.head = (Layers(order, seed + 10 * number) for number in range(2))
        self.double()

    def forward(self, inputs):
        return self.head(self.body(inputs))


class ReorderedTraining:
    """A network whose layers are in some order, sharded or not, and its two optimizers."""

    def __init__(self, subject, wrap, rules, order, *, seed=0):
        self.network, self._wrap, self.updates = Network(order, seed), wrap, 0
        if wrap == "fsdp":
            mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
            fully_shard(self.network.body, mesh=mesh)
            fully_shard(self.network, mesh=mesh)
        registry = OptimizerRegistry() if subject == "adamw" else OPTIMIZER_BUILDER_REGISTRY
        if subject == "adamw":
            registry.register("adamw", AdamWFactory)
        params = {} if subject == "adamw" else SUBJECTS[subject].arguments()
        spec = {"type": KEYS.get(subject, subject), "params": params, "param_groups": RULES[rules]}
        self.optimizers = build_optimizers(self.network, {"body": spec, "head": spec}, registry=registry)

    def history(self, until):
        weights = []
        while self.updates < until:
            generator = torch.Generator().manual_seed(100 + self.updates)
            inputs = torch.randn(8, 4, generator=generator, dtype=torch.float64)
            if self._wrap == "fsdp":
                inputs = inputs.chunk(distributed.get_world_size())[distributed.get_rank()]
            self.optimizers.zero_grad()
            self.network(inputs).square().mean().backward()
            self.optimizers.step()
            self.updates += 1
            weights.append({name: own_part(p) for name, p in self.network.named_parameters()})
        return weights

    def get(self, how):
        model = self.network
        if how == "together":
            states = get_optimizer_state_dict(model, list(self.optimizers.values()))
        else:
            options = StateDictOptions(flatten_optimizer_state_dict=how == "flattened")
            states = {
                name: get_optimizer_state_dict(model, optimizer, options=options)
                for name, optimizer in self.optimizers.items()
            }
        return {"model": get_model_state_dict(model), "optimizers": states}

    def set(self, state, how):
        set_model_state_dict(self.network, state["model"])
        if how == "together":
            set_optimizer_state_dict(self.network, list(self.optimizers.values()), state["optimizers"])
            return
        options = StateDictOptions(flatten_optimizer_state_dict=how == "flattened")
        for name, optimizer in self.optimizers.items():
            set_optimizer_state_dict(self.network, optimizer, state["optimizers"][name], options=options)

    def options(self):
        """The options that hold for each parameter, and its name in the groups, by its name in the network."""
        names = {id(p): name for name, p in self.network.named_parameters()}
        return {
            names[id(p)]: {**{k: v for k, v in group.items() if k != "params"}, "param_names": own}
            for optimizer in self.optimizers.values()
            for group in optimizer.param_groups
            for p, own in zip(group["params"], group["param_names"], strict=True)
        }


def continues_exactly(subject, wrap, rules, how, folder):
    training = ReorderedTraining(subject, wrap, rules, ORDER)
    resumed = ReorderedTraining(subject, wrap, rules, REORDERED, seed=1)
    training.history(5)
    if folder is None:
        state = copy.deepcopy(training.get(how))
    else:
        checkpoint.save(training.get(how), checkpoint_id=folder)
        state = resumed.get(how)
        checkpoint.load(state, checkpoint_id=folder)
    resumed.set(state, how)
    resumed.updates = 5

    ours, theirs = resumed.options(), training.options()
    assert {name.partition(".")[2]: option["param_names"] for name, option in ours.items()} == {
        name.partition(".")[2]: name.partition(".")[2] for name in ours
    }
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert {k: _plain(v) for k, v in ours[name].items()} == {k: _plain(v) for k, v in theirs[name].items()}, name
    assert_same(resumed.history(UPDATES), training.history(UPDATES))


def refuses(subject, wrap, before, after, how):
    """A state of other groups: PyTorch would make up new ones, with options of one of the old."""
    training = ReorderedTraining(subject, wrap, before, ORDER)
    training.history(5)
    state = copy.deepcopy(training.get(how))
    other = ReorderedTraining(subject, wrap, after, REORDERED, seed=1)
    other.history(2)
    unchanged = other.options()

    refused = False
    try:
        other.set(state, how)
    except (ValueError, KeyError, RuntimeError):
        refused = True
    assert refused, f"a state of {before} was taken for one of {after}"
    assert other.options() == unchanged


def takes_what_was_saved_without_names(subject, wrap, how, folder):
    """As by an earlier version, or by an optimizer that was built without `build_optimizers`."""
    training = ReorderedTraining(subject, wrap, "one group", ORDER)
    resumed = ReorderedTraining(subject, wrap, "one group", REORDERED, seed=1)
    for optimizer in training.optimizers.values():
        for group in optimizer.param_groups:
            del group["param_names"]
    training.history(5)
    checkpoint.save(training.get(how), checkpoint_id=folder)
    state = resumed.get(how)
    checkpoint.load(state, checkpoint_id=folder, planner=DefaultLoadPlanner(allow_partial_load=True))
    resumed.set(state, how)
    resumed.updates = 5
    assert_same(resumed.history(UPDATES), training.history(UPDATES))


def _plain(value):
    return list(value) if isinstance(value, tuple) else value
