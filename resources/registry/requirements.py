"""What has to hold when an append commits, and what refers to what."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, String, bindparam, select, text

from penstock.identity.ids import SourceId, TenantId
from penstock.ports.registry import (
    ABSENT,
    End,
    Present,
    Requirement,
    Sole,
    Unchanged,
    Unreferenced,
    Unused,
)
from penstock.registry.events import API_SOURCE, StreamId, StreamKind
from resources.registry.rows import TABLES, matches, read_rows, stream_of
from resources.targets.registry_tables import registry_reference, registry_relationship

_KEYS_AT_ONCE = 500


def unmet(connection: Connection, requires: Sequence[Requirement]) -> Requirement | None:
    """Return the first requirement that does not hold now; those that do hold until the commit."""
    unchanged = [r.stream for r in requires if isinstance(r, Unchanged)]
    present = [stream for r in requires if isinstance(r, Present) for stream in r.any_of]
    held = read_rows(connection, unchanged, lock="share")
    there = read_rows(connection, present, lock="key share")
    for requirement in requires:
        match requirement:
            case Unchanged(stream=stream, version_tag=tag):
                found = bytes(held[stream].operation_id) if stream in held else ABSENT
                holds = found == tag
            case Present(any_of=streams):
                holds = any(stream in there for stream in streams)
            case Unreferenced(stream=stream, ignoring=ignoring):
                holds = not referrers_in(connection, stream, ignoring, limit=1)
            case Sole():
                holds = _is_sole(connection, requirement)
            case Unused():
                holds = _is_unused(connection, requirement)
        if not holds:
            return requirement
    return None


def _is_sole(connection: Connection, sole: Sole) -> bool:
    table = registry_relationship
    ends = {End.FROM: "key", End.TO: "to_key"}
    address = {
        "tenant_id": sole.tenant_id,
        "type_name": sole.type_name,
        "source_id": sole.source_id,
        ends[sole.end]: sole.key,
    }
    query = select(table).where(*matches(table, address)).limit(2)
    found = [stream_of(row, StreamKind.RELATIONSHIP) for row in connection.execute(query)]
    return all(stream == sole.allowed for stream in found)


def _is_unused(connection: Connection, unused: Unused) -> bool:
    table = TABLES[unused.kind]
    address = {"tenant_id": unused.tenant_id, "type_name": unused.type_name}
    return (
        connection.execute(select(table.c.key).where(*matches(table, address)).limit(1)).first()
        is None
    )


_NEXT_SOURCE = (
    "(SELECT source_id FROM {table} WHERE tenant_id = :tenant AND type_name = l.type_name "
    "AND source_id > l.source_id ORDER BY source_id LIMIT 1)"
)
_NEXT_TYPE = (
    "FROM {table} WHERE tenant_id = :tenant AND type_name > l.type_name "
    "ORDER BY type_name, source_id LIMIT 1)"
)
LANES = (
    "WITH RECURSIVE lanes(type_name, source_id) AS (SELECT * FROM (SELECT type_name, source_id FROM {table} "
    "WHERE tenant_id = :tenant ORDER BY type_name, source_id LIMIT 1) AS first UNION ALL "
    f"SELECT CASE WHEN {_NEXT_SOURCE} IS NOT NULL THEN l.type_name ELSE (SELECT type_name {_NEXT_TYPE} END, "
    f"COALESCE({_NEXT_SOURCE}, (SELECT source_id {_NEXT_TYPE}) "
    "FROM lanes AS l WHERE l.type_name IS NOT NULL) "
)
"""The types and sources that a tenant has rows of: a few probes of the index for each, however many rows there are.

Column by column: SQLite looks up no more than the first one of ``(type_name, source_id) > (...)``.
"""


def referrers_in(
    connection: Connection,
    stream: StreamId,
    ignoring: frozenset[tuple[str, End]],
    *,
    limit: int,
) -> list[StreamId]:
    """Return what refers to an entity, in order."""
    found = set(_naming(connection, stream, limit))
    for end in End:
        left_out = sorted(name for name, ignored in ignoring if ignored is end)
        found |= set(_ending(connection, stream, end, left_out, limit))
    return sorted(found, key=_order)[:limit]


def _order(stream: StreamId) -> tuple[str, ...]:
    return (stream.kind, stream.type_name, stream.source_id, stream.key, stream.to_key or "")


def _naming(connection: Connection, entity: StreamId, limit: int) -> list[StreamId]:
    table = registry_reference
    named = {
        "tenant_id": entity.tenant_id,
        "target_type": entity.type_name,
        "target_source": entity.source_id,
        "target_key": entity.key,
    }
    order = (table.c.kind, table.c.type_name, table.c.source_id, table.c.key, table.c.to_key)
    query = select(table).where(*matches(table, named)).order_by(*order).limit(limit + 1)
    found = [stream_of(row, StreamKind(row.kind)) for row in connection.execute(query)]
    return [stream for stream in found if stream != entity]


def _ending(
    connection: Connection, entity: StreamId, end: End, left_out: Sequence[str], limit: int
) -> list[StreamId]:
    """Return relationships with an end at an entity."""
    where = "" if entity.source_id == API_SOURCE else " AND r.source_id = :source"
    where += " AND r.type_name NOT IN :left_out ORDER BY r.type_name, r.source_id, r.key, r.to_key LIMIT :limit"
    if end is End.TO:
        query = f"SELECT r.* FROM registry_relationship AS r WHERE r.tenant_id = :tenant AND r.to_key = :key{where}"
    else:
        query = (
            LANES.format(table="registry_relationship")
            + "SELECT r.* FROM lanes AS l JOIN registry_relationship AS r ON r.tenant_id = :tenant "
            "AND r.type_name = l.type_name AND r.source_id = l.source_id AND r.key = :key "
            f"WHERE l.type_name IS NOT NULL{where}"
        )
    values = {
        "tenant": entity.tenant_id,
        "key": entity.key,
        "limit": limit,
        "left_out": list(left_out),
    }
    if entity.source_id != API_SOURCE:
        values["source"] = entity.source_id
    statement = text(query).bindparams(bindparam("left_out", type_=String, expanding=True))
    found = connection.execute(statement, values)
    return [stream_of(row, StreamKind.RELATIONSHIP) for row in found]


def entities_in(
    connection: Connection, tenant: TenantId, sources: Sequence[SourceId], keys: Sequence[str]
) -> dict[str, list[StreamId]]:
    """Return the entities of some sources that have these keys, by key."""
    found: dict[str, list[StreamId]] = {key: [] for key in keys}
    if not sources or not keys:
        return found
    listed = sorted(found)
    query = text(
        LANES.format(table="registry_entity")
        + "SELECT e.tenant_id, e.type_name, e.source_id, e.key FROM lanes AS l JOIN registry_entity AS e "
        "ON e.tenant_id = :tenant AND e.type_name = l.type_name AND e.source_id = l.source_id "
        "AND e.key IN :keys WHERE l.source_id IN :sources ORDER BY e.type_name, e.source_id"
    ).bindparams(
        bindparam("keys", type_=String, expanding=True),
        bindparam("sources", type_=String, expanding=True),
    )
    for start in range(0, len(listed), _KEYS_AT_ONCE):
        values = {
            "tenant": tenant,
            "sources": list(sources),
            "keys": listed[start : start + _KEYS_AT_ONCE],
        }
        for row in connection.execute(query, values):
            found[row.key].append(stream_of(row, StreamKind.ENTITY))
    return found
