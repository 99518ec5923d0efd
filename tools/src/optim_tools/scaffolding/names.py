"""From the name of a plugin to every name in its distribution; and what is wrong with a bad one."""

from __future__ import annotations

import builtins
import importlib.util
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import importlib_metadata

from optim_core import OptimError
from optim_core.for_tools import FACTORIES_GROUP, find_entries, is_well_formed
from optim_tools.inspection.yaml_text import yaml_text

__all__ = ["InvalidNameError", "PluginNames", "names_of"]

_PREFIX = "optim-"
_LONGEST = 30  # characters; with more, lines of the written code would be longer than its own linter has them
_ALLOWED = re.compile(r"[a-z0-9_-]")
_LONGEST_KEY = 60
# Distributions of this project, installed or not: a plugin of the same name would be taken for one of them.
_RESERVED = {
    "core": "it would be the distribution optim-core, which every plugin builds on",
    "tools": "optim-tools is this project's own",
    "workspace": "optim-workspace is this project's own",
    "adamw-warmup-cosine": "optim-adamw-warmup-cosine is this project's own",
    "adamw-onecycle": "optim-adamw-onecycle is this project's own",
    "schedule-free-radam": "optim-schedule-free-radam is this project's own",
    "muon": "optim-muon is this project's own",
}
# What the written modules import under a class's name; a class of such a name would hide it.
_IMPORTED = frozenset(
    {
        *{"Any", "Beta", "Callable", "Claims", "ClassVar", "LearningRate", "NonNegative", "Note", "Optimizer"},
        *{"OptimizerConformance", "ParamsT", "PeakLearningRate", "Rule", "ScheduledOptimizer", "StepCount", "Steps"},
        *{"Tensor", "WarmupCosine"},
    }
)


class InvalidNameError(OptimError, ValueError):
    """A name that no plugin can have.

    Attributes:
        name: the name.
        problems: everything that is wrong with it.
    """

    def __init__(self, name: str, problems: tuple[str, ...]) -> None:
        super().__init__(f"{name!r}: {'; '.join(problems)}")
        self.name = name
        self.problems = problems


@dataclass(frozen=True)
class PluginNames:
    """Every name of one plugin.

    Attributes:
        distribution: what pip installs, and the folder: `optim-my-lion`.
        package: what Python imports: `optim_my_lion`.
        key: what a configuration says as `type`: `my_lion`.
        optimizer: the class of the optimizer, where the plugin has one of its own: `MyLion`.
    """

    distribution: str
    package: str
    key: str
    optimizer: str

    @property
    def scheduled(self) -> str:
        """The class of the optimizer on a schedule."""
        return f"Scheduled{self.optimizer}"

    @property
    def factory(self) -> str:
        """The class that builds it."""
        return f"{self.optimizer}Factory"

    def around(self, wrapped: str) -> PluginNames:
        """The same, with the capitals of a wrapped class that has this name: `NAdamFactory` for `NAdam`."""
        return replace(self, optimizer=wrapped) if wrapped.lower() == self.optimizer.lower() else self


def names_of(name: str, key: str | None = None) -> PluginNames:
    """Derive every name from the one that was chosen, after asking whether it can be had.

    Nothing is imported: neither torch nor any plugin.

    Args:
        name: `my-lion`; with or without `optim-` before it.
        key: the registry key, if it isn't to be the name.

    Raises:
        InvalidNameError: the name, or the key, can't be had; with every reason.
    """
    stem = name.removeprefix(_PREFIX)
    problems = tuple(_problems_of_spelling(stem))
    if problems:
        raise InvalidNameError(name, problems)
    words = re.split("[-_]", stem)
    names = PluginNames(
        distribution=_PREFIX + "-".join(words),
        package="_".join([_PREFIX[:-1], *words]),
        key="_".join(words) if key is None else key,
        optimizer="".join(word.capitalize() for word in words),
    )
    problems = tuple(_problems_of_class(names.optimizer)) + tuple(_problems_of_distribution(names))
    if problems:
        raise InvalidNameError(name, problems)
    problems = tuple(_problems_of_key(names.key, derived=key is None))
    if problems:
        raise InvalidNameError(names.key, problems)
    return names


def _problems_of_spelling(stem: str) -> Iterator[str]:
    if not stem:
        yield "it is empty; a name is as in `my-lion`"
        return
    lower = stem.lower()
    if lower != stem:
        yield f"it has capital letters; {lower!r} would do"
    others = sorted({character for character in lower if not _ALLOWED.fullmatch(character)})
    if others:
        shown = ", ".join(map(repr, others))
        yield f"it has {shown}; a name has letters from a to z, digits and hyphens"
    elif not lower[0].isalpha():
        yield f"it begins with {lower[0]!r}; a name begins with a letter, as the class that is called after it does"
    elif re.search("[-_]$|[-_]{2}", lower):
        yield "a hyphen stands between two words, one at a time"
    if len(stem) > _LONGEST:
        yield f"it has {len(stem)} characters; at most {_LONGEST} are allowed"
    if keyword.iskeyword(stem):
        yield f"it is a keyword of Python; 'my-{stem}' would do"
    reserved = _RESERVED.get(stem.replace("_", "-"))
    if reserved is not None:
        yield f"it is reserved: {reserved}"


def _problems_of_class(optimizer: str) -> Iterator[str]:
    if optimizer in _IMPORTED or hasattr(builtins, optimizer):
        yield f"its class would be {optimizer}, which is the name of another; add a word to it"
    if optimizer.startswith("Test"):
        yield f"its class would be {optimizer}, which pytest takes for tests, as it begins with Test; begin otherwise"


def _problems_of_distribution(names: PluginNames) -> Iterator[str]:
    try:
        version = importlib_metadata.version(names.distribution)
    except importlib_metadata.PackageNotFoundError:
        spec = importlib.util.find_spec(names.package)
        if spec is not None:
            yield f"there is a package {names.package} already, at {spec.origin or 'an unknown place'}"
        return
    yield f"a distribution {names.distribution} ({version}) is installed already"


def _problems_of_key(key: str, *, derived: bool) -> Iterator[str]:
    if not is_well_formed(key):
        yield "is no key: it has letters from a to z, digits and the characters _ . -"
        return
    if len(key) > _LONGEST_KEY:
        yield f"has {len(key)} characters; a key has at most {_LONGEST_KEY}"
    another = f"'{'_'.join(filter(None, ('optim', key.strip('._-'))))}' would do{', with --key' if derived else ''}"
    if yaml_text(key) != key:
        yield f"is no text where YAML reads it without quotes; {another}"
    elif key.startswith("-"):
        yield f"begins with a hyphen, as the options of a command do; {another}"
    elif key.endswith((".yaml", ".yml")):
        yield "ends like a file of YAML, for which the command `optim` would take it; choose another key"
    for entry in find_entries(FACTORIES_GROUP):
        if entry.key == key:
            remedy = "choose another name, or a key with --key" if derived else "choose another key"
            yield f"{entry.distribution} {entry.version} has this key already; {remedy}"
