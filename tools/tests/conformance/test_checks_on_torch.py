"""The checks are fair: PyTorch's own optimizers pass all that applies, but for known faults of theirs."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import optim

from optim_core import Claims
from optim_tools.conformance import CHECKS, Outcome, Subject, verify

pytestmark = pytest.mark.slow

LBFGS_CLAIMS = Claims(
    needs_closure=True,
    groups=False,
    expected_failures={
        "construction-non-contiguous-parameters": "it looks at gradients with view()",
        "training-gradient-none": "it takes a gradient that isn't there for zero, in the norm of all",
        "training-without-gradient-unmoved": "its direction is that of all parameters together",
        "state-pickle": "Optimizer.__getstate__ doesn't keep its attribute `_params`",
        "state-deepcopy": "Optimizer.__getstate__ doesn't keep its attribute `_params`",
    },
)
# Older versions make the state of parameters in the constructor only.
ADAGRAD_CLAIMS = Claims(
    expected_failures={}
    if "initial_accumulator_value" in inspect.getsource(optim.Adagrad._init_group)
    else {"training-late-group": "its state is made in its constructor only"}
)
ADAFACTOR_CLAIMS = Claims(empty=False)
MATRICES = Claims(vectors=False, scalars=False, empty=False)
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any], Claims]] = {
    "SGD": (optim.SGD, {}, Claims()),
    "SGD with momentum": (optim.SGD, {"momentum": 0.9, "dampening": 0.1}, Claims()),
    "Adam": (optim.Adam, {}, Claims()),
    "Adam with amsgrad": (optim.Adam, {"amsgrad": True}, Claims()),
    "Adam, fused": (optim.Adam, {"fused": True}, Claims()),
    "AdamW": (optim.AdamW, {}, Claims()),
    "RMSprop": (optim.RMSprop, {"momentum": 0.5, "centered": True}, Claims()),
    "Adagrad": (optim.Adagrad, {"lr_decay": 0.1}, ADAGRAD_CLAIMS),
    "NAdam": (optim.NAdam, {}, Claims()),
    "RAdam": (optim.RAdam, {}, Claims()),
    "Adamax": (optim.Adamax, {}, Claims()),
    "ASGD": (optim.ASGD, {"t0": 3.0}, Claims()),
    "Rprop": (optim.Rprop, {}, Claims()),
    "Adadelta": (optim.Adadelta, {"lr": 1.0}, Claims()),
    "Adafactor": (optim.Adafactor, {}, ADAFACTOR_CLAIMS),
    "LBFGS": (optim.LBFGS, {}, LBFGS_CLAIMS),
    **({"Muon": (optim.Muon, {}, MATRICES)} if hasattr(optim, "Muon") else {}),
}


def factory_over(cls: Any, options: dict[str, Any], claims: Claims) -> type:
    class Factory:
        """One of PyTorch's own."""

        CLAIMS = claims
        example_params = {"lr": options.get("lr", 0.01)}  # noqa: RUF012

        def __init__(self, lr: float) -> None:
            self.lr = lr

        def build(self, params: Any) -> torch.optim.Optimizer:
            return cls(params, **{**options, "lr": self.lr})  # type: ignore[no-any-return]

    return Factory


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_own_optimizer_of_pytorch_passes_all_that_applies(name: str) -> None:
    results = list(verify(Subject(factory_over(*OPTIMIZERS[name]))))
    assert {r.identifier: (r.seen, r.expected) for r in results if r.outcome.is_fault} == {}
    assert sum(r.outcome is Outcome.PASSED for r in results) > 20


def test_optimizers_have_modes_or_a_schedule_only_where_they_have() -> None:
    results = list(verify(Subject(factory_over(*OPTIMIZERS["AdamW"]))))
    outcomes = {r.identifier: r.outcome for r in results}
    families = {c.identifier for c in CHECKS if c.family in ("modes", "schedule")}
    assert {outcomes[identifier] for identifier in families} == {Outcome.NOT_APPLICABLE}
