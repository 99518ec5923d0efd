"""Runs whose model may register its layers in any order, the ways from one to another, and what is then compared."""

import copy
import io

import pytest
import torch
from torch import nn

from optim_core import load_checkpoint, save_checkpoint

LAYERS = ("embed", "first", "norm", "second", "head")


class Network(nn.Module):
    """Layers of the same shapes, registered in any order, so that nothing but names tells them apart."""

    def __init__(self, order, seed=0):
        super().__init__()
        for name in order:
            generator = torch.Generator().manual_seed(sum(name.encode()) + seed)
            self.add_module(name, nn.LayerNorm(4) if name == "norm" else nn.Linear(4, 4))
            for parameter in self.get_submodule(name).parameters():
                parameter.data = torch.randn(parameter.shape, generator=generator)

    def group_matcher(self, coarse=False):
        return lambda name: LAYERS.index(name.split(".")[0])

    def forward(self, inputs):
        found = self.second(self.norm(self.first(self.embed(inputs).tanh())).tanh())
        return self.head(found.tanh()) if "head" in self._modules else found


def train(models, optimizers, first, last):
    for step in range(first, last):
        torch.manual_seed(step)
        optimizers.zero_grad()
        models["net"](torch.randn(8, 4)).square().mean().backward()
        optimizers.step()


def states(models, optimizer):
    """A copy of what an optimizer keeps of each parameter, by the parameter's name in the model."""
    names = {id(p): name for name, p in models["net"].named_parameters()}
    return {names[id(p)]: copy.deepcopy(state) for p, state in optimizer.state.items()}


def options(models, optimizer, *, without=()):
    """The options that hold for each parameter, by its name in the model."""
    names = {id(p): name for name, p in models["net"].named_parameters()}
    skipped = {"params", "param_names", *without}
    return {
        names[id(p)]: copy.deepcopy({k: v for k, v in group.items() if k not in skipped})
        for group in optimizer.param_groups
        for p in group["params"]
    }


def weights(models):
    return {name: p.detach().clone() for name, p in models["net"].named_parameters()}


def everything(models, optimizers):
    return weights(models), states(models, optimizers["net"]), options(models, optimizers["net"])


def assert_same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0)


def through_components(run, resumed, folder):
    file = io.BytesIO()
    torch.save((run[0]["net"].state_dict(), run[1].state_dict()), file)
    file.seek(0)
    saved, state = torch.load(file, weights_only=True)
    resumed[0]["net"].load_state_dict(saved)
    resumed[1].load_state_dict(state)


def through_optimizer(run, resumed, folder):
    resumed[0]["net"].load_state_dict(run[0]["net"].state_dict())
    resumed[1]["net"].load_state_dict(copy.deepcopy(run[1]["net"].state_dict()))


def through_checkpoint(run, resumed, folder):
    save_checkpoint(folder, *run)
    load_checkpoint(folder, *resumed)


each_route = pytest.mark.parametrize("route", [through_components, through_optimizer, through_checkpoint])
