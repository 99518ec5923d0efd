"""Optimizers that go wrong in one thing while they are saved, restored, copied or dropped."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import torch

from tools_support.sound_optimizer import SoundAdamW, factory_of

__all__ = ["BROKEN"]


class TakesThePositionOut(SoundAdamW):
    """Pops what it reads out of the caller's dictionary."""

    def load_state_dict(self, state_dict: Any, **options: Any) -> None:
        super().load_state_dict(state_dict, **options)
        state_dict.pop("scheduler", None)


class NeverGoesBack(SoundAdamW):
    """Keeps the larger of two positions."""

    def load_state_dict(self, state_dict: Any, **options: Any) -> None:
        before = self.schedule_step
        super().load_state_dict(state_dict, **options)
        self._move_to(max(before, self.schedule_step))


class SavesAnObject(SoundAdamW):
    """Notes in its state when that was saved."""

    def state_dict(self) -> Any:
        return {**super().state_dict(), "saved": timedelta(seconds=1)}


class CannotBePickled(SoundAdamW):
    """Can be copied, and holds something that can't be pickled."""

    def __getstate__(self) -> Any:
        return {**super().__getstate__(), "log": lambda: None}

    def __deepcopy__(self, memo: Any) -> Any:
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        state = self.__getstate__()
        del state["log"]
        other.__setstate__(copy.deepcopy(state, memo))
        return other


class CopiesShareMoments(SoundAdamW):
    """Copies parameters and groups, and has the moments in common with its copies."""

    def __deepcopy__(self, memo: Any) -> Any:
        for state in self.state.values():
            memo.update({id(value): value for value in state.values() if isinstance(value, torch.Tensor)})
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return other


class HidesTheSchedule(SoundAdamW):
    """Has its position in the groups, and nothing that a reader would find."""

    def state_dict(self) -> Any:
        return {name: value for name, value in super().state_dict().items() if name != "scheduler"}


class RestartsUnnoticed(SoundAdamW):
    """Takes a position that it doesn't find for zero."""

    def load_state_dict(self, state_dict: Any, **options: Any) -> None:
        if "scheduler" not in state_dict and "schedule_step" not in state_dict["param_groups"][0]:
            state_dict = {**state_dict, "scheduler": {"step": 0}}
        super().load_state_dict(state_dict, **options)


class MovesBeforeItRefuses(SoundAdamW):
    """Restores its position first, and the rest if that fits."""

    def load_state_dict(self, state_dict: Any, **options: Any) -> None:
        if "scheduler" in state_dict:
            self._move_to(state_dict["scheduler"]["step"])
        super().load_state_dict(state_dict, **options)


class StaysOnItsDevice(SoundAdamW):
    """Puts the moments back on the device that they were saved from."""

    def load_state_dict(self, state_dict: Any, **options: Any) -> None:
        super().load_state_dict(state_dict, **options)
        for state, saved in zip(self.state.values(), state_dict["state"].values(), strict=True):
            state["exp_avg"] = state["exp_avg"].to(saved["exp_avg"].device)


class RoundsHalfPrecision(SoundAdamW):
    """Restores moments of half precision not quite."""

    def load_state_dict(self, state_dict: Any, **options: Any) -> None:
        super().load_state_dict(state_dict, **options)
        for state in self.state.values():
            if state["exp_avg"].dtype == torch.bfloat16:
                state["exp_avg"].mul_(1.05)


class SharesScratch(SoundAdamW):
    """Keeps the same scratch memory for every parameter of a group of several."""

    def update(self, closure: Any) -> Any:
        loss = super().update(closure)
        scratch = torch.zeros(2)
        for group in self.param_groups:
            if len(group["params"]) > 4:
                for parameter in group["params"]:
                    if parameter in self.state:
                        self.state[parameter]["scratch"] = scratch
        return loss


class RefersToItself(SoundAdamW):
    """Holds a bound method of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.own_step = self.step


BROKEN: dict[str, type] = {
    "state-round-trip": factory_of(TakesThePositionOut),
    "state-rewind": factory_of(NeverGoesBack),
    "state-half-precision": factory_of(RoundsHalfPrecision),
    "state-own-memory": factory_of(SharesScratch),
    "state-weights-only": factory_of(SavesAnObject),
    "state-pickle": factory_of(CannotBePickled),
    "state-deepcopy": factory_of(CopiesShareMoments),
    "state-scheduler-key": factory_of(HidesTheSchedule),
    "state-without-schedule": factory_of(RestartsUnnoticed),
    "state-foreign-refused": factory_of(MovesBeforeItRefuses),
    "state-device-move": factory_of(StaysOnItsDevice),
    "state-memory-freed": factory_of(RefersToItself),
}
