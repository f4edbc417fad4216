"""The tables of where events are sent to, and of events that came in."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, text

from resources.control_db.tables import UtcTimestamp, json_type, metadata

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
_WAITING = text("status = 'waiting'")
_RETRYING = text("status = 'waiting' AND retry_at IS NOT NULL")

destination = Table(
    "destination",
    metadata,
    Column("destination_id", String(63), primary_key=True),
    Column("tenant_id", String(63), nullable=False),
    Column("kind", String(16), nullable=False),  # webhook, rabbitmq
    Column("address", Text, nullable=False),  # a URL, or the name of an exchange
    Column("types", json_type(), nullable=False),  # empty for all
    Column("subjects", json_type(), nullable=False),  # beginnings; empty for all
    Column("status", String(16), nullable=False),  # enabled, disabled
    Column("created_at", UtcTimestamp, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("cursor_transaction", BigInteger, nullable=False),
    Column("cursor_position", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),  # in a row, of what is next
    Column("failing_since", UtcTimestamp),
    Column("retry_at", UtcTimestamp),
    Column("last_error", Text),
    Column("delivered_at", UtcTimestamp),
    Column("disabled_at", UtcTimestamp),
    Column("disabled_why", Text),
    Column("lease_owner", String(255)),
    Column("lease_until", UtcTimestamp),
    Column("fencing_token", BigInteger, nullable=False),
)

destination_secret = Table(
    "destination_secret",
    metadata,
    Column("destination_id", String(63), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("expires_at", UtcTimestamp),
)
"""Apart from the destinations, so that whoever lists those never reads a secret."""

delivery = Table(
    "delivery",
    metadata,
    Column("delivery_number", _NUMBER, primary_key=True, autoincrement=True),
    Column("destination_id", String(63), nullable=False),
    Column("event_id", String(127), nullable=False),
    Column("event_type", String(63), nullable=False),
    Column("at", UtcTimestamp, nullable=False),
    Column("outcome", String(16), nullable=False),  # delivered, failed
    Column("attempt", Integer, nullable=False),
    Column("status_code", Integer),
    Column("error", Text),
    Column("duration_ms", BigInteger, nullable=False),
    Index("ix_delivery_destination_id", "destination_id", "delivery_number"),
)

inbox_event = Table(
    "inbox_event",
    metadata,
    Column("position", _NUMBER, primary_key=True, autoincrement=True),
    Column("source", Text, nullable=False),
    Column("event_id", String(255), nullable=False),
    Column("type", String(63), nullable=False),
    Column("subject", Text, nullable=False),
    Column("tenant_id", String(63), nullable=False),
    Column("time", UtcTimestamp, nullable=False),
    Column("data", json_type(), nullable=False),
    Column("trace_parent", String(55)),
    Column("received_at", UtcTimestamp, nullable=False),
    Column("received_from", String(255), nullable=False),
    Column("status", String(16), nullable=False),  # waiting, done, dead
    Column("attempts", Integer, nullable=False),
    Column("retry_at", UtcTimestamp),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("settled_at", UtcTimestamp),
    Index("ux_inbox_event_source", "tenant_id", "source", "event_id", unique=True),
    Index("ix_inbox_event_waiting", "position", postgresql_where=_WAITING, sqlite_where=_WAITING),
    Index(
        "ix_inbox_event_retrying",
        "tenant_id",
        "subject",
        postgresql_where=_RETRYING,
        sqlite_where=_RETRYING,
    ),
    Index("ix_inbox_event_status", "status", "settled_at"),
    sqlite_autoincrement=True,  # else positions of removed events are given again, which the audit log names
)
"""Unique within a tenant, so that none can keep another's events out by taking their ids."""

loop_lease = Table(
    "loop_lease",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("until", UtcTimestamp, nullable=False),
)
"""What one server at a time does."""

loop_place = Table(
    "loop_place",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("transaction_id", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
)
"""Up to where what follows the outbox has come."""
