"""Rows of one source and type in one table: what they are now, and the statements that change them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from sqlalchemy import (
    Connection,
    Dialect,
    Select,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.types import NullType

from penstock.identity.canonical import value_of
from penstock.identity.digest import DIGEST_BYTES, entity_digest, relationship_digest
from penstock.identity.ids import SourceId
from penstock.plan.operations import Action
from penstock.ports.target import HELD_SCHEMA, OperationFailure
from resources.targets.column_values import Refused, column_value
from resources.targets.hand_edits import text_with_edits
from resources.targets.preconditions import Moved, conflict, edited
from resources.targets.table_mapping import DIGEST, OPERATION, SOURCE, TYPE_NAME, MappedTable

_KEYS_AT_ONCE = 500
_KEYS_AT_ONCE_SPELT_OUT = 100
_ROW_VALUES = ("postgresql", "sqlite", "mysql", "mariadb")
"""Dialects that compare pairs of values with IN."""
_NO_VALUES: Mapping[str, Any] = {}
_STORED = "stored"
"""Of an operation that is to be written: the digest of its row as it is in the table."""

Key = tuple[str, ...]
Row = Mapping[str, Any]
"""One operation, or what names one: ``type_name, key, to_key``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What a table holds under one key."""

    digest: bytes
    """Of 16 bytes: one that somebody wrote by hand in another form is stood in for."""
    stored: bytes
    """The digest as it is in the table."""
    attributes: str | None = None
    """Canonical text, where a column keeps it and it was asked for."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Of typed columns, raw, where they were asked for."""


@dataclass(frozen=True, kw_only=True)
class TypeRows:
    """All rows of one source and type."""

    mapped: MappedTable
    source: SourceId
    type_name: str

    def key_of(self, row: Row) -> Key:
        """Return the key that an operation or a wanted row names."""
        return (row["key"],) if len(self.mapped.key_columns) == 1 else (row["key"], row["to_key"])

    def identity(self, row: Row) -> dict[str, str]:
        """Return the primary key of an operation's row, by column."""
        typed = {TYPE_NAME: self.type_name} if self.mapped.generic else {}
        keys = dict(zip(self.mapped.key_columns, self.key_of(row), strict=True))
        return {SOURCE: self.source, **typed, **keys}

    def held(
        self,
        connection: Connection,
        wanted: Sequence[Row],
        *,
        with_attributes: bool = False,
        with_values: bool = False,
        lock: bool = False,
    ) -> dict[Key, Held]:
        """Return what there is of some rows, by key; with ``lock``, nobody changes them before the transaction ends."""
        texts = with_attributes and self.mapped.attributes_column is not None
        typed = [column.name for _, column in self.mapped.typed] if with_values else []
        query = self._query(texts=texts, typed=typed)
        if lock:
            query = query.with_for_update()
        ends = len(self.mapped.key_columns)
        found: dict[Key, Held] = {}
        for condition in self._conditions(connection, [self.key_of(row) for row in wanted]):
            for row in connection.execute(query.where(condition)):
                stored, *rest = row[ends:]
                values = rest[1:] if texts else rest
                found[tuple(row[:ends])] = Held(
                    digest=sixteen_bytes(stored),
                    stored=bytes(stored),
                    attributes=rest[0] if texts else None,
                    values=dict(zip(typed, values, strict=True)) if typed else _NO_VALUES,
                )
        return found

    def page(self, connection: Connection, *, after: Key | None, limit: int) -> pa.Table:
        """Return the next rows in the order of their keys, as :data:`~penstock.ports.target.HELD_SCHEMA` has them."""
        columns = [self.mapped.table.c[name] for name in self.mapped.key_columns]
        texts = self.mapped.attributes_column is not None
        query = self._query(texts=texts).order_by(*columns)
        if after is not None:
            # The first condition is one that an index over the keys can begin at.
            behind = and_(columns[0] == after[0], columns[-1] > after[-1])
            query = query.where(columns[0] >= after[0], or_(columns[0] > after[0], behind))
        rows = connection.execute(query.limit(limit)).all()
        n, ends = len(rows), len(columns)
        return pa.table(
            [
                pa.array([self.type_name] * n, pa.string()),
                pa.array([row[0] for row in rows], pa.string()),
                pa.array([row[1] if ends > 1 else None for row in rows], pa.string()),
                pa.array([sixteen_bytes(row[ends]) for row in rows], pa.binary(DIGEST_BYTES)),
                pa.array([row[-1] if texts else None for row in rows], pa.string()),
            ],
            schema=HELD_SCHEMA,
        )

    def _query(self, *, texts: bool, typed: Sequence[str] = ()) -> Select[Any]:
        """Select keys, digest, the text where it is wanted, and typed columns by name."""
        columns = self.mapped.table.c
        names = [*self.mapped.key_columns, DIGEST]
        if texts and self.mapped.attributes_column is not None:
            names.append(self.mapped.attributes_column)
        # Raw: what somebody wrote into a column of another type is no reason to fail.
        raw = [type_coerce(columns[name], NullType()).label(name) for name in typed]
        mine = and_(columns[SOURCE] == self.source, columns[DIGEST].is_not(None))
        query = select(*(columns[name] for name in names), *raw).where(mine)
        if self.mapped.generic:
            query = query.where(columns[TYPE_NAME] == self.type_name)
        return query

    def text_of(self, key: Key, held: Held, published: str | None, dialect: Dialect) -> str | None:
        """Return the attributes of a row, edits in its typed columns included; None where they cannot be told.

        ``published`` is what the asker takes them to be: it is needed where no column keeps the text. Where both the
        text and a column of it were edited, the column counts.
        """
        base = published if self.mapped.attributes_column is None else held.attributes
        if base is None or not held.values:
            return held.attributes
        text = text_with_edits(self.mapped, base, held.values, dialect)
        if held.attributes in {None, text} or self._digest_of(key, base) == held.digest:
            return text
        # Where the columns, and not the text, are what was written, the text is what was edited.
        return base if self._digest_of(key, text) == held.digest else text

    def _digest_of(self, key: Key, text: str) -> bytes:
        data = text.encode()
        if len(key) == 1:
            return entity_digest(self.type_name, key[0], data)
        return relationship_digest(self.type_name, key[0], key[1], data)

    def _conditions(self, connection: Connection, keys: Sequence[Key]) -> Iterator[Any]:
        columns = [self.mapped.table.c[name] for name in self.mapped.key_columns]
        spelt_out = len(columns) > 1 and connection.dialect.name not in _ROW_VALUES
        step = _KEYS_AT_ONCE_SPELT_OUT if spelt_out else _KEYS_AT_ONCE
        for start in range(0, len(keys), step):
            some = keys[start : start + step]
            if len(columns) == 1:
                yield columns[0].in_([key[0] for key in some])
            elif spelt_out:
                yield or_(*(and_(columns[0] == a, columns[1] == b) for a, b in some))
            else:
                yield tuple_(*columns).in_(some)


def sixteen_bytes(digest: bytes) -> bytes:
    """Return a digest, or what stands in for one that somebody wrote by hand in another form."""
    if len(digest) == DIGEST_BYTES:
        return bytes(digest)
    return hashlib.blake2b(digest, digest_size=DIGEST_BYTES).digest()


class Changes:
    """What is to be written to some rows of one type, and what may not be."""

    def __init__(self, rows: TypeRows) -> None:
        self._rows = rows
        self._by_action: dict[Action, list[Row]] = {action: [] for action in Action}
        self.failures: list[OperationFailure] = []

    def judge(
        self,
        operations: Sequence[dict[str, Any]],
        held: Mapping[Key, Held],
        *,
        shared: Dialect | None = None,
    ) -> None:
        """Sort operations into those to write, those whose effect is there already, and conflicts.

        With ``shared``, what people edited past the digest is a conflict, too.
        """
        for row in operations:
            there = held.get(self._rows.key_of(row))
            holds = None if there is None else there.digest
            if holds == row["before_digest"]:
                if there is not None and shared is not None and self._is_edited(row, there, shared):
                    self.failures.append(edited(row))
                else:
                    stored = None if there is None else there.stored
                    self._by_action[Action(row["action"])].append({**row, _STORED: stored})
            elif holds != row["after_digest"]:
                self.failures.append(conflict(row, holds))

    def _is_edited(self, row: Row, there: Held, dialect: Dialect) -> bool:
        known = row["before_attributes"]
        if known is None:
            return False
        return self._rows.text_of(self._rows.key_of(row), there, known, dialect) not in {
            None,
            known,
        }

    def write(self, connection: Connection) -> None:
        """Write all, each action in one statement.

        Raises :class:`~resources.targets.column_values.Refused` for a value that its column does not take, and
        :class:`Moved` where a row is no longer as it was judged.
        """
        table = self._rows.mapped.table
        dialect = connection.dialect.name
        if creates := self._by_action[Action.CREATE]:
            values = [
                {**self._rows.identity(row), **self._content(row, dialect)} for row in creates
            ]
            connection.execute(insert(table), values)
        if updates := self._by_action[Action.UPDATE]:
            contents = [self._content(row, dialect) for row in updates]
            change = update(table).values({name: bindparam(f"to_{name}") for name in contents[0]})
            values = [
                {**self._before(row), **{f"to_{name}": value for name, value in content.items()}}
                for row, content in zip(updates, contents, strict=True)
            ]
            self._run(connection, change.where(self._is_before()), values)
        if deletes := self._by_action[Action.DELETE]:
            values = [self._before(row) for row in deletes]
            self._run(connection, delete(table).where(self._is_before()), values)

    def _content(self, row: Row, dialect: str) -> dict[str, Any]:
        """Return all columns but the key's."""
        mapped = self._rows.mapped
        content: dict[str, Any] = {DIGEST: row["after_digest"], OPERATION: row["operation_id"]}
        if mapped.attributes_column is not None:
            content[mapped.attributes_column] = row["attributes"]
        attributes = value_of(row["attributes"]) if mapped.typed else {}
        for name, column in mapped.typed:
            try:
                value = column_value(column.type, attributes.get(name), dialect=dialect)
            except Refused as error:
                raise Refused(
                    f"attribute {name!r} of {row['type_name']} {row['key']!r}: column {column.name!r} of "
                    f"{mapped.table.fullname!r} {error}"
                ) from None
            content[column.name] = value
        return content

    def _is_before(self) -> Any:
        columns = self._rows.mapped.table.c
        typed = [TYPE_NAME] if self._rows.mapped.generic else []
        keys = [SOURCE, *typed, *self._rows.mapped.key_columns, DIGEST]
        return and_(*(columns[name] == bindparam(f"is_{name}") for name in keys))

    def _before(self, row: Row) -> dict[str, Any]:
        before = {**self._rows.identity(row), DIGEST: row[_STORED]}
        return {f"is_{name}": value for name, value in before.items()}

    def _run(self, connection: Connection, statement: Any, values: list[dict[str, Any]]) -> None:
        touched = connection.execute(statement, values).rowcount
        if connection.dialect.supports_sane_multi_rowcount and touched != len(values):
            raise Moved(
                f"of {len(values)} rows of {self._rows.mapped.table.fullname!r} only {touched} are still what they "
                "were a moment ago: something else writes to them"
            )
