"""What the tests of `optim check` check: the sources of a plugin and a model, and a right configuration of them."""

from __future__ import annotations

from collections.abc import Callable

PLUGIN = '''
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar
import torch
from annotated_types import Gt
from optim_core import Note, ScheduledOptimizer, WarmupCosine

class ScheduledSGD(ScheduledOptimizer, torch.optim.SGD):
    pass

@dataclass
class Warm:
    """SGD with warmup."""
    NOTES: ClassVar = (
        *WarmupCosine.NOTES,
        Note(("momentum", "nesterov"), lambda m, n: n and m > 0.9, "is high for nesterov"),
    )
    RULES: ClassVar = WarmupCosine.RULES
    peak_lr: Annotated[float, Gt(0)]
    total_steps: int
    warmup_steps: int = 0
    start_lr: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False

    def build(self, params):
        shape = {k: v for k, v in asdict(self).items() if k not in ("momentum", "nesterov")}
        options = {"momentum": self.momentum, "nesterov": self.nesterov}
        return ScheduledSGD(params, schedule=WarmupCosine(**shape), **options)

@dataclass
class Plain:
    """SGD as it is."""
    lr: float = 0.1

    def build(self, params):
        return torch.optim.SGD(params, lr=self.lr)
'''
MODEL = """
import torch
print("building")

def build():
    model = torch.nn.Module()
    model.encoder = torch.nn.Linear(3, 4)
    model.decoder = torch.nn.Linear(4, 2, bias=False)
    model.frozen = torch.nn.Linear(5, 5).requires_grad_(False)
    model.extra = torch.nn.Linear(10, 10)
    model.encoder.bias.requires_grad_(False)
    return model

def parts():
    return {"encoder": torch.nn.Linear(3, 4)}

module = torch.nn.ModuleDict({"encoder": torch.nn.Linear(3, 4)})
number = 3

def raising():
    raise RuntimeError("no weights\\non this machine")

def of(size): ...
"""


Check = Callable[..., tuple[int, str, str]]
GOOD = """\
    model:
      component_optims:
        encoder:
          type: warm
          params: {peak_lr: 1e-3, total_steps: 1000, warmup_steps: 100}
        decoder:
          type: plain
    """


WITH_FROZEN = GOOD.rstrip() + "\n        frozen:\n          type: plain\n"
