"""Which table each type of entity or relationship goes into, and how a row of it looks.

A row has the columns that the mapping names and three of the target's own: ``_penstock_source`` (whose row it is),
``_penstock_digest`` (what of it was last written) and ``_penstock_operation`` (by which operation).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeEngine

from penstock.batch.rows import Kind
from penstock.errors import PenstockError
from penstock.identity.ids import type_name as checked_type_name
from resources.control_db.tables import UtcTimestamp
from resources.targets.column_values import ColumnType

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_SERVERS_WITHOUT_TEXT_KEYS = ("mysql", "mariadb", "mssql", "oracle")

SOURCE, DIGEST, OPERATION = "_penstock_source", "_penstock_digest", "_penstock_operation"
TYPE_NAME = "type_name"


class BadTableMapping(PenstockError):
    """A mapping from a type to a table cannot be used; the message names it."""

    code = "bad_table_mapping"


@dataclass(frozen=True, kw_only=True, slots=True)
class MappedColumn:
    """The column that one attribute goes into."""

    name: str
    type: ColumnType


@dataclass(frozen=True, kw_only=True, slots=True)
class TableMapping:
    """The table of one type. Its key is the source, ``key_column`` and, for relationships, ``to_key_column``."""

    kind: Kind
    type_name: str
    table: str
    """A table's name, or ``schema.table``."""
    key_column: str = "key"
    to_key_column: str = "to_key"
    """For relationships; entities have none."""
    columns: tuple[tuple[str, MappedColumn], ...] = ()
    """Pairs of a top-level attribute and its column; an attribute that is missing or null is NULL."""
    attributes_column: str | None = None
    """A column for the whole canonical text. Without one, ``read_back`` knows digests but no attributes."""

    def __post_init__(self) -> None:
        checked_type_name(self.type_name)
        names = [self.key_column, *self._others()]
        for name in (*self.table.split("."), *names):
            if not _NAME.fullmatch(name):
                raise BadTableMapping(
                    f"the mapping of {self.type_name!r} to table {self.table!r} names {name!r}: use 1 to 63 of "
                    "letters, digits and _, not beginning with a digit"
                )
        if self.table.count(".") > 1:
            raise BadTableMapping(f"{self.table!r} is no table: write it as table or schema.table")
        taken = [name.lower() for name in (*names, SOURCE, DIGEST, OPERATION)]
        for name in names:
            if taken.count(name.lower()) > 1:
                raise BadTableMapping(
                    f"the mapping of {self.type_name!r} to table {self.table!r} names column {name!r} twice, or "
                    "it is one of the target's own"
                )

    def _others(self) -> list[str]:
        ends = [self.to_key_column] if self.kind is Kind.RELATIONSHIP else []
        kept = [self.attributes_column] if self.attributes_column is not None else []
        return [*ends, *(column.name for _, column in self.columns), *kept]


@dataclass(frozen=True, kw_only=True, slots=True)
class MappedTable:
    """A mapping with its table, ready for statements."""

    table: Table
    key_columns: tuple[str, ...]
    """Column of the key and, for relationships, of the other end."""
    typed: tuple[tuple[str, MappedColumn], ...]
    attributes_column: str | None
    generic: bool = False
    """Whether rows of all types lie in it, told apart by a column."""


def mapped_tables(
    metadata: MetaData, mappings: Iterable[TableMapping]
) -> dict[tuple[Kind, str], MappedTable]:
    """Declare the tables of mappings. Raises :class:`BadTableMapping` for a type or a table mapped twice."""
    tables: dict[tuple[Kind, str], MappedTable] = {}
    for mapping in mappings:
        if (mapping.kind, mapping.type_name) in tables:
            raise BadTableMapping(
                f"{mapping.kind} of type {mapping.type_name!r} are mapped twice: keep one mapping"
            )
        schema, _, name = mapping.table.rpartition(".")
        if mapping.table in metadata.tables:
            raise BadTableMapping(
                f"table {mapping.table!r} is used twice: give each type a table of its own"
            )
        ends = (mapping.to_key_column,) if mapping.kind is Kind.RELATIONSHIP else ()
        keys = (mapping.key_column, *ends)
        columns = [Column(c.name, _COLUMN_TYPES[c.type]) for _, c in mapping.columns]
        if mapping.attributes_column is not None:
            columns.append(Column(mapping.attributes_column, Text))
        tables[mapping.kind, mapping.type_name] = MappedTable(
            table=_table(metadata, name, schema or None, keys, columns),
            key_columns=keys,
            typed=mapping.columns,
            attributes_column=mapping.attributes_column,
        )
    return tables


def generic_table(metadata: MetaData, kind: Kind) -> MappedTable:
    """Declare the table for all types of a kind that no mapping names."""
    keys = ("key",) if kind is Kind.ENTITY else ("key", "to_key")
    columns = [Column("attributes", Text)]
    return MappedTable(
        table=_table(metadata, f"penstock_{kind}", None, keys, columns, typed=False),
        key_columns=keys,
        typed=(),
        attributes_column="attributes",
        generic=True,
    )


def _table(
    metadata: MetaData,
    name: str,
    schema: str | None,
    keys: tuple[str, ...],
    columns: list[Column[Any]],
    *,
    typed: bool = True,
) -> Table:
    type_columns = [] if typed else [Column(TYPE_NAME, String(127), nullable=False)]
    return Table(
        name,
        metadata,
        Column(SOURCE, String(63), nullable=False),
        *type_columns,
        *(Column(key, _key_type(len(keys)), nullable=False) for key in keys),
        *columns,
        Column(DIGEST, LargeBinary(16), nullable=False),
        Column(OPERATION, LargeBinary(16), nullable=False),
        PrimaryKeyConstraint(SOURCE, *(c.name for c in type_columns), *keys),
        schema=schema,
    )


def _key_type(keys: int) -> TypeEngine[str]:
    """Text, compared byte by byte; these servers index no unbounded text, and little of it."""
    kind: TypeEngine[str] = Text().with_variant(Text(collation="C"), "postgresql")
    return kind.with_variant(String(512 // keys), *_SERVERS_WITHOUT_TEXT_KEYS)


_COLUMN_TYPES: dict[ColumnType, TypeEngine[Any]] = {
    ColumnType.TEXT: Text(),
    ColumnType.JSON: Text(),
    ColumnType.INTEGER: BigInteger(),
    ColumnType.FLOAT: Double(),
    # SQLite has no decimals: through its floats they would come back as others.
    ColumnType.DECIMAL: Numeric().with_variant(Text(), "sqlite"),
    ColumnType.BOOLEAN: Boolean(),
    ColumnType.DATE: Date(),
    ColumnType.TIMESTAMP: UtcTimestamp(),
    ColumnType.DATETIME: DateTime(),
    ColumnType.BYTES: LargeBinary(),
}
