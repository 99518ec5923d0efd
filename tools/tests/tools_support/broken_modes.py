"""Optimizers with modes that go wrong in one thing while they are switched."""

from __future__ import annotations

from typing import Any

from tools_support.sound_modes import SoundModes, modes_factory_of

__all__ = ["BROKEN"]


class StartsInEvaluation(SoundModes):
    """Has to be switched to training first."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for group in self.param_groups:
            group["train_mode"] = False


class LeavesEmptyEntries(SoundModes):
    """Looks each parameter up in its state, which makes an entry where there is none."""

    def switch(self, train_mode: bool, weight: Any) -> None:
        super().switch(train_mode, weight)
        if not train_mode:
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]


class SwitchesHalfway(SoundModes):
    """Isn't back at the training weights after an evaluation."""

    def train(self) -> None:
        self.switch(True, lambda beta: (1 - beta) / 2)


class StepsInEvaluation(SoundModes):
    """Updates whatever weights are in place."""

    def require_training(self) -> None:
        pass


class ForgetsItsMode(SoundModes):
    """Is in training mode after each load."""

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["train_mode"] = True


class LeavesLateGroupsOut(SoundModes):
    """Adds each group in training mode, whatever the mode is."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self.param_groups[-1]["train_mode"] = True


BROKEN: dict[str, type] = {
    "modes-start": modes_factory_of(StartsInEvaluation),
    "modes-idempotent": modes_factory_of(LeavesEmptyEntries),
    "modes-exact": modes_factory_of(SwitchesHalfway),
    "modes-step-refused": modes_factory_of(StepsInEvaluation),
    "modes-state": modes_factory_of(ForgetsItsMode),
    "modes-late-group": modes_factory_of(LeavesLateGroupsOut),
}
