"""The table of the outbox: what is told to others, written with what it tells of."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from resources.control_db.tables import UtcTimestamp, json_type, metadata

CHANNEL = "penstock_outbox"
"""Where PostgreSQL tells those who follow the outbox that there is more."""

outbox_event = Table(
    "outbox_event",
    metadata,
    Column(
        "position",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("transaction_id", BigInteger, nullable=False),  # on SQLite 0: position is commit order
    Column("event_id", String(127), nullable=False),
    Column("type", String(63), nullable=False),
    Column("source", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("tenant_id", String(63), nullable=False),
    Column("time", UtcTimestamp, nullable=False),
    Column("data", json_type(), nullable=False),
    Column("trace_parent", String(55)),
    Index("ux_outbox_event_event_id", "event_id", unique=True),
    Index("ix_outbox_event_commit_order", "transaction_id", "position"),
    Index("ix_outbox_event_time", "time"),
    Index("ix_outbox_event_tenant_id", "tenant_id", "transaction_id", "position"),
    sqlite_autoincrement=True,  # else positions of removed events are given again, behind those who read them
)
"""``transaction_id`` is the transaction's own number on PostgreSQL (xid8) plus the shift of the server, as
:mod:`~resources.control_db.log_order` has it: with the oldest one still running it tells how far the outbox can be read
without skipping what commits late."""
