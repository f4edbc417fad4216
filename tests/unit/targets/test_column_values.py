"""What typed columns take and what they refuse."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from resources.targets.column_values import ColumnType, Refused, column_value


@pytest.mark.parametrize("kind", ColumnType)
def test_null_goes_anywhere(kind: ColumnType) -> None:
    """A missing or null attribute is NULL in a column of any type."""
    assert column_value(kind, None, dialect="sqlite") is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ColumnType.TEXT, 1),
        (ColumnType.TEXT, "a\0b"),
        (ColumnType.INTEGER, True),
        (ColumnType.INTEGER, 1.0),
        (ColumnType.INTEGER, 2**63),
        (ColumnType.INTEGER, "1"),
        (ColumnType.FLOAT, True),
        (ColumnType.FLOAT, 2**53 + 1),
        (ColumnType.FLOAT, 10**400),
        (ColumnType.FLOAT, float("nan")),
        (ColumnType.DECIMAL, 1.5),
        (ColumnType.DECIMAL, Decimal("nan")),
        (ColumnType.BOOLEAN, 1),
        (ColumnType.DATE, datetime(2026, 1, 1, tzinfo=UTC)),
        (ColumnType.TIMESTAMP, datetime(2026, 1, 1)),  # noqa: DTZ001  naive on purpose
        (ColumnType.TIMESTAMP, "2026-01-01T00:00:00.123456789Z"),
        (ColumnType.DATETIME, datetime(2026, 1, 1, tzinfo=UTC)),
        (ColumnType.BYTES, "text"),
    ],
)
def test_nothing_is_bent_to_fit(kind: ColumnType, value: Any) -> None:
    """A value of another kind, or one that the column could not give back, is refused."""
    with pytest.raises(Refused):
        column_value(kind, value, dialect="sqlite")


def test_integers_are_floats_where_they_are_exact() -> None:
    """An integer that a double holds exactly goes into a float column."""
    assert column_value(ColumnType.FLOAT, 2**53, dialect="sqlite") == 2.0**53


def test_what_is_not_finite_goes_where_it_is_kept() -> None:
    """PostgreSQL keeps NaN and infinities; SQLite would keep NaN as NULL, so it is refused there."""
    infinite = float("inf")
    assert column_value(ColumnType.FLOAT, infinite, dialect="postgresql") == infinite
    with pytest.raises(Refused, match="finite numbers on sqlite"):
        column_value(ColumnType.FLOAT, infinite, dialect="sqlite")


def test_any_value_is_json() -> None:
    """A JSON column takes any value, as the canonical text that it is hashed by."""
    value = {"b": [date(2026, 1, 1)], "a": None}
    assert (
        column_value(ColumnType.JSON, value, dialect="sqlite")
        == '{"a":null,"b":[{"$date":"2026-01-01"}]}'
    )


def test_a_refusal_shows_little_of_a_long_value() -> None:
    """The message shows the beginning of a value, not a megabyte of it."""
    with pytest.raises(Refused) as caught:
        column_value(ColumnType.INTEGER, "x" * 10**6, dialect="sqlite")
    assert len(str(caught.value)) < 200
