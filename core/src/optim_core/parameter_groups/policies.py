"""The core's own named policies, which come in through its entry point in `optim.hooks`, as anybody's do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from optim_core.configuration.group_rules import number_in
from optim_core.discovery.hook_specifications import hookimpl
from optim_core.optimizer.parameter_names import written_name
from optim_core.parameter_groups.module_layers import layers_of

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["POLICIES", "layer_decay", "no_weight_decay", "optim_param_groups"]


def no_weight_decay(module: nn.Module, argument: Any) -> list[dict[str, Any]]:
    """No weight decay on what has at most one dimension, on biases, and on what the module lists itself.

    A module lists names in a method `no_weight_decay()`, by the convention of timm: they may have wildcards, as
    file names do. Where the component follows that convention in no way, its submodules are asked.

    Raises:
        ValueError: there is an argument; it takes none.
    """
    if argument not in (None, True):
        raise ValueError(f"takes no argument, not {argument!r}")
    parameters = dict(module.named_parameters())
    _require_known_dimensions(parameters.values())
    listed = list(_listed_names(module, "", set()))
    exact = {name for name in listed if not any(sign in name for sign in "*?[")}
    patterns = [name for name in listed if name not in exact]
    spared = [
        parameter
        for name, parameter in ((written_name(name), p) for name, p in parameters.items())
        if parameter.ndim <= 1
        or name.rpartition(".")[2] == "bias"
        or name in exact
        or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    return [{"params": spared, "weight_decay": 0.0}] if spared else []


def layer_decay(module: nn.Module, argument: Any) -> list[dict[str, Any]]:
    """A learning rate that falls by a factor from layer to layer, from the last, which has the whole, to the first.

    "ULMFiT", Howard and Ruder 2018, by a factor as in "BEiT", Bao et al. 2021; see `layers_of` for what the layers
    are.

    Raises:
        ValueError: the factor isn't above 0 and at most 1, or the layers of the module aren't known.
    """
    factor = number_in(argument)
    if factor is None or not 0 < factor <= 1:
        raise ValueError(f"= {argument!r}: must be a factor above 0, at most 1, as in {{layer_decay: 0.75}}")
    parameters = {written_name(name): parameter for name, parameter in module.named_parameters()}
    layers = layers_of(module, parameters)
    last = max(layers.values(), default=0)
    if not last:
        raise ValueError("all parameters are in one layer, so that there is nothing to decay")
    by_layer: dict[int, list[torch.Tensor]] = {}
    for name, layer in layers.items():
        by_layer.setdefault(layer, []).append(parameters[name])
    return [
        {"params": params, "lr_scale": factor ** (last - layer), "label": f"layer {layer} of {last}"}
        for layer, params in sorted(by_layer.items())
    ]


_POLICIES = {"layer_decay": layer_decay, "no_weight_decay": no_weight_decay}
POLICIES = tuple(_POLICIES)


@hookimpl
def optim_param_groups(module: nn.Module, policy: str | None, argument: Any) -> list[dict[str, Any]] | None:
    """The groups of these policies, and nothing where none of them is asked for."""
    return _POLICIES[policy](module, argument) if policy in _POLICIES else None


def _listed_names(module: nn.Module, prefix: str, seen: set[nn.Module]) -> Iterator[str]:
    if module in seen:
        return
    seen.add(module)
    listing = getattr(module, "no_weight_decay", None)
    names = listing() if callable(listing) else listing
    if isinstance(names, Collection) and not isinstance(names, str):
        yield from (f"{prefix}{name}" for name in names)
        return
    if callable(listing):
        kind = type(module).__name__
        raise ValueError(f"no_weight_decay() of {kind} returned {names!r}, not a set of the names of parameters")
    if callable(getattr(module, "group_matcher", None)):
        return  # by timm's convention, which says of the whole model what there is to say
    for name, child in module.named_children():
        yield from _listed_names(child, written_name(f"{prefix}{name}."), seen)


def _require_known_dimensions(parameters: Iterable[torch.Tensor]) -> None:
    # What a lazy module is still to make can be told by the method that makes it; it says it is a vector.
    if any(hasattr(parameter, "materialize") for parameter in parameters):
        raise ValueError(
            "the module has parameters whose dimensions are not known yet. Run the model once on a batch before its "
            "optimizers are built"
        )
