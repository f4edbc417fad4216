"""Rows of the registry's tables as the port's values, and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, Table, select
from sqlalchemy.sql.elements import ColumnElement

from penstock.identity.canonical import canonical_text, value_of
from penstock.identity.digest import digest, entity_digest, relationship_digest
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.registry import Held
from penstock.registry.events import Cursor, EventAction, RecordedEvent, StreamId, StreamKind
from resources.targets.registry_tables import (
    registry_definition,
    registry_entity,
    registry_event,
    registry_relationship,
)

TABLES: Mapping[StreamKind, Table] = {
    StreamKind.ENTITY: registry_entity,
    StreamKind.RELATIONSHIP: registry_relationship,
    StreamKind.SCHEMA: registry_definition,
    StreamKind.RELATIONSHIP_TYPE: registry_definition,
}
_KEYS_AT_ONCE = 500
_TAG_DEFINITION = b"D"
Lock = Literal["key share", "share"]


def address_of(stream: StreamId) -> dict[str, Any]:
    """Return the key columns of a stream's row, by name."""
    address: dict[str, Any] = {
        "tenant_id": stream.tenant_id,
        "type_name": stream.type_name,
        "source_id": stream.source_id,
        "key": stream.key,
    }
    if stream.kind is StreamKind.RELATIONSHIP:
        address["to_key"] = stream.to_key
    elif stream.kind is not StreamKind.ENTITY:
        address["kind"] = str(stream.kind)
    return address


def beside_of(stream: StreamId) -> dict[str, Any]:
    """Return the key columns of what is kept beside the rows of every kind, by name."""
    return {**address_of(stream), "kind": str(stream.kind), "to_key": stream.to_key or ""}


def matches(table: Table, values: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """Return the conditions that columns have these values."""
    return [table.c[name] == value for name, value in values.items()]


def text_of(value: Mapping[str, Any] | None) -> str | None:
    """Return the canonical text that a state or data is kept as."""
    return None if value is None else canonical_text(dict(value)).decode()


def digest_of(stream: StreamId, text: str) -> bytes:
    """Return the content digest of a state; of entities and relationships as publishing computes it."""
    if stream.kind is StreamKind.ENTITY:
        return entity_digest(stream.type_name, stream.key, text.encode())
    if stream.kind is StreamKind.RELATIONSHIP:
        return relationship_digest(stream.type_name, stream.key, stream.to_key or "", text.encode())
    return digest(_TAG_DEFINITION, stream.kind.encode(), stream.key.encode(), text.encode())


def stream_of(row: Any, kind: StreamKind) -> StreamId:
    """Return what a row with the key columns is about."""
    to_key = row.to_key if kind is StreamKind.RELATIONSHIP else None
    return StreamId(
        tenant_id=TenantId(row.tenant_id),
        source_id=SourceId(row.source_id),
        kind=kind,
        type_name=row.type_name,
        key=row.key,
        to_key=to_key,
    )


def held_of(row: Any, kind: StreamKind) -> Held:
    """Return what a row of what is now says."""
    return Held(
        stream=stream_of(row, kind),
        state=value_of(row.attributes),
        version_tag=bytes(row.operation_id),
        version=row.version,
        status=row.status,
        review=row.review,
        reviewed_by=row.reviewed_by,
        reviewed_at=row.reviewed_at,
        schema_version=row.schema_version,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )


EVENT_COLUMNS = tuple(
    registry_event.c[name]
    for name in (
        *("transaction_id", "position", "operation_id", "tenant_id", "source_id", "kind"),
        *("type_name", "key", "to_key", "action", "attributes", "before_digest", "after_digest"),
        *("batch_id", "recorded_at", "actor", "data", "status", "review", "schema_version"),
        "event_version",
    )
)


def recorded_of(row: Row[Any], version: int = 0) -> RecordedEvent:
    """Return what a row of the log says."""
    return RecordedEvent(
        cursor=Cursor(transaction=row.transaction_id, position=row.position),
        stream=stream_of(row, StreamKind(row.kind)),
        action=EventAction(row.action),
        state=None if row.attributes is None else value_of(row.attributes),
        data={} if row.data is None else value_of(row.data),
        operation_id=bytes(row.operation_id),
        schema_version=row.schema_version,
        actor=row.actor or f"batch:{row.batch_id}",
        event_version=row.event_version,
        recorded_at=row.recorded_at,
        version=version,
        status=row.status,
        review=row.review,
        batch_id=row.batch_id,
        before_digest=None if row.before_digest is None else bytes(row.before_digest),
        after_digest=None if row.after_digest is None else bytes(row.after_digest),
    )


def read_rows(
    connection: Connection, streams: Iterable[StreamId], *, lock: Lock | None = None
) -> dict[StreamId, Row[Any]]:
    """Return the rows of those streams that hold something; with a lock, on PostgreSQL, until the commit.

    ``key share`` keeps them from being deleted, ``share`` from being changed at all.
    """
    found: dict[StreamId, Row[Any]] = {}
    for lane, wanted in _by_lane(streams).items():
        table = TABLES[wanted[0].kind]
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            some = wanted[start : start + _KEYS_AT_ONCE]
            query = select(table).where(*matches(table, dict(lane)), *_keys(table, some))
            if lock is not None:
                query = query.order_by(table.c.key).with_for_update(
                    read=True, key_share=lock == "key share"
                )
            for row in connection.execute(query):
                found[stream_of(row, wanted[0].kind)] = row
    return {stream: found[stream] for stream in streams if stream in found}


def _by_lane(
    streams: Iterable[StreamId],
) -> dict[tuple[tuple[str, Any], ...], list[StreamId]]:
    """Group streams by all of their address but the keys, so that each group is one range of an index."""
    lanes: dict[tuple[tuple[str, Any], ...], list[StreamId]] = defaultdict(list)
    for stream in sorted(set(streams), key=lambda s: (s.kind, s.key, s.to_key or "")):
        address = address_of(stream)
        del address["key"]
        address.pop("to_key", None)
        lanes[(*address.items(), ("", stream.kind))].append(stream)
    return {lane[:-1]: wanted for lane, wanted in sorted(lanes.items())}


def _keys(table: Table, streams: Sequence[StreamId]) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [table.c.key.in_({stream.key for stream in streams})]
    if "to_key" in table.c:
        # A superset where several of both are asked for; what was not asked for is left out after.
        conditions.append(table.c.to_key.in_({stream.to_key for stream in streams}))
    return conditions
