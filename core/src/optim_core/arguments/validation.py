"""Validation of arguments against a class's own signature: its annotations, and rules across them.

One mechanism serves configuration (`params` of a component), direct construction of factories and
schedules, and the optimizers' own constructors, so that all of them report every problem at once
and in the same words. Types and constraints (`annotated_types`, `pydantic.Field`) are read from the
annotations and checked by pydantic.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pydantic

from optim_core.arguments.signatures import Signature, defaults_of, signature_of
from optim_core.arguments.spelling import nearest
from optim_core.errors import InvalidArgumentsError, Problem

__all__ = [
    "Note",
    "Rule",
    "check_arguments",
    "convert_arguments",
    "has_exponent",
    "just_checked",
    "missing_arguments",
    "notes_on",
    "problems_of_pydantic",
    "rules_of",
    "validate_arguments",
    "validate_fields",
]

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


@dataclass(frozen=True)
class Rule:
    """A rule across arguments, checked once each of them is right by itself.

    A class with the attribute `RULES: ClassVar[tuple[Rule, ...]]` has its configuration checked
    against them.

    Attributes:
        arguments: the names it is about; a violation is reported on the first.
        holds: takes these arguments' values in that order; true where the rule is met.
        requirement: reads on from the argument, as in "must be less than total_steps".
    """

    arguments: tuple[str, ...]
    holds: Callable[..., bool]
    requirement: str

    @functools.cached_property
    def values_in(self) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
        """Takes the values of its arguments from those of all; KeyError where there is none."""
        names = self.arguments
        return operator.itemgetter(*names) if len(names) > 1 else lambda values: tuple(values[name] for name in names)


@dataclass(frozen=True)
class Note:
    """Something legal but surprising about arguments, which `optim check` points out.

    A class with the attribute `NOTES: ClassVar[tuple[Note, ...]]` has its configuration read for
    them.

    Attributes:
        arguments: the names it is about; asked only where the first of them was given.
        applies: takes these arguments' values in that order; true where there is something to say.
        remark: reads on from the argument, as in "is not used without a warmup".
    """

    arguments: tuple[str, ...]
    applies: Callable[..., bool]
    remark: str

    def __post_init__(self) -> None:
        if not self.arguments:
            raise ValueError("a Note is about at least one argument")


def validate_arguments(
    target: type, values: Mapping[str, Any], *, partial: bool = False
) -> tuple[dict[str, Any], list[Problem]]:
    """Convert `values` to what `target`'s constructor declares, and list what is wrong with them.

    Rules across arguments are those of its class attribute `RULES`, if it has one; `partial` asks
    only those whose arguments are all given. Missing arguments are not looked for.

    Returns:
        The converted values of the arguments that are right, and a problem for each unknown name,
        for each value that doesn't fit its annotation, and for each broken rule among those that do.
    """
    converted, problems = convert_arguments(target, values)
    rules = rules_of(target) if values or not partial else ()
    known = converted
    if rules and not partial and not values.keys() >= signature_of(target).defaults.keys():
        known = {**defaults_of(target), **converted}
        for name in values.keys() - converted.keys():
            # What is wrong by itself has no default in its place.
            known.pop(name, None)
    for rule in rules:
        try:
            asked = rule.values_in(known)
        except KeyError:
            continue
        if not rule.holds(*asked):
            problems.append(_broken(rule, known))
    return converted, problems


def convert_arguments(target: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """As `validate_arguments`, without the rules across arguments."""
    signature = signature_of(target)
    validators = signature.validators
    converted: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in values.items():
        validate = validators.get(name)
        if validate is None:
            if signature.open and isinstance(name, str):
                converted[name] = value
            else:
                problems.append(_unknown(name, signature))
            continue
        try:
            result = validate(value)
        except pydantic.ValidationError:
            try:
                # pydantic makes a float of 1e5, but no integer.
                result = validate(float(value) if has_exponent(value) else value)
            except pydantic.ValidationError as error:
                problems.extend(problems_of_pydantic(error, name))
                continue
        misplaced = None if result is value else _bool_read_as_number(value, result)
        if misplaced is None:
            converted[name] = result
        else:
            problems.append(Problem(name + misplaced, f"= {_short(value)}: must be a number, not true or false"))
    return converted, problems


def missing_arguments(target: type, values: Iterable[str]) -> list[Problem]:
    """A problem for each required argument of `target` that `values` doesn't name."""
    given = set(values)
    return [Problem(name, "required, but not given") for name in signature_of(target).required if name not in given]


@functools.lru_cache(maxsize=256)
def rules_of(target: type) -> tuple[Rule, ...]:
    """The rules across arguments that a class has in its attribute `RULES`."""
    rules = getattr(target, "RULES", ())
    return tuple(rule for rule in rules if isinstance(rule, Rule)) if isinstance(rules, (tuple, list)) else ()


def notes_on(target: type, values: Mapping[str, Any]) -> list[Problem]:
    """What the `NOTES` of `target` have to say about `values`, once these are right."""
    converted, _ = validate_arguments(target, values)
    known = {**defaults_of(target), **converted}
    notes = getattr(target, "NOTES", ())
    return [
        Problem(note.arguments[0], f"= {_short(values[note.arguments[0]])}: {note.remark}")
        for note in (notes if isinstance(notes, (tuple, list)) else ())
        if isinstance(note, Note)
        and note.arguments[0] in values
        and all(name in known for name in note.arguments)
        and note.applies(*(known[name] for name in note.arguments))
    ]


def check_arguments(target: type, values: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
    """Convert arguments that a constructor was called with, or refuse them all at once.

    Types and constraints are those of the constructor's annotations, rules across arguments those
    of the class attribute `RULES`, a tuple of `Rule`.

    Args:
        target: the class.
        values: arguments by name; those left out have their defaults.
        partial: the others are none of this call's business, as those that a parameter group leaves
            out: no rule about them is asked.

    Returns:
        The converted values.

    Raises:
        InvalidArgumentsError: a value doesn't fit its annotation, or a rule is broken.
    """
    converted, problems = validate_arguments(target, values, partial=partial)
    if problems:
        raise InvalidArgumentsError(target.__name__, problems)
    return converted


_just_checked: ContextVar[tuple[type, Mapping[str, Any]] | None] = ContextVar("_just_checked", default=None)


@contextlib.contextmanager
def just_checked(target: type, values: Mapping[str, Any]) -> Iterator[None]:
    """Let `validate_fields` pass these very values of an instance of `target` that is made inside the block.

    Args:
        target: the class.
        values: what `validate_arguments` has returned for it, without any problem.
    """
    token = _just_checked.set((target, values))
    try:
        yield
    finally:
        _just_checked.reset(token)


def _was_just_checked(target: type, values: Mapping[str, Any]) -> bool:
    checked = _just_checked.get()
    if checked is None or checked[0] is not target or not _has_right_defaults(target):
        return False
    known = {**signature_of(target).defaults, **checked[1]}
    return known.keys() == values.keys() and all(map(operator.is_, values.values(), map(known.get, values)))


@functools.lru_cache(maxsize=256)
def _has_right_defaults(target: type) -> bool:
    """Whether the defaults of a constructor are as its annotations say, so that nothing is to be converted."""
    defaults = signature_of(target).defaults
    converted, problems = convert_arguments(target, defaults)
    # 1 and 1.0 are equal, but of the two only one is what is wanted.
    return not problems and all(repr(converted[name]) == repr(value) for name, value in defaults.items())


def validate_fields(instance: Any) -> None:
    """Convert and check the fields of a frozen dataclass, from its `__post_init__`.

    Rules across fields are those of its class attribute `RULES`, a tuple of `Rule`.

    Raises:
        InvalidArgumentsError: with every field and rule that is wrong.
    """
    target: type = type(instance)
    values = {name: getattr(instance, name) for name in _initialised_fields(target)}
    if _was_just_checked(target, values):
        return
    for name, value in check_arguments(target, values).items():
        if value is not values[name]:
            object.__setattr__(instance, name, value)


@functools.lru_cache(maxsize=256)
def _initialised_fields(target: type) -> Sequence[str]:
    return tuple(field.name for field in dataclasses.fields(target) if field.init)


def problems_of_pydantic(error: pydantic.ValidationError, *prefix: str) -> list[Problem]:
    """A pydantic error in this package's words, one problem for each place."""
    messages: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for detail in error.errors(include_url=False):
        # A union's members add their own names to the location; what a person typed is only names and indices.
        location = [*prefix, *(part for part in detail["loc"] if _typed_by_a_person(part))]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
        message = detail["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
        # YAML has lists only.
        message = message.replace("a valid tuple", "a list").replace(" after validation", "")
        message = re.sub(r"^(?:Tuple|List) should have", "must have", message)
        messages.setdefault(path, [])
        if message not in messages[path]:
            messages[path].append(message[:1].lower() + message[1:])
        values[path] = detail["input"]
    return [Problem(path, f"= {_short(values[path])}: {', or '.join(texts)}") for path, texts in messages.items()]


def _short(value: object, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _typed_by_a_person(part: int | str) -> bool:
    return isinstance(part, int) or (part.isidentifier() and part not in {"float", "int", "str", "bool", "none"})


def _unknown(name: object, signature: Signature) -> Problem:
    names = list(signature.arguments)
    near = nearest(name, names)
    if near:
        hint = "Did you mean " + " or ".join(repr(n) for n in near) + "?"
    else:
        hint = "Known: " + ", ".join(names) if names else "It takes no arguments"
    return Problem(str(name), "no such argument", hint)


def _broken(rule: Rule, values: Mapping[str, Any]) -> Problem:
    subject, *others = rule.arguments
    context = ", ".join(f"{name} = {_short(values[name])}" for name in others)
    seen = f" ({context})" if context else ""
    return Problem(subject, f"= {_short(values[subject])}: {rule.requirement}{seen}")


def has_exponent(value: object) -> bool:
    """Whether `value` is the text of a number such as 1e5, which YAML 1.1 doesn't read as one."""
    return isinstance(value, str) and _EXPONENT.fullmatch(value) is not None


def _bool_read_as_number(given: Any, result: Any) -> str | None:
    """Where a true or false was taken for 1 or 0 (as an index path), or None where none was.

    YAML has many spellings of a truth value (`yes`, `on`), and pydantic takes one for a number.
    """
    if isinstance(given, bool):
        is_number = isinstance(result, (int, float)) and not isinstance(result, bool)
        return "" if is_number else None
    pairs: Iterable[tuple[object, Any, Any]]
    if isinstance(given, (list, tuple)) and isinstance(result, (list, tuple)) and len(given) == len(result):
        place, pairs = "[{}]", zip(itertools.count(), given, result, strict=False)
    elif isinstance(given, Mapping) and isinstance(result, Mapping):
        place, pairs = ".{}", ((key, given[key], result[key]) for key in given if key in result)
    else:
        return None
    for key, a, b in pairs:
        inner = None if a is b else _bool_read_as_number(a, b)
        if inner is not None:
            return place.format(key) + inner
    return None
