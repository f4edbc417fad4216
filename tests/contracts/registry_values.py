"""Small streams and events for the registry's contract."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from penstock.identity.ids import SourceId, TenantId
from penstock.ports.registry import ABSENT, Append, Appended, RegistryStore
from penstock.registry.events import API_SOURCE, EventAction, NewEvent, StreamId, StreamKind
from resources.control_db.log_order import WATERMARK
from resources.registry.store import SqlRegistryStore

ACME, OTHER = TenantId("acme"), TenantId("other")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at(minute: int) -> datetime:
    """Return a moment."""
    return NOW + timedelta(minutes=minute)


def entity(
    key: str,
    *,
    type_name: str = "person",
    tenant: TenantId = ACME,
    source: SourceId = API_SOURCE,
) -> StreamId:
    """Name an entity."""
    return StreamId(
        tenant_id=tenant,
        source_id=source,
        kind=StreamKind.ENTITY,
        type_name=type_name,
        key=key,
    )


def edge(
    key: str,
    to_key: str,
    *,
    type_name: str = "knows",
    tenant: TenantId = ACME,
    source: SourceId = API_SOURCE,
) -> StreamId:
    """Name a relationship."""
    return StreamId(
        tenant_id=tenant,
        source_id=source,
        kind=StreamKind.RELATIONSHIP,
        type_name=type_name,
        key=key,
        to_key=to_key,
    )


def definition(
    name: str, *, kind: StreamKind = StreamKind.SCHEMA, tenant: TenantId = ACME
) -> StreamId:
    """Name a schema or a relationship type."""
    return StreamId(tenant_id=tenant, source_id=API_SOURCE, kind=kind, type_name=name, key=name)


def operation(name: str) -> bytes:
    """Return an operation id."""
    return hashlib.sha256(name.encode()).digest()[:16]


def write(
    stream: StreamId,
    state: dict[str, Any] | None,
    *,
    expected: bytes | None = None,
    action: EventAction | None = None,
    name: str | None = None,
    actor: str = "ann",
    data: dict[str, Any] | None = None,
    schema_version: int | None = None,
    status: str = "active",
    review: str | None = None,
    references: tuple[StreamId, ...] | None = None,
) -> Append:
    """Make an append, whose operation id is of ``name`` or, without one, of what it says."""
    said = name or f"{stream}{state}{expected!r}{action}{status}{review}"
    event = NewEvent(
        stream=stream,
        action=action or (EventAction.DELETE if state is None else EventAction.UPDATE),
        state=state,
        data=data or {},
        operation_id=operation(said),
        schema_version=schema_version,
        actor=actor,
    )
    return Append(
        event=event, expected=expected, status=status, review=review, references=references
    )


def put(store: RegistryStore, *appends: Append, minute: int = 0) -> Appended:
    """Append, which has to succeed."""
    appended = store.append(appends, now=at(minute))
    assert isinstance(appended, Appended), appended
    return appended


def create(store: RegistryStore, stream: StreamId, state: dict[str, Any] | None = None) -> bytes:
    """Create what is not there; return its version tag."""
    append = write(stream, state or {}, expected=ABSENT, action=EventAction.CREATE)
    put(store, append)
    return append.event.operation_id


def keys(streams: Sequence[StreamId]) -> list[str]:
    """Return the keys of streams."""
    return [stream.key for stream in streams]


def settled(store: SqlRegistryStore) -> None:
    """Return once all that has committed can be read in the log.

    A transaction of the same database holds readers up for as long as it runs.
    """
    if store.engine.dialect.name != "postgresql":
        return
    late = text(f"SELECT count(*) FROM registry_event WHERE transaction_id >= {WATERMARK}")
    give_up_at = time.monotonic() + 60
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.scalar(late):
            assert time.monotonic() < give_up_at, "a transaction has been open for a minute"
            time.sleep(0.005)


class SettledStore(SqlRegistryStore):
    """A store whose appends can be read in the log as soon as they return."""

    def append(self, *args: Any, **kwargs: Any) -> Any:
        outcome = super().append(*args, **kwargs)
        settled(self)
        return outcome
