"""The table of how far targets have been listed."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table, Text

from resources.control_db.tables import UtcTimestamp, metadata

drift_listing = Table(
    "drift_listing",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("after_type", String(127)),  # these three: where the next look begins
    Column("after_key", Text),
    Column("after_to_key", Text),
    Column("listed", BigInteger, nullable=False),  # in this turn
    Column("listed_last_turn", BigInteger, nullable=False),
    Column("turn_started_at", UtcTimestamp, nullable=False),
    Column("turn_finished_at", UtcTimestamp),  # of the last whole turn
    Column("updated_at", UtcTimestamp, nullable=False),
)
