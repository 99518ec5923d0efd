"""Every error and warning of the core, and the one form in which it lists problems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

__all__ = [
    "CaptureError",
    "CheckpointError",
    "CheckpointMismatchError",
    "ConfigurationError",
    "DuplicateOptimizerError",
    "EvaluationModeError",
    "FactoryLoadError",
    "HookLoadWarning",
    "InvalidArgumentsError",
    "InvalidFactoryError",
    "OptimError",
    "OptimWarning",
    "Problem",
    "ResumeWarning",
    "ScheduleWarning",
    "StateMismatchError",
    "UncoveredParametersWarning",
    "UnknownOptimizerError",
    "in_one_line",
    "listed",
]


class OptimError(Exception):
    """Base class of every error that this package raises on its own account."""


class OptimWarning(UserWarning):
    """Category of every warning that this package emits."""


class HookLoadWarning(OptimWarning):
    """A distribution's hooks can't be used; everything else goes on without them."""


class ResumeWarning(OptimWarning):
    """A run continues under a configuration that differs from the checkpoint's."""


class ScheduleWarning(OptimWarning):
    """A schedule is not what someone may believe: it is past its end, overwritten, or was changed."""


class UncoveredParametersWarning(OptimWarning):
    """Trainable parameters that no configured component has will not be trained."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it is, what it is, and what to do about it.

    Attributes:
        path: where, as a dotted path (`model.component_optims.backbone.params.peak_lr`) or the
            name of an argument.
        message: what is wrong, without a full stop.
        hint: what to do next, as a sentence; None where the message says it all.
        line: the line in the configuration file, counted from 1, where there is a file.
        cause: the exception behind the problem, where there is one.
    """

    path: str
    message: str
    hint: str | None = None
    line: int | None = None
    cause: BaseException | None = field(default=None, compare=False, repr=False)

    def below(self, prefix: str) -> Problem:
        """The same problem seen from further up: its path is prefixed with `prefix`."""
        return replace(self, path=f"{prefix}.{self.path}" if self.path else prefix)

    def __str__(self) -> str:
        separator = "" if not self.path else " " if self.message.startswith("=") else ": "
        line = "" if self.line is None else f"line {self.line}: "
        hint = f". {self.hint}" if self.hint else ""
        return f"{line}{self.path}{separator}{self.message}{hint}"


def in_one_line(error: BaseException) -> str:
    """An exception's type and message, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def listed(names: Sequence[str], most: int) -> str:
    """Names for a message; of more than `most`, how many more there are."""
    shown = ", ".join(map(repr, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


class _ProblemsError(OptimError):
    """An error that lists problems below one headline."""

    def __init__(self, subject: str, problems: Iterable[Problem]) -> None:
        self.subject = subject
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(subject, self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.subject}: {self.problems[0]}"
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"{self.subject}: {len(self.problems)} problems{lines}"


class InvalidArgumentsError(_ProblemsError, ValueError):
    """Arguments that a schedule, a factory or an optimizer refuses.

    Attributes:
        subject: the name of the class that refuses them.
        problems: every problem found, one for each argument or rule.
    """


class ConfigurationError(_ProblemsError, ValueError):
    """A configuration from which no optimizers can be built; nothing has been built.

    Attributes:
        subject: the file, or "configuration" where it came as a mapping.
        problems: every problem found, each with its path (and line, from a file).
    """


class UnknownOptimizerError(OptimError, KeyError):
    """No factory is installed or registered under the key that was asked for.

    Attributes:
        key: what was asked for.
        known: every key that could have been, sorted.
        near: those spelt most like it, best first.
        reason: why a key that exists all the same can't be used; None where it doesn't exist.
    """

    def __init__(
        self,
        key: str,
        known: Sequence[str] = (),
        near: Sequence[str] = (),
        reason: str | None = None,
    ) -> None:
        super().__init__(key, tuple(known), tuple(near), reason)
        self.key = key
        self.known = tuple(known)
        self.near = tuple(near)
        self.reason = reason

    def __str__(self) -> str:
        text = f"no optimizer is known as {self.key!r}"
        if self.reason:
            return f"{text}: {self.reason}"
        if self.near:
            text += "; did you mean " + " or ".join(repr(key) for key in self.near) + "?"
        if not self.known:
            return (
                f"{text}; none is installed. Install a distribution that provides it (with pip), or "
                "register a factory with OPTIMIZER_BUILDER_REGISTRY.register()"
            )
        listing = ", ".join(self.known)
        joiner = " Known" if text.endswith("?") else ". Known"
        return f"{text}{joiner}: {listing}. If it is another distribution's, install that with pip"


class DuplicateOptimizerError(OptimError, ValueError):
    """Two providers claim one key, so that it is unclear which is meant.

    Attributes:
        key: the contested key.
        providers: who claims it, as readable texts.
    """

    def __init__(self, key: str, providers: Sequence[str], remedy: str) -> None:
        super().__init__(key, tuple(providers), remedy)
        self.key = key
        self.providers = tuple(providers)
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.key!r} is claimed by {' and by '.join(self.providers)}. {self.remedy}"


class FactoryLoadError(OptimError, ImportError):
    """An installed factory exists but can't be imported; the cause is chained.

    Attributes:
        key: the registry key that was asked for.
        distribution: the name of the distribution that provides it.
        version: that distribution's version.
        value: the entry point's object reference, `package.module:Class`.
    """

    def __init__(self, key: str, distribution: str, version: str, value: str, cause: BaseException) -> None:
        super().__init__(key, distribution, version, value, cause)
        self.key = key
        self.distribution = distribution
        self.version = version
        self.value = value
        self.cause = cause

    def __str__(self) -> str:
        return (
            f"the factory of {self.key!r} ({self.value}, from {self.distribution} {self.version}) can't be "
            f"imported: {type(self.cause).__name__}: {self.cause}. Reinstall or upgrade {self.distribution}, "
            f"or report this to its authors; other keys are not affected"
        )


class InvalidFactoryError(OptimError, TypeError):
    """What a key stands for is no factory: not a class, or one without `build`.

    Attributes:
        key: the registry key.
        provider: who offers it, as a readable text.
    """

    def __init__(self, key: str, provider: str, what: str) -> None:
        super().__init__(key, provider, what)
        self.key = key
        self.provider = provider
        self.what = what

    def __str__(self) -> str:
        return (
            f"{self.key!r} from {self.provider} is no optimizer factory: {self.what}. A factory is a class "
            "whose constructor takes the configuration's params and which has a method build(params)"
        )


class EvaluationModeError(OptimError, RuntimeError):
    """`step()` was called while the parameters are the evaluation weights; nothing was changed."""


class CaptureError(OptimError, RuntimeError):
    """A step that can't be captured in a CUDA graph as it is; nothing was changed."""


class StateMismatchError(OptimError, ValueError):
    """A state dict that doesn't fit the optimizer it was given to; the optimizer is as it was.

    Attributes:
        missing: the names of parameters that the optimizer has and the state hasn't.
        unexpected: the names of parameters that only the state has.
    """

    def __init__(self, message: str, missing: Sequence[str] = (), unexpected: Sequence[str] = ()) -> None:
        super().__init__(message, tuple(missing), tuple(unexpected))
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)

    def __str__(self) -> str:
        return str(self.args[0])


class CheckpointError(OptimError):
    """A checkpoint that can't be read: not there, incomplete or damaged; nothing has been changed.

    Attributes:
        path: the file or folder at fault.
    """

    def __init__(self, path: object, what: str) -> None:
        super().__init__(path, what)
        self.path = path
        self.what = what

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


class CheckpointMismatchError(_ProblemsError, CheckpointError, ValueError):
    """A sound checkpoint of something else: other components, weights, optimizers or, where that was
    asked for, other parameters; nothing has been changed.

    Attributes:
        path: the checkpoint's folder.
        problems: every difference found.
    """

    def __init__(self, path: object, problems: Iterable[Problem]) -> None:
        _ProblemsError.__init__(self, str(path), problems)
        self.path = path
