"""Optimizers that one of PyTorch's tools doesn't get along with."""

from __future__ import annotations

from typing import Any

import torch

from optim_core.authoring import is_dry_step
from tools_support.sound_optimizer import SoundAdamW, factory_of

__all__ = ["BROKEN"]


class RunsHooksTwice(SoundAdamW):
    """Wraps its step as PyTorch is going to do anyway."""

    @torch.optim.Optimizer.profile_hook_step
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class CountsSkippedUpdates(SoundAdamW):
    """Moves on by an update that a gradient scaler skipped."""

    def update(self, closure: Any) -> Any:
        loss = super().update(closure)
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None and float(found_inf):
            self._move_to(self.schedule_step + 1)
        return loss


class CountsTheDryStep(SoundAdamW):
    """Moves on by the step that a distributed checkpoint makes to see the state."""

    def update(self, closure: Any) -> Any:
        dry = closure is None and is_dry_step(self, [written.options["lr"] for written in self._written])
        loss = super().update(closure)
        if dry:
            self._move_to(self.schedule_step + 1)
        return loss


class KeepsThePositionApart(SoundAdamW):
    """Has its position under its own key only, and refuses a state without."""

    def state_dict(self) -> Any:
        state = super().state_dict()
        groups = [{k: v for k, v in group.items() if k != "schedule_step"} for group in state["param_groups"]]
        return {**state, "param_groups": groups}

    def load_state_dict(self, state_dict: Any, **options: Any) -> None:
        if "scheduler" not in state_dict:
            raise ValueError("no schedule in this state")
        super().load_state_dict(state_dict, **options)


_LOG: list[float] = []


class KeepsALog(SoundAdamW):
    """Looks into a list that has an entry for each update."""

    def update(self, closure: Any) -> Any:
        loss = super().update(closure)
        if len(_LOG) == 50:  # the compiler takes its time for each
            _LOG.clear()
        _LOG.append(0.0)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(_LOG[-1])
        return loss


BROKEN: dict[str, type] = {
    "tools-step-hooks": factory_of(RunsHooksTwice),
    "tools-grad-scaler": factory_of(CountsSkippedUpdates),
    "tools-distributed-reading": factory_of(CountsTheDryStep),
    "tools-distributed-round-trip": factory_of(KeepsThePositionApart),
    "tools-compile": factory_of(KeepsALog),
}
