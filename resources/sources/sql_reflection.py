"""Reflecting one schema: a few bulk queries, and one object at a time only when those fail."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.engine.reflection import Inspector, ObjectKind
from sqlalchemy.exc import CompileError, SAWarning, SQLAlchemyError

from resources.sources.sql_dialects import (
    begin_reading,
    declared_types,
    own_indexes,
    view_definitions,
    view_reads,
)

Facts = dict[str, Any]
_FACETS = (
    ("columns", ObjectKind.ANY),
    ("pk_constraint", ObjectKind.TABLE),
    ("foreign_keys", ObjectKind.TABLE),
    ("indexes", ObjectKind.TABLE | ObjectKind.MATERIALIZED_VIEW),
    ("unique_constraints", ObjectKind.TABLE),
    ("check_constraints", ObjectKind.TABLE),
    ("table_comment", ObjectKind.ANY),
)
"""What is reflected: the last part of the inspector's methods, and the objects that have it."""


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One table or view as reflected; lists and dicts have the forms that SQLAlchemy documents."""

    name: str
    kind: ObjectKind
    columns: list[Facts]
    pk_constraint: Facts = field(default_factory=dict)
    foreign_keys: list[Facts] = field(default_factory=list)
    indexes: list[Facts] = field(default_factory=list)
    unique_constraints: list[Facts] = field(default_factory=list)
    check_constraints: list[Facts] = field(default_factory=list)
    comment: str | None = None
    definition: str | None = None
    known_reads: frozenset[tuple[str, str, str | None]] = frozenset()
    """What the database itself knows a view to read: schema, relation, and column if any."""
    error: str | None = None
    """Why nothing more is known of it than its name."""

    @property
    def is_view(self) -> bool:
        """Whether it is a view, materialized or not."""
        return self.kind is not ObjectKind.TABLE


@dataclass(frozen=True, kw_only=True)
class OwnWords:
    """What the database says of a schema beside SQLAlchemy; see ``sql_dialects``."""

    types: Mapping[tuple[str, str], str]
    indexes: Mapping[str, list[Facts]]


def reflect_schema(
    connection: Connection, schema: str, *, wanted: Callable[[str], bool]
) -> tuple[list[Relation], list[str]]:
    """Return the tables and views of a schema that are wanted, and the names of the others.

    Raises ``SQLAlchemyError`` when the schema cannot be enumerated. A single object that cannot be
    reflected is in the list with its ``error``. Memory goes with the size of the one schema.
    """
    with _quiet():
        begin_reading(connection)
        inspector = inspect(connection)
        kinds = dict(_names(inspector, schema))
        listed = {name: kind for name, kind in kinds.items() if wanted(name)}
        own = OwnWords(
            types=declared_types(connection, schema), indexes=own_indexes(connection, schema)
        )
        facts = _bisected(connection, schema, listed, own) if listed else {}
        definitions = _definitions(connection, schema, listed)
        read = view_reads(connection, schema)
    relations = [
        Relation(
            name=name,
            kind=kind,
            definition=definitions.get(name),
            known_reads=frozenset(read.get(name, ())),
            **facts[name],
        )
        for name, kind in listed.items()
    ]
    connection.rollback()
    return relations, [name for name in kinds if name not in listed]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hush warnings of what SQLAlchemy does not know: the database is asked itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)
        yield


def _names(inspector: Inspector, schema: str) -> Iterator[tuple[str, ObjectKind]]:
    for name in inspector.get_table_names(schema):
        yield name, ObjectKind.TABLE
    for name in inspector.get_view_names(schema):
        yield name, ObjectKind.VIEW
    try:
        for name in inspector.get_materialized_view_names(schema):
            yield name, ObjectKind.MATERIALIZED_VIEW
    except NotImplementedError:
        return


def _bisected(
    connection: Connection, schema: str, listed: Mapping[str, ObjectKind], own: OwnWords
) -> dict[str, Facts]:
    """Reflect objects together, or in halves where that fails, so that a broken one costs only itself."""
    try:
        return _together(connection, schema, listed, own)
    except SQLAlchemyError as error:
        _give_up_if_gone(connection, error)
        if len(listed) == 1:
            return {name: {"columns": [], "error": reason_of(error)} for name in listed}
    items = list(listed.items())
    middle = len(items) // 2
    halves = (dict(items[:middle]), dict(items[middle:]))
    return {
        name: facts
        for half in halves
        for name, facts in _bisected(connection, schema, half, own).items()
    }


def _together(
    connection: Connection, schema: str, listed: Mapping[str, ObjectKind], own: OwnWords
) -> dict[str, Facts]:
    inspector = inspect(connection)
    answers = {
        facet: {name: facts for (_, name), facts in _multi(inspector, facet, schema, kind, listed)}
        for facet, kind in _FACETS
    }
    return _assembled(connection.dialect, listed, answers, own)


def _multi(
    inspector: Inspector, facet: str, schema: str, kind: ObjectKind, names: Iterable[str]
) -> Iterable[Any]:
    method = getattr(inspector, f"get_multi_{facet}")
    try:
        answer: Mapping[Any, Any] = method(schema=schema, filter_names=list(names), kind=kind)
    except NotImplementedError:
        return ()
    return answer.items()


def _assembled(
    dialect: Dialect,
    listed: Iterable[str],
    answers: Mapping[str, Mapping[str, Any]],
    own: OwnWords,
) -> dict[str, Facts]:
    found: dict[str, Facts] = {}
    for name in listed:
        if name not in answers["columns"]:
            found[name] = {"columns": [], "error": "the database does not describe it"}
            continue
        facts = {facet: known for facet in answers if (known := answers[facet].get(name))}
        facts["comment"] = facts.pop("table_comment", {}).get("text")
        facts["columns"] = [
            {
                **column,
                "type": own.types.get((name, column["name"])) or type_text(column["type"], dialect),
            }
            for column in facts.get("columns", [])
        ]
        if name in own.indexes:
            facts["indexes"] = own.indexes[name]
        found[name] = facts
    return found


def type_text(column_type: Any, dialect: Dialect) -> str:
    """Return a column type in the words of its database, or ``""`` where it has none."""
    try:
        return str(column_type.compile(dialect=dialect))
    except CompileError:
        return ""


def _definitions(
    connection: Connection, schema: str, names: Mapping[str, ObjectKind]
) -> dict[str, str]:
    views = [name for name, kind in names.items() if kind is not ObjectKind.TABLE]
    try:
        at_once = view_definitions(connection, schema) if views else {}
        if at_once is not None:
            return at_once
    except SQLAlchemyError as error:
        _give_up_if_gone(connection, error)
    return dict(_definitions_one_by_one(connection, schema, views))


def _definitions_one_by_one(
    connection: Connection, schema: str, views: Iterable[str]
) -> Iterator[tuple[str, str]]:
    for name in views:
        try:
            definition = inspect(connection).get_view_definition(name, schema=schema)
        except (SQLAlchemyError, NotImplementedError) as error:
            _give_up_if_gone(connection, error)
            continue
        if definition:
            yield name, definition


def _give_up_if_gone(connection: Connection, error: Exception) -> None:
    """Raise the error again if the connection is lost; else make the connection usable again."""
    if connection.invalidated or getattr(error, "connection_invalidated", False):
        raise error
    connection.rollback()


def reason_of(error: BaseException) -> str:
    """Return what the database said, without the statement that it said it of."""
    said = getattr(error, "orig", None) or error
    return f"{type(said).__name__}: {said}".strip()
