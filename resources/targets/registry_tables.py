"""The registry's tables: an append-only log of what happened, and what is now.

``attributes`` is text, not jsonb: it comes back byte for byte as it was hashed. An event's ``operation_id`` is
unique, and so the receipt that makes an operation take effect once.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from resources.control_db.tables import UtcTimestamp, metadata

_KEY = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared byte by byte on both databases: an index over keys outlives a new release of a locale, and is faster."""
_POSITION = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts rows in INTEGER alone

registry_event = Table(
    "registry_event",
    metadata,
    Column("position", _POSITION, primary_key=True, autoincrement=True),
    Column("operation_id", LargeBinary, nullable=False),
    Column("source_id", String(63), nullable=False),
    Column("tenant_id", String(63), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("type_name", String(127), nullable=False),
    Column("key", _KEY, nullable=False),
    Column("to_key", _KEY),
    Column("action", String(16), nullable=False),
    Column("attributes", Text),
    Column("before_digest", LargeBinary),
    Column("after_digest", LargeBinary),
    Column("batch_id", String(127), nullable=False),
    Column("plan_digest", String(32), nullable=False),
    Column("fencing_token", BigInteger, nullable=False),
    Column("recorded_at", UtcTimestamp, nullable=False),
    Index("ux_registry_event_operation_id", "operation_id", unique=True),
)

registry_entity = Table(
    "registry_entity",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("type_name", String(127), primary_key=True),
    Column("key", _KEY, primary_key=True),
    Column("tenant_id", String(63), nullable=False),
    Column("attributes", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("operation_id", LargeBinary, nullable=False),
    Column("updated_at", UtcTimestamp, nullable=False),
)

registry_relationship = Table(
    "registry_relationship",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("type_name", String(127), primary_key=True),
    Column("key", _KEY, primary_key=True),
    Column("to_key", _KEY, primary_key=True),
    Column("tenant_id", String(63), nullable=False),
    Column("attributes", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("operation_id", LargeBinary, nullable=False),
    Column("updated_at", UtcTimestamp, nullable=False),
    Index("ix_registry_relationship_source_id_to_key", "source_id", "to_key"),
)

target_fence = Table(
    "target_fence",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("token", BigInteger, nullable=False),
)
"""The highest fencing token that each lane has been written under."""
