"""Relationship types: which entities a relationship joins, how many, and whether one contains the other.

A type that is declared holds for every relationship that is written from then on, by the API or by publishing. Those
that are there already stay, and are held to it when they are written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from penstock.errors import InvalidIdentifier
from penstock.identity import ids
from penstock.registry.problems import Problem, ProblemError, ProblemKind, json_type
from penstock.registry.schema_documents import problems_of

MAX_TYPES = 100
MAX_DESCRIPTION = 2_000


class Cardinality(StrEnum):
    """How many relationships of a type an entity may have, read from the ``from`` end to the ``to`` end."""

    ONE_TO_ONE = "one_to_one"
    """From each entity leads one at most, and to each leads one at most."""
    ONE_TO_MANY = "one_to_many"
    """To each entity leads one at most."""
    MANY_TO_ONE = "many_to_one"
    """From each entity leads one at most."""
    MANY_TO_MANY = "many_to_many"


@dataclass(frozen=True, kw_only=True, slots=True)
class RelationshipType:
    """What holds for the relationships of one type."""

    name: str
    from_types: tuple[str, ...] = ()
    """Types of the entity that it begins at; empty for any."""
    to_types: tuple[str, ...] = ()
    """Types of the entity that it ends at; empty for any."""
    cardinality: Cardinality = Cardinality.MANY_TO_MANY
    containment: bool = False
    """The ``from`` end contains the ``to`` end: nothing lies in two containers, or within itself."""
    may_dangle: bool = False
    """Its ends need not be in the registry."""
    attributes: Mapping[str, Any] | None = None
    """A JSON Schema of its attributes; None takes any."""
    description: str = ""

    @property
    def sole_from(self) -> bool:
        """An entity may be the ``from`` end of one relationship only."""
        return self.cardinality in {Cardinality.ONE_TO_ONE, Cardinality.MANY_TO_ONE}

    @property
    def sole_to(self) -> bool:
        """An entity may be the ``to`` end of one relationship only."""
        one = {Cardinality.ONE_TO_ONE, Cardinality.ONE_TO_MANY}
        return self.containment or self.cardinality in one

    def to_state(self) -> dict[str, Any]:
        """Return it as plain JSON, as an event keeps it."""
        return {
            "name": self.name,
            "from_types": list(self.from_types),
            "to_types": list(self.to_types),
            "cardinality": self.cardinality.value,
            "containment": self.containment,
            "may_dangle": self.may_dangle,
            "attributes": None if self.attributes is None else dict(self.attributes),
            "description": self.description,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_state` wrote."""
        return cls(
            name=state["name"],
            from_types=tuple(state["from_types"]),
            to_types=tuple(state["to_types"]),
            cardinality=Cardinality(state["cardinality"]),
            containment=state["containment"],
            may_dangle=state["may_dangle"],
            attributes=state["attributes"],
            description=state["description"],
        )


_FIELDS = {
    "from_types": "array",
    "to_types": "array",
    "cardinality": "string",
    "containment": "boolean",
    "may_dangle": "boolean",
    "attributes": "object",
    "description": "string",
}


def relationship_type(name: str, declared: Mapping[str, Any]) -> RelationshipType | Problem:
    """Return the type that somebody declares, from plain JSON, or everything that is wrong with it."""
    errors = [*_name_errors(name), *_form_errors(declared)]
    if not errors:
        errors = _content_errors(declared)
    if errors:
        return Problem(
            kind=ProblemKind.INVALID_SCHEMA,
            detail=f"relationship type {name!r}: {errors[0].message}",
            errors=tuple(errors),
        )
    given = {field: value for field, value in declared.items() if value is not None}
    return RelationshipType.from_state({**RelationshipType(name=name).to_state(), **given})


def _name_errors(name: str) -> list[ProblemError]:
    try:
        ids.type_name(name, what="relationship type")
    except InvalidIdentifier as error:
        return [_error("/name", "pattern", str(error), name)]
    return []


def _form_errors(declared: Mapping[str, Any]) -> list[ProblemError]:
    errors = []
    for field, value in declared.items():
        wanted = _FIELDS.get(field)
        found = json_type(value)
        if wanted is None:
            known = ", ".join(_FIELDS)
            message = f"there is no field {field!r}: a relationship type has {known}"
            errors.append(_error(f"/{field}", "additionalProperties", message, value))
        elif found != wanted and not (value is None and field == "attributes"):
            message = f"{field} is {found}: it has to be {wanted}"
            errors.append(_error(f"/{field}", "type", message, value))
    return errors


def _content_errors(declared: Mapping[str, Any]) -> list[ProblemError]:
    errors = []
    for field in ("from_types", "to_types"):
        errors += _type_errors(field, declared.get(field, ()))
    cardinality = declared.get("cardinality", Cardinality.MANY_TO_MANY)
    if cardinality not in set(Cardinality):
        message = f"cardinality is {cardinality!r}: it has to be one of {', '.join(Cardinality)}"
        errors.append(_error("/cardinality", "enum", message, cardinality))
    text = declared.get("description", "")
    if len(text) > MAX_DESCRIPTION:
        message = f"the description has more than {MAX_DESCRIPTION:,} characters"
        errors.append(_error("/description", "maxLength", message, text))
    document = declared.get("attributes")
    if document is not None:
        errors += [
            ProblemError(path=f"/attributes{each.path}", rule=each.rule, message=each.message)
            for each in problems_of(document)
        ]
    return errors


def _type_errors(field: str, names: Sequence[Any]) -> list[ProblemError]:
    if len(names) > MAX_TYPES:
        message = f"{field} lists {len(names)} types, over the limit of {MAX_TYPES}"
        return [_error(f"/{field}", "maxItems", message, list(names))]
    errors = []
    for n, name in enumerate(names):
        if not isinstance(name, str):
            message = f"a type is named by text, not by {json_type(name)}"
            errors.append(_error(f"/{field}/{n}", "type", message, name))
            continue
        try:
            ids.type_name(name)
        except InvalidIdentifier as error:
            errors.append(_error(f"/{field}/{n}", "pattern", str(error), name))
    return errors


def _error(path: str, rule: str, message: str, value: Any) -> ProblemError:
    return ProblemError(path=path, rule=rule, message=message, value_type=json_type(value))
