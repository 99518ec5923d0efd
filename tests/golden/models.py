"""The tiny models of the golden files. Every value is a formula of its parameter's name, so none is random."""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import torch
from torch import Tensor, nn

__all__ = [
    "Models",
    "batch_norm",
    "complex_numbers",
    "deep",
    "in_order",
    "oddly_named",
    "parameters_of",
    "set_gradients",
    "single",
    "smallest",
    "three",
    "tied",
    "two",
]

Models = nn.Module | dict[str, nn.Module]


def single(dtype: torch.dtype = torch.float64) -> dict[str, nn.Module]:
    """One component, a linear layer."""
    return _filled({"backbone": nn.Linear(2, 2)}, dtype)


def smallest() -> dict[str, nn.Module]:
    """One component with one parameter of two elements."""
    return _filled({"backbone": nn.Linear(2, 1, bias=False)})


def two() -> dict[str, nn.Module]:
    """Two components, linear layers."""
    return _filled({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 1)})


def three() -> dict[str, nn.Module]:
    """Three components, linear layers."""
    return _filled({"embedder": nn.Linear(1, 2), "backbone": nn.Linear(2, 2), "head": nn.Linear(2, 1)})


def deep() -> dict[str, nn.Module]:
    """One component with an embedding, two blocks with norms, and a head."""
    blocks = [nn.ModuleDict({"norm": nn.LayerNorm(2), "mlp": nn.Linear(2, 1, bias=False)}) for _ in range(2)]
    layers = {"embed": nn.Linear(1, 2, bias=False), "blocks": nn.Sequential(*blocks), "head": nn.Linear(1, 1)}
    return _filled({"backbone": nn.ModuleDict(layers)})


def batch_norm() -> nn.Module:
    """One module, whose components are submodules, with buffers."""
    module = nn.ModuleDict({"trunk": nn.ModuleDict({"mlp": nn.Linear(2, 2), "norm": nn.BatchNorm1d(2)})})
    module["head"] = nn.Linear(2, 1)
    module["trunk"]["norm"].running_mean += 0.25
    return _filled({"": module})[""]


def tied() -> dict[str, nn.Module]:
    """One component, whose encoder and decoder share their weight."""
    layers = nn.ModuleDict({"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2)})
    layers["decoder"].weight = layers["encoder"].weight
    return _filled({"backbone": layers})


def complex_numbers() -> dict[str, nn.Module]:
    """One component with complex parameters."""
    weights = {name: nn.Parameter(torch.empty(2, dtype=torch.complex128)) for name in ("phase", "scale")}
    return _filled({"backbone": nn.ParameterDict(weights)}, None)


def oddly_named() -> dict[str, nn.Module]:
    """Components whose names can't be names of files as they are: a slash, and two that differ in case only."""
    return _filled({"ä/é *": nn.Linear(1, 1), "Head": nn.Linear(1, 1), "head": nn.Linear(1, 1)})


def in_order(models: dict[str, nn.Module], *names: str) -> dict[str, nn.Module]:
    """The models, with what is in the backbone registered in this order."""
    backbone = models["backbone"]
    registered = backbone._modules or backbone._parameters
    for name in names:
        registered[name] = registered.pop(name)
    return models


def parameters_of(models: Models) -> dict[str, nn.Parameter]:
    """All parameters, in no matter which order they are registered; a tied one by the first of its names."""
    modules: Mapping[str, nn.Module] = models if isinstance(models, dict) else {"": models}
    named = [
        (f"{component}.{name}", parameter)
        for component, module in modules.items()
        for name, parameter in module.named_parameters(remove_duplicate=False)
    ]
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for name, parameter in sorted(named, key=lambda pair: pair[0]):
        found.setdefault(id(parameter), (name, parameter))
    return dict(found.values())


def set_gradients(models: Models, update: int) -> None:
    """Give what is trainable the gradients of an update; they depend on the weights, as real ones do."""
    for name, parameter in parameters_of(models).items():
        if parameter.requires_grad:
            wave = _wave(parameter, name, 2.3 * (update + 1))
            parameter.grad = (0.5 * wave + 0.1 * parameter.detach().to(wave.dtype)).to(parameter.dtype)


def _filled(models: dict[str, nn.Module], dtype: torch.dtype | None = torch.float64) -> dict[str, nn.Module]:
    for module in models.values():
        module.to(dtype=dtype)
    with torch.no_grad():
        for name, parameter in parameters_of(models).items():
            parameter.copy_(0.5 * _wave(parameter, name, 0.0))
    return models


def _wave(parameter: Tensor, name: str, shift: float) -> Tensor:
    """Values between -1 and 1, without any two alike, in double precision."""
    places = torch.arange(parameter.numel(), dtype=torch.float64).reshape(parameter.shape)
    phases = 1.7 * places + crc32(name.encode()) % 101 + shift
    return torch.complex(phases.sin(), phases.cos()) if parameter.is_complex() else phases.sin()
