"""The cases of the golden files, by the name of their folder.

Never change a case that has files. Add another one, and write its files with `write_golden_files`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import schedulefree
import torch

from optim_core import ResumeWarning, ScheduleWarning

from .actions import (
    LONG,
    change_by_hand,
    evaluate,
    join_head,
    switch_to_training,
    thaw,
    train,
    train_and_join_head,
    train_and_thaw,
)
from .building import FREE, SGD, bare, components, named, one_of, sgd, spec
from .models import batch_norm, complex_numbers, deep, in_order, oddly_named, single, smallest, three, tied, two
from .run import Case

__all__ = ["CASES"]

EXTRA = {"step": 7, "note": "golden", "nested": {"values": [1.5, None, True]}, "tensor": torch.arange(3)}
THREE = components(embedder=spec("warmup"), backbone=spec("one_cycle"), head=spec("free"))
RULES = [
    {"match": r"^blocks\.0\.mlp", "freeze": True},
    {"match": "norm|bias$", "weight_decay": 0.0},
    {"match": "^embed", "lr_scale": 0.1},
]
OTHER_RULES = [{"match": "norm", "betas": [0.8, 0.95], "eps": 1e-6}, {"ndim": 2, "lr": 0.02}]
RULE_FOR_NORMS = {"match": "norm", "weight_decay": 0.2}
FROZEN = [{"match": "bias$", "freeze": True}]
POLICIES = ["no_weight_decay", {"layer_decay": 0.5}]
THREE_PHASES = {"three_phase": True, "anneal_strategy": "linear", "last_epoch": 2, "total_steps": 20}
OTHER_FREE = {"r": 1.0, "silent_sgd_phase": False, "foreach": False, "betas": (0.8, 0.99)}


def checkpoint(build: Any, models: Any = single, **others: Any) -> Case:
    """A checkpoint after some updates."""
    return Case(**{"models": models, "build": build, "before": train(LONG), **others})


def component(kind: str, models: Any = single, **options: Any) -> Case:
    """A checkpoint of one component after some updates; see `spec`."""
    return checkpoint(components(backbone=spec(kind, **options)), models)


def state(build: Any, models: Any = single, **others: Any) -> Case:
    """A state dict after some updates."""
    return checkpoint(build, models, **{"form": "state_dict", **others})


def reordered() -> Any:
    """The deep model, with its layers registered in another order."""
    return in_order(deep(), "head", "embed", "blocks")


def tied_reordered() -> Any:
    """The tied model, whose weight has another first name."""
    return in_order(tied(), "decoder", "encoder")


def changes(*words: str) -> tuple[type[Warning], str]:
    """The warning that the configuration has changed, with these words in any order."""
    found = "".join(f"(?=.*{re.escape(word)})" for word in words)
    return ResumeWarning, f"the configuration has changed, and the configuration's values hold{found}"


def frozen_head() -> Any:
    """Two components, of which the head is frozen."""
    models = two()
    models["head"].requires_grad_(False)
    return models


def free_of_the_library(models: Any) -> Any:
    """The class that schedule-free RAdam is derived from."""
    optimizer = schedulefree.RAdamScheduleFree(models["backbone"].parameters(), **FREE)
    optimizer.train()  # it starts in evaluation mode
    return optimizer


CHECKPOINTS = {
    # Each built-in, all together, and an optimizer made with the mix-in.
    "warmup_cosine": replace(component("warmup"), extra=EXTRA),
    "one_cycle": component("one_cycle"),
    "schedule_free": component("free"),
    "schedule_free_fused": component("free", fused=True),
    "three_components": checkpoint(THREE, three),
    "sgd_with_the_mixin": checkpoint(components(SGD)),
    # Options of AdamW, and kinds of parameters.
    "tensor_rate_one_cycle": component("one_cycle", max_lr=torch.tensor(0.05)),
    "bfloat16": component("warmup", lambda: single(torch.bfloat16)),
    # Evaluation weights.
    "schedule_free_evaluated": replace(component("free"), before=evaluate, after=switch_to_training),
    "schedule_free_fused_evaluated": replace(component("free", fused=True), before=evaluate, after=switch_to_training),
    # Positions.
    "before_the_first_step": Case(models=three, build=THREE),
    "past_the_end": replace(component("warmup", total_steps=5), past_end=True),
    # Parameter groups.
    "rules": component("warmup", deep, groups=RULES),
    "rules_schedule_free": component("free", deep, groups=RULES),
    "policies": component("warmup", deep, groups=POLICIES),
    "frozen_component": checkpoint(components(backbone=spec("warmup"), head=spec("free")), frozen_head),
    "frozen_group_thawed": replace(component("warmup", groups=FROZEN), before=train_and_thaw, after=thaw),
    "late_group": replace(
        component("warmup", two), before=train_and_join_head(lr=0.02), before_loading=join_head(lr=0.02)
    ),
    "late_group_schedule_free": replace(
        component("free", two), before=train_and_join_head(weight_decay=0.0), before_loading=join_head(weight_decay=0.0)
    ),
    "options_changed_by_hand": replace(component("warmup"), before=change_by_hand),
    # Names of parameters and of components.
    "tied": component("warmup", tied),
    "one_module": checkpoint(components({"trunk.mlp": spec("warmup"), "head": spec("free")}), batch_norm),
    "odd_names": checkpoint(
        components({"ä/é *": spec("warmup"), "Head": spec("free"), "head": spec("one_cycle")}), oddly_named
    ),
}

STATE_DICTS = {
    # Each built-in and the mix-in: by itself, in both modes, at the beginning and past the end.
    "state_warmup_cosine": state(one_of("warmup")),
    "state_one_cycle": state(one_of("one_cycle")),
    "state_schedule_free": state(one_of("free")),
    "state_schedule_free_evaluated": state(one_of("free"), before=evaluate, after=switch_to_training),
    "state_schedule_free_fused": state(one_of("free", fused=True)),
    "state_sgd_with_the_mixin": state(lambda models: sgd(models["backbone"].parameters(), momentum=0.9)),
    "state_before_the_first_step": state(one_of("warmup"), before=train(0)),
    "state_schedule_free_before_the_first_step": state(one_of("free"), before=train(0)),
    "state_in_the_warmup": state(one_of("warmup"), before=train(2)),
    "state_past_the_end": state(one_of("one_cycle", total_steps=5), past_end=True),
    # Options.
    "state_amsgrad_and_maximize": state(one_of("warmup", amsgrad=True, maximize=True)),
    "state_fused": state(one_of("one_cycle", fused=True), lambda: single(torch.float32)),
    "state_complex": state(one_of("warmup"), complex_numbers),
    "state_capturable": state(one_of("one_cycle", capturable=True, fused=True)),
    "state_foreach": state(one_of("warmup", foreach=True)),
    "state_one_by_one": state(one_of("warmup", foreach=False, fused=False)),
    "state_float32": state(one_of("warmup"), lambda: single(torch.float32)),
    "state_float32_schedule_free": state(one_of("free"), lambda: single(torch.float32)),
    "state_tensor_rate": state(one_of("one_cycle", max_lr=torch.tensor(0.05))),
    "state_three_phases": state(one_of("one_cycle", **THREE_PHASES)),
    "state_by_epochs": state(one_of("one_cycle", total_steps=None, epochs=3, steps_per_epoch=5, cycle_momentum=False)),
    "state_other_options_schedule_free": state(one_of("free", **OTHER_FREE)),
    # Parameter groups, and parameters with and without names.
    "state_rules": state(one_of("warmup", groups=RULES), deep),
    "state_rules_one_cycle": state(one_of("one_cycle", groups=OTHER_RULES), deep),
    "state_with_names": state(named("warmup")),
    "state_without_names": state(bare("warmup")),
    "state_without_names_schedule_free": state(bare("free")),
    "state_late_group": state(
        one_of("one_cycle"), two, before=train_and_join_head(lr=0.02), before_loading=join_head(lr=0.02)
    ),
    "state_late_group_without_names": state(
        bare("free"), two, before=train_and_join_head(lr=0.02), before_loading=join_head(lr=0.02)
    ),
    # The classes that the built-in ones are derived from, whose states they load.
    "state_of_pytorch": state(
        lambda models: torch.optim.AdamW(models["backbone"].parameters(), lr=0.05),
        build_later=bare("warmup"),
        warning=(ScheduleWarning, "no position of this optimizer's schedule; it continues from step 8"),
    ),
    "state_of_schedulefree": state(free_of_the_library, build_later=bare("free")),
    # Of all components.
    "components": state(THREE, three),
    "components_before_the_first_step": state(THREE, three, before=train(0)),
    "components_tied": state(components(backbone=spec("warmup")), tied),
    # torch.distributed.checkpoint, which leaves the key "scheduler" out.
    # Its files are large: a record for each value.
    "distributed": state(one_of("one_cycle"), smallest, form="distributed"),
    "distributed_flattened": state(one_of("warmup"), smallest, form="flattened"),
    "distributed_schedule_free": state(one_of("free"), smallest, form="distributed"),
}

SAVED: dict[str, Case] = CHECKPOINTS | STATE_DICTS


def loaded(name: str, **others: Any) -> Case:
    """A case that loads the files of another one into other models or optimizers."""
    return replace(SAVED[name], saved_as=name, **others)


LOADED_INTO_OTHERS = {
    # Another order.
    "layers_in_another_order": loaded("rules", models_later=reordered),
    "layers_in_another_order_schedule_free": loaded("rules_schedule_free", models_later=reordered),
    "tied_in_another_order": loaded("tied", models_later=tied_reordered),
    "components_tied_in_another_order": loaded("components_tied", models_later=tied_reordered),
    "state_with_names_in_another_order": loaded(
        "state_with_names", models_later=lambda: in_order(single(), "bias", "weight")
    ),
    # Another configuration.
    "longer_horizon": loaded(
        "warmup_cosine",
        build_later=components(backbone=spec("warmup", total_steps=30)),
        warning=changes("backbone.total_steps: is 12 in the checkpoint and 30 now"),
    ),
    "other_options": loaded(
        "one_cycle",
        build_later=components(backbone=spec("one_cycle", max_lr=0.02, weight_decay=0.3, cycle_momentum=False)),
        warning=changes("backbone.max_lr: is", "backbone.cycle_momentum: is", "backbone.weight_decay: is"),
    ),
    "other_options_schedule_free": loaded(
        "schedule_free",
        build_later=components(backbone=spec("free", lr=0.02, betas=(0.8, 0.999))),
        warning=changes("backbone.lr: is", "backbone.betas: is"),
    ),
    "other_rules": loaded(
        "rules",
        build_later=components(backbone=spec("warmup", groups=[RULES[0], RULES[2], RULE_FOR_NORMS])),
        warning=changes("backbone: has its parameters in other groups"),
    ),
    "state_longer_horizon": loaded(
        "state_one_cycle",
        build_later=one_of("one_cycle", total_steps=30),
        warning=(ScheduleWarning, "the saved schedule differs; the configuration's values hold from step 8"),
    ),
    # Other forms of the same: names, tensors, fused steps.
    "state_without_names_into_names": loaded("state_without_names", build_later=one_of("warmup")),
    "state_with_names_into_none": loaded("state_with_names", build_later=bare("warmup")),
    "state_tensor_rate_into_a_number": loaded("state_tensor_rate", build_later=one_of("one_cycle")),
    "state_number_into_a_tensor_rate": loaded(
        "state_one_cycle", build_later=one_of("one_cycle", max_lr=torch.tensor(0.05, dtype=torch.float64))
    ),
    "schedule_free_into_fused": loaded(
        "schedule_free",
        build_later=components(backbone=spec("free", fused=True)),
        warning=changes("backbone.fused: is False in the checkpoint and True now"),
    ),
}

CASES: dict[str, Case] = SAVED | LOADED_INTO_OTHERS
