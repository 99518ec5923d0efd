"""Validation of arguments against a class's own signature: its annotations, and rules across them.

One mechanism serves configuration (`params` of a component), direct construction of factories and
schedules, and the optimizers' own constructors, so that all of them report every problem at once
and in the same words. Types and constraints (`annotated_types`, `pydantic.Field`) are read from the
annotations and checked by pydantic.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic

from optim_core.errors import InvalidArgumentsError, Problem
from optim_core.spelling import nearest

__all__ = [
    "Note",
    "Rule",
    "Signature",
    "check_arguments",
    "defaults_of",
    "has_exponent",
    "missing_arguments",
    "notes_on",
    "problems_of_pydantic",
    "rules_of",
    "signature_of",
    "type_adapter",
    "validate_arguments",
    "validate_fields",
]

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_REQUIRED = inspect.Parameter.empty


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


@dataclass(frozen=True)
class Argument:
    """One argument of a constructor; `default` is `inspect.Parameter.empty` where it is required."""

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        return self.default is _REQUIRED


@dataclass(frozen=True)
class Signature:
    """The arguments that a class's constructor takes by name.

    Attributes:
        arguments: by name, in the order of the constructor.
        open: whether it takes any further name (`**kwargs`).
        positional_only: required ones that no configuration can give, because they have no keyword.
    """

    arguments: Mapping[str, Argument]
    open: bool
    positional_only: tuple[str, ...]


@functools.lru_cache(maxsize=256)
def signature_of(target: type) -> Signature:
    """Read the constructor of `target`: a plain class, a dataclass or a pydantic model."""
    hints = _type_hints(target)
    arguments: dict[str, Argument] = {}
    positional_only: list[str] = []
    is_open = False
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            is_open = True
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            positional_only += [parameter.name] if parameter.default is _REQUIRED else []
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            arguments[parameter.name] = Argument(parameter.name, hints.get(parameter.name, Any), parameter.default)
    return Signature(arguments, is_open, tuple(positional_only))


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
    signature = signature_of(target)
    converted: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in values.items():
        argument = signature.arguments.get(name)
        if argument is None:
            if signature.open and isinstance(name, str):
                converted[name] = value
            else:
                problems.append(_unknown(name, signature))
            continue
        try:
            result = _convert(argument.annotation, value)
        except pydantic.ValidationError as error:
            problems.extend(problems_of_pydantic(error, name))
            continue
        misplaced = _bool_read_as_number(value, result)
        if misplaced is None:
            converted[name] = result
        else:
            problems.append(Problem(name + misplaced, f"= {_short(value)}: must be a number, not true or false"))
    rules = rules_of(target)
    known = dict(converted)
    if rules and not partial:
        known = {name: value for name, value in defaults_of(target).items() if name not in values} | known
    for rule in rules:
        if all(name in known for name in rule.arguments) and not rule.holds(*(known[n] for n in rule.arguments)):
            problems.append(_broken(rule, known))
    return converted, problems


def defaults_of(target: type) -> dict[str, Any]:
    """The defaults of a constructor's arguments, by name."""
    arguments = signature_of(target).arguments.values()
    return {a.name: a.default for a in arguments if not a.required} | _made_defaults(target)


def _made_defaults(target: type) -> dict[str, Any]:
    """Defaults that are made anew for each instance; a signature has a placeholder for them."""
    if issubclass(target, pydantic.BaseModel):
        return {
            name: field.get_default(call_default_factory=True)
            for name, field in target.model_fields.items()
            # One that is made from the other values can't be told before they are validated.
            if field.default_factory is not None and not getattr(field, "default_factory_takes_validated_data", False)
        }
    fields = dataclasses.fields(target) if dataclasses.is_dataclass(target) else ()
    return {f.name: f.default_factory() for f in fields if f.init and f.default_factory is not dataclasses.MISSING}


def missing_arguments(target: type, values: Iterable[str]) -> list[Problem]:
    """A problem for each required argument of `target` that `values` doesn't name."""
    given = set(values)
    return [
        Problem(name, "required, but not given")
        for name, argument in signature_of(target).arguments.items()
        if argument.required and name not in given
    ]


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


def validate_fields(instance: Any) -> None:
    """Convert and check the fields of a frozen dataclass, from its `__post_init__`.

    Rules across fields are those of its class attribute `RULES`, a tuple of `Rule`.

    Raises:
        InvalidArgumentsError: with every field and rule that is wrong.
    """
    values = {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance) if field.init}
    for name, value in check_arguments(type(instance), values).items():
        object.__setattr__(instance, name, value)


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


def _type_hints(target: type) -> dict[str, Any]:
    """Annotations by argument; those that can't be resolved are left out and so accept anything."""
    if issubclass(target, pydantic.BaseModel):
        # Its signature has the constraints that were given as Field(...), and aliases as names.
        return {name: p.annotation for name, p in inspect.signature(target).parameters.items()}
    if dataclasses.is_dataclass(target):
        return {
            n: h.type if isinstance(h, dataclasses.InitVar) else h for n, h in _resolved_hints(target, target).items()
        }
    initialiser = inspect.getattr_static(target, "__init__")
    # A class that is made by __new__ alone, as a NamedTuple is.
    maker = inspect.getattr_static(target, "__new__") if initialiser is object.__init__ else initialiser
    return _resolved_hints(target, getattr(maker, "__func__", maker))


def _resolved_hints(target: type, source: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(source, include_extras=True)
    except (NameError, AttributeError, TypeError):
        # A name imported for type checkers only: resolve what can be, one annotation at a time.
        namespace = vars(inspect.getmodule(target) or typing)
        hints: dict[str, Any] = {}
        for name, annotation in getattr(source, "__annotations__", {}).items():
            holder = type("Holder", (), {"__annotations__": {name: annotation}})
            try:
                hints.update(typing.get_type_hints(holder, namespace, include_extras=True))
            except (NameError, AttributeError, TypeError):
                continue
        return hints


def has_exponent(value: object) -> bool:
    """Whether `value` is the text of a number such as 1e5, which YAML 1.1 doesn't read as one."""
    return isinstance(value, str) and _EXPONENT.fullmatch(value) is not None


def _convert(annotation: Any, value: Any) -> Any:
    adapter = type_adapter(annotation)
    try:
        return adapter.validate_python(value)
    except pydantic.ValidationError:
        # pydantic makes a float of 1e5, but no integer.
        if has_exponent(value):
            return adapter.validate_python(float(value))
        raise


def type_adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    """What checks values against an annotation; one that pydantic can't make sense of accepts anything."""
    try:
        return _cached_adapter(annotation)
    except TypeError:  # an annotation that can't be hashed, such as Literal[[]]
        return _new_adapter(annotation)


def _new_adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return pydantic.TypeAdapter(annotation)
    except pydantic.errors.PydanticSchemaGenerationError:
        # A class that pydantic knows nothing of: only an instance of it will do.
        config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        try:
            return pydantic.TypeAdapter(annotation, config=config)
        except pydantic.errors.PydanticUserError:
            return pydantic.TypeAdapter(Any)
    except pydantic.errors.PydanticUserError:
        return pydantic.TypeAdapter(Any)


_cached_adapter = functools.lru_cache(maxsize=1024)(_new_adapter)


def _bool_read_as_number(given: Any, result: Any) -> str | None:
    """Where a true or false was taken for 1 or 0 (as an index path), or None where none was.

    YAML has many spellings of a truth value (`yes`, `on`), and pydantic takes one for a number.
    """
    if isinstance(given, bool):
        is_number = isinstance(result, (int, float)) and not isinstance(result, bool)
        return "" if is_number else None
    if isinstance(given, Mapping) and isinstance(result, Mapping):
        pairs: Iterable[tuple[str, Any, Any]] = ((f".{k}", given[k], result[k]) for k in given if k in result)
    elif isinstance(given, (list, tuple)) and isinstance(result, (list, tuple)) and len(given) == len(result):
        pairs = ((f"[{i}]", a, b) for i, (a, b) in enumerate(zip(given, result, strict=True)))
    else:
        return None
    for where, a, b in pairs:
        inner = _bool_read_as_number(a, b)
        if inner is not None:
            return where + inner
    return None
