"""The columns of circuit breakers, and the table of those of targets."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, String, Table, Text
from sqlalchemy.schema import SchemaItem

from resources.control_db.tables import UtcTimestamp, metadata


def breaker_columns() -> list[SchemaItem]:
    """Return the columns of a circuit breaker, whatever it is for."""
    return [
        Column("status", String(16), nullable=False),  # closed, open, half_open
        Column("window_started_at", UtcTimestamp, nullable=False),
        Column("calls", BigInteger, nullable=False),
        Column("failures", BigInteger, nullable=False),
        Column("opened_at", UtcTimestamp),
        Column("open_until", UtcTimestamp),
        Column("times_opened", Integer, nullable=False),  # in a row, without a success in between
        Column("doubted_until", UtcTimestamp),
        Column("last_error", Text),
        Column("updated_at", UtcTimestamp, nullable=False),
        CheckConstraint("status IN ('closed', 'half_open', 'open')", name="status"),
    ]


target_breaker = Table(
    "target_breaker",
    metadata,
    Column("target_id", String(63), primary_key=True),
    *breaker_columns(),
)
