"""Which parameters are for Muon and which for AdamW: by their shape, and by their place in a module."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

from optim_core import InvalidArgumentsError, Problem
from torch import Tensor, nn

__all__ = ["ALGORITHMS", "Algorithm", "algorithm_of", "fits_muon", "parameter_groups"]

Algorithm = Literal["muon", "adamw"]
_log = logging.getLogger("optim_muon")
ALGORITHMS: tuple[Algorithm, ...] = ("muon", "adamw")


def fits_muon(parameter: Any) -> bool:
    """Whether Muon can update a parameter: it takes real matrices only."""
    return isinstance(parameter, Tensor) and parameter.ndim == 2 and not parameter.is_complex()


def algorithm_of(parameter: Any) -> Algorithm:
    """What a parameter is for where its shape is all that is known of it."""
    return "muon" if fits_muon(parameter) and parameter.numel() > 0 else "adamw"


def parameter_groups(module: nn.Module, adamw_names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """A module's parameters as a group for Muon and one for AdamW, of those that there are.

    Muon is for the hidden layers: for matrices that are neither an embedding nor an output layer. All
    else is for AdamW: embeddings (with whatever is tied to them), norms, biases, the kernels of convolutions.

    >>> from torch import nn
    >>> from optim_muon import parameter_groups
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> [(group["algorithm"], [tuple(p.shape) for p in group["params"]]) for group in parameter_groups(model)]
    [('muon', [(8, 8)]), ('adamw', [(8,), (8,), (8,), (2, 8), (2,)])]

    Args:
        module: whose parameters they are.
        adamw_names: patterns, as of file names, of the parameters that are for AdamW whatever they look like:
            ["head.*", "positions"]. If None, the last linear layer is taken to be the output; the logger
            `optim_muon` says which that is.

    Raises:
        InvalidArgumentsError: the patterns are a single text, or one is not that of any parameter.
    """
    if isinstance(adamw_names, str):
        # A text is a sequence too: of patterns of one letter each.
        problem = Problem("adamw_names", f"= {adamw_names!r}: must be a list", f"Write [{adamw_names!r}]")
        raise InvalidArgumentsError(type(module).__name__, [problem])
    chosen = _last_linear(module) if adamw_names is None else _matching(module, adamw_names)
    # By identity: a tied parameter is the embedding's and the output layer's.
    for_adamw = {id(parameter) for parameter in (*_embeddings(module), *chosen)}
    groups: dict[Algorithm, list[nn.Parameter]] = {algorithm: [] for algorithm in ALGORITHMS}
    for parameter in module.parameters():
        groups["adamw" if id(parameter) in for_adamw else algorithm_of(parameter)].append(parameter)
    return [{"params": found, "algorithm": algorithm} for algorithm, found in groups.items() if found]


def _embeddings(module: nn.Module) -> Iterable[nn.Parameter]:
    for layer in module.modules():
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
            yield from layer.parameters()


def _last_linear(module: nn.Module) -> Iterable[nn.Parameter]:
    linear = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        return ()
    name, layer = linear[-1]
    _log.info("%s: taken to be the output, and so for AdamW: %s", type(module).__name__, name or "the module itself")
    return layer.parameters()


def _matching(module: nn.Module, patterns: Sequence[str]) -> list[nn.Parameter]:
    # Also the other names of tied parameters.
    named = list(module.named_parameters(remove_duplicate=False))
    unused = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name, _ in named)]
    if unused:
        some = ", ".join(name for name, _ in named[:5])
        hint = f"Its parameters are {some}" + (", ..." if len(named) > 5 else "")
        problems = [Problem("adamw_names", f"= {pattern!r}: no parameter has such a name", hint) for pattern in unused]
        raise InvalidArgumentsError(type(module).__name__, problems)
    return [parameter for name, parameter in named if any(fnmatchcase(name, pattern) for pattern in patterns)]
