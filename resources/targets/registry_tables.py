"""The registry's tables: an append-only log of what happened, and what is now.

``attributes`` is text, not jsonb: it comes back byte for byte as it was hashed. An event's ``operation_id`` is
unique, and so the receipt that makes an operation take effect once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    event,
)

from resources.control_db.tables import UtcTimestamp, metadata

_KEY = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared byte by byte on both databases: an index over keys outlives a new release of a locale, and is faster."""
_POSITION = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts rows in INTEGER alone

CHANNEL = "penstock_registry"
"""Where PostgreSQL tells those who follow the log that there is more."""
LANE_LOCK_CLASS = 1380275029
LANE_LOCK = f"{LANE_LOCK_CLASS}, hashtext(CAST(:tenant AS text) || '/' || CAST(:source AS text))"
"""The advisory lock of a source of a tenant: bulk appends hold it alone, commands share it."""

registry_event = Table(
    "registry_event",
    metadata,
    Column("position", _POSITION, primary_key=True, autoincrement=True),
    Column("transaction_id", BigInteger, nullable=False),  # on SQLite 0: position is commit order
    Column("operation_id", LargeBinary, nullable=False),
    Column("source_id", String(63), nullable=False),
    Column("tenant_id", String(63), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("type_name", String(127), nullable=False),
    Column("key", _KEY, nullable=False),
    Column("to_key", _KEY),
    Column("action", String(20), nullable=False),
    Column("attributes", Text),
    Column("before_digest", LargeBinary),
    Column("after_digest", LargeBinary),
    Column("batch_id", String(127)),  # these three for published operations alone
    Column("plan_digest", String(32)),
    Column("fencing_token", BigInteger),
    Column("recorded_at", UtcTimestamp, nullable=False),
    Column("actor", Text),  # null for published operations: it is their batch
    Column("data", Text),
    Column("status", String(24)),  # of the row after it; null where it stays as it was
    Column("review", String(16)),
    Column("schema_version", Integer),
    Column("event_version", Integer, nullable=False, server_default="1"),
    Index("ux_registry_event_operation_id", "operation_id", unique=True),
    Index("ix_registry_event_commit_order", "transaction_id", "position"),
)
"""``transaction_id`` is the transaction's own number on PostgreSQL (xid8, never used again) plus the shift of the
server: with the oldest one still running it tells how far the log can be read without skipping what commits late."""

STREAM_HASH = "hashtextextended((key || COALESCE(to_key, ''::text)), (0)::bigint)"
"""What PostgreSQL finds a stream's events by: 8 bytes, where the keys themselves would cost the bulk load a third."""
_STREAM_INDEX = {
    "sqlite": "CREATE INDEX ix_registry_event_stream ON registry_event (key, to_key)",
    "postgresql": f"CREATE INDEX ix_registry_event_stream ON registry_event (({STREAM_HASH}))",
}
for _dialect, _statement in _STREAM_INDEX.items():
    event.listen(
        registry_event,
        "after_create",
        DDL(_statement).execute_if(dialect=_dialect),  # type: ignore[no-untyped-call]
    )


def _now(
    name: str, *, before: Sequence[Column[Any]] = (), after: Sequence[Column[Any]] = ()
) -> Table:
    """Declare a table of what is now; its key is in the order in which pages list it."""
    return Table(
        name,
        metadata,
        Column("tenant_id", String(63), primary_key=True),
        *before,
        Column("type_name", String(127), primary_key=True),
        Column("source_id", String(63), primary_key=True),
        Column("key", _KEY, primary_key=True),
        *after,
        Column("attributes", Text, nullable=False),
        Column("digest", LargeBinary, nullable=False),
        Column("operation_id", LargeBinary, nullable=False),
        Column("updated_at", UtcTimestamp, nullable=False),
        Column("updated_by", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("status", String(24), nullable=False, server_default="active"),
        Column("review", String(16)),
        Column("reviewed_by", Text),
        Column("reviewed_at", UtcTimestamp),
        Column("schema_version", Integer),
    )


registry_entity = _now("registry_entity")
registry_relationship = _now(
    "registry_relationship", after=[Column("to_key", _KEY, primary_key=True)]
)
Index(
    "ix_registry_relationship_to_key",
    registry_relationship.c.tenant_id,
    registry_relationship.c.to_key,
)
registry_definition = _now(
    "registry_definition", before=[Column("kind", String(20), primary_key=True)]
)
"""Schemas and relationship types."""

registry_gone = Table(
    "registry_gone",
    metadata,
    Column("tenant_id", String(63), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("type_name", String(127), primary_key=True),
    Column("source_id", String(63), primary_key=True),
    Column("key", _KEY, primary_key=True),
    Column("to_key", _KEY, primary_key=True),  # empty for an entity
    Column("version", BigInteger, nullable=False),
)
"""How many events a stream had when it was last deleted: where its versions go on, should it come back."""

registry_reference = Table(
    "registry_reference",
    metadata,
    Column("tenant_id", String(63), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("type_name", String(127), primary_key=True),
    Column("source_id", String(63), primary_key=True),
    Column("key", _KEY, primary_key=True),
    Column("to_key", _KEY, primary_key=True),  # empty for an entity
    Column("target_type", String(127), primary_key=True),
    Column("target_source", String(63), primary_key=True),
    Column("target_key", _KEY, primary_key=True),
    Index("ix_registry_reference_target", "tenant_id", "target_key"),
)
"""Which entities a state names."""

registry_projection = Table(
    "registry_projection",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("generation", Integer, primary_key=True),  # its tables' names end in it
    Column("status", String(16), nullable=False),  # live, building
    Column("transaction_id", BigInteger, nullable=False),  # what has been seen, up to here
    Column("position", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("updated_at", UtcTimestamp, nullable=False),
    Column("worker", String(64)),
    Column("leased_until", UtcTimestamp),
)

registry_seal = Table(
    "registry_seal",
    metadata,
    Column("block", _POSITION, primary_key=True, autoincrement=False),
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("last_transaction", BigInteger, nullable=False),
    Column("last_position", BigInteger, nullable=False),
    Column("leaves", LargeBinary, nullable=False),  # per event its position and digest
    Column("sealed_at", UtcTimestamp, nullable=False),
)
"""A chain of hashes over the log, block by block."""

target_fence = Table(
    "target_fence",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("tenant_id", String(63)),  # null until the registry has been written to under it
)
"""The highest fencing token that each lane has been written under, and for which tenant."""
