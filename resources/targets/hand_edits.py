"""Edits by hand in typed columns: what they hold, held against what was written there.

A column keeps less than an attribute, so the attributes of a row cannot be told from its columns. They can be told from
the attributes that were published and the columns that no longer hold what those were written as. Values are compared
as the driver takes and gives them: what is no date any more, in a database that lets text into a date column, is an
edit like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Dialect

from penstock.errors import NotCanonical
from penstock.identity.canonical import canonical_json, canonical_text, value_of
from resources.targets.column_values import ColumnType, Refused, column_value
from resources.targets.table_mapping import MappedColumn, MappedTable


def text_with_edits(
    mapped: MappedTable, text: str, values: Mapping[str, Any], dialect: Dialect
) -> str:
    """Return ``text`` with the attributes changed whose columns hold something else than these are written as.

    ``values`` are those of the typed columns by name, raw. Text that cannot be read is returned as it is.
    """
    try:
        attributes = value_of(canonical_json(text.encode()))
    except (NotCanonical, UnicodeEncodeError):
        return text
    edits: dict[str, Any] = {}
    for name, column in mapped.typed:
        held, in_table = _plain(values[column.name]), mapped.table.c[column.name]
        if not _holds(column, in_table, held, attributes.get(name), dialect):
            edits[name] = _attribute(column.type, in_table, held, dialect)
    return canonical_text(attributes | edits).decode() if edits else text


def _holds(
    column: MappedColumn, in_table: Column[Any], held: Any, value: Any, dialect: Dialect
) -> bool:
    """Say whether a column holds what an attribute is written as; what is refused was never written."""
    try:
        said = column_value(column.type, value, dialect=dialect.name)
    except Refused:
        return True
    return _same(held, _as_bound(in_table, said, dialect))


def _as_bound(column: Column[Any], value: Any, dialect: Dialect) -> Any:
    """Return a value as the driver is given it."""
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    return _plain(process(value) if process is not None else value)


def _attribute(kind: ColumnType, column: Column[Any], held: Any, dialect: Dialect) -> Any:
    """Return what a column holds as an attribute; as text, where it is nothing that its type has."""
    if held is None:
        return None
    try:
        if kind is ColumnType.JSON:
            return value_of(canonical_json(b'{"it":' + str(held).encode() + b"}"))["it"]
        if kind is ColumnType.DECIMAL:
            return Decimal(str(held))
        value = float(held) if kind is ColumnType.FLOAT else _as_read(column, held, dialect)
        column_value(kind, value, dialect=dialect.name)
    except (Refused, NotCanonical, ValueError, TypeError, ArithmeticError):
        return str(held)
    return value


def _as_read(column: Column[Any], raw: Any, dialect: Dialect) -> Any:
    process = column.type.dialect_impl(dialect).result_processor(dialect, None)
    return process(raw) if process is not None else raw


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def _same(held: Any, said: Any) -> bool:
    if held is None or said is None:
        return held is said
    return bool(held == said or (held != held and said != said))  # noqa: PLR0124  NaN is itself


__all__ = ["text_with_edits"]
