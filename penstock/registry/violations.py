"""What is wrong with a value, in words that never show the value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import jsonschema_rs
import orjson

from penstock.registry.dialect import pointer

MAX_ALLOWED_SHOWN: Final = 20
"""How many values of an enum a message lists."""
MAX_NAME_SHOWN: Final = 100
_TELLING: Final = frozenset({"type", "const", "enum"})
"""Rules that tell which alternative a value is not meant for."""
_PLACES = Callable[[list[str | int]], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One rule of a schema that a value breaks."""

    path: str
    """JSON pointer to the value; ``""`` for the whole."""
    rule: str
    """The keyword that is broken."""
    schema_path: str
    """Where the rule stands: ``#/...`` in the schema itself, or ``penstock:<id>@<version>#/...``."""
    message: str
    """What is wrong, without the value."""
    value_type: str
    """``null``, ``boolean``, ``integer``, ``number``, ``string``, ``array`` or ``object``."""


def type_of(value: Any) -> str:
    """Return the JSON type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float() | Decimal():
            return "number"
        case str():
            return "string"
        case list() | tuple():
            return "array"
        case _:
            return "object"


def described(error: jsonschema_rs.ValidationError, place: _PLACES) -> Iterator[Violation]:
    """Yield an error of the engine in our words: one violation, or one for each name that is not declared."""
    rule = error.kind.name
    kind = error.kind
    if isinstance(
        kind,
        jsonschema_rs.ValidationErrorKind.AdditionalProperties
        | jsonschema_rs.ValidationErrorKind.UnevaluatedProperties,
    ):
        for name in kind.unexpected:
            yield _undeclared(error, name, place)
        return
    yield Violation(
        path=pointer(error.instance_path),
        rule=rule,
        schema_path=place(error.schema_path),
        message=_message(error),
        value_type=type_of(error.instance),
    )


def _undeclared(error: jsonschema_rs.ValidationError, name: str, place: _PLACES) -> Violation:
    value = error.instance.get(name) if isinstance(error.instance, Mapping) else None
    return Violation(
        path=pointer([*error.instance_path, name]),
        rule=error.kind.name,
        schema_path=place(error.schema_path),
        message=f"the name {_shown(name)} is not declared here: the schema takes no others",
        value_type=type_of(value),
    )


def _message(error: jsonschema_rs.ValidationError) -> str:  # noqa: PLR0911, PLR0912
    kinds = jsonschema_rs.ValidationErrorKind
    match error.kind:
        case kinds.Type(types=types):
            return f"has to be {_either(types)}"
        case kinds.Required(property=name):
            return f"the name {_shown(name)} is required and missing"
        case kinds.Enum(options=options):
            return f"has to be one of {_listed(options)}"
        case kinds.Constant(expected_value=value):
            return f"has to be {_literal(value)}"
        case kinds.Format(format=name):
            return f"is not of the format {name}"
        case kinds.Pattern(pattern=text):
            return f"does not match the pattern {_shown(text)}"
        case kinds.MinLength(limit=n):
            return f"is shorter than {n} characters"
        case kinds.MaxLength(limit=n):
            return f"is longer than {n} characters"
        case kinds.Minimum(limit=n):
            return f"is less than {n}"
        case kinds.Maximum(limit=n):
            return f"is more than {n}"
        case kinds.ExclusiveMinimum(limit=n):
            return f"has to be more than {n}"
        case kinds.ExclusiveMaximum(limit=n):
            return f"has to be less than {n}"
        case kinds.MultipleOf(multiple_of=n):
            return f"is no multiple of {n}"
        case _:
            return _message_of_container(error)


def _message_of_container(error: jsonschema_rs.ValidationError) -> str:  # noqa: PLR0911, PLR0912
    kinds = jsonschema_rs.ValidationErrorKind
    match error.kind:
        case kinds.MinItems(limit=n):
            return f"has fewer than {n} items"
        case kinds.MaxItems(limit=n):
            return f"has more than {n} items"
        case kinds.MinProperties(limit=n):
            return f"has fewer than {n} names"
        case kinds.MaxProperties(limit=n):
            return f"has more than {n} names"
        case kinds.UniqueItems():
            return "holds an item twice"
        case kinds.Contains():
            return "does not hold as many items of the kind that 'contains' asks for as it has to"
        case kinds.AdditionalItems() | kinds.UnevaluatedItems():
            return "holds more items than are declared"
        case kinds.FalseSchema():
            return "has to be left out: nothing is taken here"
        case kinds.Not():
            return "is of a kind that 'not' excludes"
        case kinds.PropertyNames(error=inner):
            return f"has a name that {_message(inner)}"
        case kinds.AnyOf(context=branches) | kinds.OneOfNotValid(context=branches):
            return _no_alternative(branches, error)
        case kinds.OneOfMultipleValid():
            return (
                "is valid under more than one alternative of 'oneOf', and has to be under one only"
            )
        case _:
            return f"breaks the rule {error.kind.name!r}"


def _no_alternative(
    branches: Sequence[Sequence[jsonschema_rs.ValidationError]],
    error: jsonschema_rs.ValidationError,
) -> str:
    """Say that no alternative holds, and what keeps the closest from it: the one that is right at the top, if any."""

    def distance(branch: Sequence[jsonschema_rs.ValidationError]) -> tuple[int, int]:
        outright = 0
        for each in branch:
            below = len(each.instance_path) - len(error.instance_path)
            outright += (
                below <= (0 if each.kind.name == "type" else 1) and each.kind.name in _TELLING
            )
        return outright, len(branch)

    n = min(range(len(branches)), key=lambda n: distance(branches[n]))
    first = branches[n][0] if branches[n] else None
    text = f"is valid under none of {len(branches)} alternatives"
    if first is None:
        return text
    where = pointer(first.instance_path[len(error.instance_path) :])
    return f"{text}; the closest (number {n + 1}) says{' of ' + where if where else ''}: {_message(first)}"


def _either(types: Sequence[str]) -> str:
    ordered = sorted(types)
    return " or ".join(ordered)


def _listed(options: Sequence[Any]) -> str:
    text = ", ".join(_literal(each) for each in options[:MAX_ALLOWED_SHOWN])
    left = len(options) - MAX_ALLOWED_SHOWN
    return f"{text} and {left} more" if left > 0 else text


def _literal(value: Any) -> str:
    return _shortened(orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS).decode())


def _shown(text: str) -> str:
    return repr(_shortened(text))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_NAME_SHOWN else text[: MAX_NAME_SHOWN - 3] + "..."
