"""Values for typed columns, checked before the database sees them: SQLite would keep text in an integer column."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from penstock.identity.canonical import canonical_text_of


class ColumnType(StrEnum):
    """What a column takes. Values are never turned into another kind of thing to fit, except integers into floats."""

    TEXT = "text"
    INTEGER = "integer"
    """64 bits."""
    FLOAT = "float"
    DECIMAL = "decimal"
    """Exact. Text on SQLite, which has no decimals."""
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    """An aware moment, to the microsecond."""
    DATETIME = "datetime"
    """A naive one."""
    BYTES = "bytes"
    JSON = "json"
    """Any value, as its canonical text."""


class Refused(ValueError):
    """A value that a column of its type does not take; the message says why."""


def column_value(kind: ColumnType, value: Any, *, dialect: str) -> Any:
    """Return ``value`` as it is bound to a column of a type; raises :class:`Refused`."""
    if value is None:
        return None
    accepts, meaning = _ACCEPTS[kind]
    if not accepts(value):
        raise Refused(f"takes {meaning}, not the {type(value).__name__} {_shown(value)}")
    if kind is ColumnType.JSON:
        return canonical_text_of(value).decode()
    if kind is ColumnType.TEXT and "\0" in value:
        raise Refused("takes text without NUL characters, which no text column can keep")
    if kind is ColumnType.FLOAT:
        return _float(value, dialect)
    if kind is ColumnType.DECIMAL:
        return _decimal(value, dialect)
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."


def _is_integer(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_moment(value: Any, *, aware: bool) -> bool:
    return isinstance(value, datetime) and (value.tzinfo is not None) is aware


_ACCEPTS: dict[ColumnType, tuple[Callable[[Any], bool], str]] = {
    ColumnType.TEXT: (lambda value: isinstance(value, str), "text"),
    ColumnType.INTEGER: (_is_integer, "integers of 64 bits"),
    ColumnType.FLOAT: (lambda value: type(value) in {float, int}, "numbers"),
    ColumnType.DECIMAL: (lambda value: type(value) in {Decimal, int}, "decimals and integers"),
    ColumnType.BOOLEAN: (lambda value: isinstance(value, bool), "true and false"),
    ColumnType.DATE: (lambda value: type(value) is date, "dates"),
    ColumnType.TIMESTAMP: (
        lambda value: _is_moment(value, aware=True),
        "moments with a zone, to the microsecond",
    ),
    ColumnType.DATETIME: (
        lambda value: _is_moment(value, aware=False),
        "moments without a zone, to the microsecond",
    ),
    ColumnType.BYTES: (lambda value: isinstance(value, bytes), "bytes"),
    ColumnType.JSON: (lambda _: True, "anything"),
}


def _float(value: float, dialect: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise Refused(f"takes numbers up to 1.8e308, not {_shown(value)}") from None
    if number != value and not math.isnan(number):
        raise Refused(f"would keep {value} as {number}: map it to a decimal or integer column")
    # SQLite would keep NaN as NULL, and most servers refuse both.
    if not math.isfinite(number) and dialect != "postgresql":
        raise Refused(f"takes finite numbers on {dialect}, not {number}")
    return number


def _decimal(value: Decimal | int, dialect: str) -> Decimal | str:
    number = Decimal(value)
    if not number.is_finite() and dialect != "postgresql":
        raise Refused(f"takes finite decimals on {dialect}, not {number}")
    return str(number) if dialect == "sqlite" else number
