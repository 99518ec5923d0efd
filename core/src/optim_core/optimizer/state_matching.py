"""Names of parameters in parameter groups, and states of optimizers that are matched by them.

PyTorch's name for them is `param_names`: a list in each group, beside its "params". What it saves it also loads, but
by position: it leaves matching to a hook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from optim_core.errors import StateMismatchError, listed
from optim_core.optimizer.parameter_names import PARAM_NAMES, written_name

__all__ = [
    "has_state_by_order",
    "match_loaded_state",
    "matched_by_name",
    "matched_state",
    "name_parameters",
    "names_for_group",
    "renamed",
]

_MOST_LISTED = 50


def name_parameters(optimizer: Optimizer, named: Mapping[str, Tensor]) -> None:
    """Put the names of its parameters into the groups of an optimizer, unless it has names of its own.

    Args:
        optimizer: whose groups they are.
        named: the parameters by name; where one of the optimizer's isn't among them, nothing is named.
    """
    groups = optimizer.param_groups
    if any(PARAM_NAMES in group for group in groups):
        return
    name_of = {id(parameter): name for name, parameter in named.items()}
    names = [[name_of.get(id(parameter)) for parameter in group["params"]] for group in groups]
    if not any(None in of_group for of_group in names):
        for group, of_group in zip(groups, names, strict=True):
            group[PARAM_NAMES] = of_group


def names_for_group(param_group: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A parameter group that is to be added to others: with names, if they have names and it has none.

    PyTorch wants either all groups to have names, or none. Those that are made up go by the place in the group.

    Args:
        param_group: as it was given to `add_param_group`.
        groups: those that the optimizer has.
    """
    params = param_group.get("params")
    if (
        PARAM_NAMES in param_group
        or not groups
        or PARAM_NAMES not in groups[0]
        or params is None
        or isinstance(params, set)
    ):
        return dict(param_group)
    listed = [params] if isinstance(params, Tensor) else list(params)
    if any(isinstance(parameter, tuple) for parameter in listed):
        return {**param_group, "params": listed}
    taken = {name for group in groups for name in group.get(PARAM_NAMES, ())}
    number = len(groups)
    while f"param_groups.{number}.0" in taken:
        number += 1
    return {
        **param_group,
        "params": listed,
        PARAM_NAMES: [f"param_groups.{number}.{place}" for place in range(len(listed))],
    }


def matched_by_name(groups: Sequence[Mapping[str, Any]], state: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """A state dict with its groups, and the parameters in each, in the order of an optimizer's.

    Where one of the two has no names, or a tool has matched the state already, as torch.distributed.checkpoint does,
    the state is as it was. It is not changed itself.

    Args:
        groups: the optimizer's `param_groups`.
        state: a state dict.
        owner: the name of the optimizer's class, for messages.

    Raises:
        StateMismatchError: the names differ, or are in other groups together; all of them are listed.
    """
    saved = state.get("param_groups")
    if not isinstance(saved, (list, tuple)) or not all(isinstance(group, Mapping) for group in saved):
        return dict(state)
    own, other = [group.get(PARAM_NAMES) for group in groups], [group.get(PARAM_NAMES) for group in saved]
    if own == other or not any(PARAM_NAMES in group for group in groups):
        return dict(state)
    if _is_matched(saved):
        _require_kept_together(own, saved, owner)
        return {**state, "param_groups": _with_names(saved, own)}
    if not any(PARAM_NAMES in group for group in saved):
        return dict(state)
    ours, theirs = _names_in(groups), _names_in(saved)
    if ours is None or theirs is None:
        whose = "the optimizer" if ours is None else "the checkpoint"
        raise StateMismatchError(
            f"{owner}: the names in {whose} aren't one for each parameter, all of them different, so that it can't be "
            "told what is for which. Take 'param_names' out of the groups to go by their order"
        )
    named = ours
    ours, theirs = _as_written(ours), _as_written(theirs)
    _require_same_names(ours, theirs, owner)
    group_of = {name: index for index, names in enumerate(theirs) for name in names}
    _require_same_groups(ours, theirs, group_of, owner)
    key_of: dict[str, Any] = {}
    for group, names in zip(saved, theirs, strict=True):
        key_of.update(zip(names, group["params"], strict=True))
    empty = iter([group for group, names in zip(saved, theirs, strict=True) if not names])
    placed = []
    for names, kept in zip(ours, named, strict=True):
        group = saved[group_of[names[0]]] if names else next(empty)
        placed.append({**group, "params": [key_of[name] for name in names], PARAM_NAMES: list(kept)})
    return {**state, "param_groups": placed}


def renamed(state: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """A state dict with the first names of tied parameters, which were saved under others of theirs."""
    groups = state.get("param_groups")
    if not aliases or not isinstance(groups, (list, tuple)):
        return dict(state)
    named = [
        {**group, PARAM_NAMES: [aliases.get(name, name) for name in group[PARAM_NAMES]]}
        if group.get(PARAM_NAMES)
        else group
        for group in groups
    ]
    return {**state, "param_groups": named}


def match_loaded_state(optimizer: Optimizer) -> None:
    """Have an optimizer match what it loads by name, by a hook of PyTorch's, unless it does so by itself."""
    # A wrapper may not have called the constructor that hooks need; then what is in it matches. PyTorch has no public
    # name for whether it has, and which hooks there are.
    hooks = vars(optimizer).get("_optimizer_load_state_dict_pre_hooks")
    is_new = hooks is not None and matched_state not in hooks.values()
    if is_new and not getattr(optimizer, "_matches_by_name", False):
        optimizer.register_load_state_dict_pre_hook(matched_state)


def has_state_by_order(optimizer: Optimizer) -> bool:
    """Whether an optimizer's state is of all its parameters together, in their order."""
    return isinstance(optimizer, torch.optim.LBFGS)


def matched_state(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """`matched_by_name` for an optimizer.

    Raises:
        StateMismatchError: as there; or the order differs, and the optimizer's state is of all its parameters together.
    """
    owner = type(optimizer).__name__
    matched = matched_by_name(optimizer.param_groups, state, owner)
    if has_state_by_order(optimizer) and _keys_in(state) != _keys_in(matched):
        raise StateMismatchError(
            f"{owner}: the parameters are in another order than in the checkpoint, and its state is of all together. "
            "Register them in the order in which they were saved"
        )
    return matched


def _keys_in(state: Mapping[str, Any]) -> list[list[Any]]:
    return [list(group.get("params", ())) for group in state["param_groups"]]


def _is_matched(saved: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a tool has matched a state: what it has for parameters are their names then, and not numbers."""
    keys = [key for group in saved for key in group.get("params", ())]
    if not any(isinstance(key, str) for key in keys):
        return False
    # Where JSON was in between, numbers are strings; but parameters may have numbers for names, too.
    names = {name for group in saved for name in group.get(PARAM_NAMES, ())}
    return set(keys) == names or set(keys) != set(map(str, range(len(keys))))


def _as_written(names: list[list[str]]) -> list[list[str]]:
    """Names without what torch.compile puts into them, as long as they differ."""
    written = [[written_name(name) for name in of_group] for of_group in names]
    flat = list(chain.from_iterable(written))
    return written if len(set(flat)) == len(flat) else names


def _with_names(saved: Iterable[Mapping[str, Any]], names: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Saved groups with the names that these have in the optimizer."""
    return [
        {**group, PARAM_NAMES: names[index]} if PARAM_NAMES in group and index < len(names) else group
        for index, group in enumerate(saved)
    ]


def _names_in(groups: Sequence[Mapping[str, Any]]) -> list[list[str]] | None:
    """The names of all parameters by group; None where one has none, or two have the same."""
    found: list[list[str]] = []
    for group in groups:
        names = group.get(PARAM_NAMES)
        if not isinstance(names, (list, tuple)) or len(names) != len(group.get("params", ())):
            return None
        found.append(list(names))
    flat = list(chain.from_iterable(found))
    return found if len(set(flat)) == len(flat) else None


def _require_same_names(ours: Iterable[list[str]], theirs: Iterable[list[str]], owner: str) -> None:
    here = dict.fromkeys(chain.from_iterable(ours))
    there = dict.fromkeys(chain.from_iterable(theirs))
    missing, unexpected = [n for n in here if n not in there], [n for n in there if n not in here]
    if missing or unexpected:
        parts = [f"not in the checkpoint: {listed(missing, _MOST_LISTED)}"] if missing else []
        parts += [f"only in the checkpoint: {listed(unexpected, _MOST_LISTED)}"] if unexpected else []
        what = (
            f"{owner}: the checkpoint is of other parameters; {'; '.join(parts)}. Rename them in the state, or take "
            "'param_names' out of its groups to go by their order"
        )
        raise StateMismatchError(what, missing, unexpected)


def _require_same_groups(
    ours: Sequence[list[str]], theirs: Sequence[list[str]], group_of: Mapping[str, int], owner: str
) -> None:
    if sorted(map(sorted, ours)) == sorted(map(sorted, theirs)):
        return
    parted = [sorted({group_of[name] for name in names}) for names in ours]
    parts = [
        f"group {index} of the optimizer ({_count(names)}) is in {_groups(found, theirs)} of the checkpoint"
        for index, (names, found) in enumerate(zip(ours, parted, strict=True))
        if names and [sorted(names)] != [sorted(theirs[i]) for i in found]
    ]
    if len(ours) != len(theirs):
        parts.append(f"the optimizer has {len(ours)} groups, the checkpoint {len(theirs)}")
    raise StateMismatchError(
        f"{owner}: the checkpoint has the same parameters in other groups: {'; '.join(parts)}. Build it with the same "
        "param_groups as the one that was saved; load_checkpoint also takes changed ones"
    )


def _require_kept_together(ours: Sequence[Any], saved: Sequence[Mapping[str, Any]], owner: str) -> None:
    """Refuse groups that a tool has made up anew, by their parameters, of groups of others."""
    for index, (names, group) in enumerate(zip(ours, saved, strict=False)):
        if names is not None and PARAM_NAMES in group and set(names) != set(group[PARAM_NAMES]):
            here, there = listed(names, _MOST_LISTED), listed(group[PARAM_NAMES], _MOST_LISTED)
            raise StateMismatchError(
                f"{owner}: group {index} has the options of a group of other parameters in the checkpoint: here "
                f"{here}; there {there}. Build it with the same param_groups as the one that was saved"
            )


def _groups(found: Sequence[int], sizes: Sequence[Sequence[str]]) -> str:
    listed = " and ".join(f"{index} ({len(sizes[index])})" for index in found)
    return f"group {listed}" if len(found) == 1 else f"groups {listed}"


def _count(names: Sequence[str]) -> str:
    return "1 parameter" if len(names) == 1 else f"{len(names)} parameters"
