"""The tables of what is measured and of the alerts that were sent."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text

from resources.control_db.tables import UtcTimestamp, json_type, metadata

metric_tally = Table(
    "metric_tally",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("labels", Text, primary_key=True),  # a JSON list of values, in the order of the metric's
    Column("part", String(16), primary_key=True),  # empty, or a bucket's bound, or sum
    Column("value", Float, nullable=False),
)

metric_cursor = Table(
    "metric_cursor",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("transaction_id", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
)

alert = Table(
    "alert",
    metadata,
    Column("alert_id", String(32), primary_key=True),  # follows from kind, tenant and key
    Column("kind", String(32), nullable=False),
    Column("key", Text, nullable=False),  # what it is about: a source, a target, a fingerprint
    Column("tenant_id", String(63), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("details", json_type(), nullable=False),
    Column("first_at", UtcTimestamp, nullable=False),
    Column("last_at", UtcTimestamp, nullable=False),
    Column("times", Integer, nullable=False),  # it was raised anew, after it had passed
    Column("passed_at", UtcTimestamp),  # null while it stands
    Column("told_at", UtcTimestamp),  # null where nobody was told
    Column("told_passed_at", UtcTimestamp),
    Index("ix_alert_passed_at", "passed_at"),
)
