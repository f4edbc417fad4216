"""Listing what the registry holds of a source, in the order of its own index."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, and_, or_, select

from penstock.batch.rows import Kind
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.target import HELD_SCHEMA, HeldName
from resources.targets.registry_tables import registry_entity, registry_relationship


def list_held(
    connection: Connection,
    tenant: TenantId,
    source: SourceId,
    kind: Kind,
    *,
    after: HeldName | None,
    limit: int,
) -> pa.Table:
    """Return the next rows of a source, type by type: the index begins with the tenant and the type."""
    found: list[dict[str, Any]] = []
    type_name = after.type_name if after else _next_type(connection, tenant, kind, "")
    while type_name is not None and len(found) < limit:
        begins = after if after and after.type_name == type_name else None
        missing = limit - len(found)
        found += _page(connection, tenant, source, kind, type_name, begins, missing)
        if len(found) < limit:
            type_name = _next_type(connection, tenant, kind, type_name)
    return pa.Table.from_pylist(found, schema=HELD_SCHEMA)


def _next_type(connection: Connection, tenant: TenantId, kind: Kind, after: str) -> str | None:
    table = _TABLES[kind].c
    query = select(table.type_name).where(table.tenant_id == tenant, table.type_name > after)
    found: str | None = connection.scalar(query.order_by(table.type_name).limit(1))
    return found


def _page(
    connection: Connection,
    tenant: TenantId,
    source: SourceId,
    kind: Kind,
    type_name: str,
    after: HeldName | None,
    limit: int,
) -> list[dict[str, Any]]:
    table = _TABLES[kind].c
    keys = [table.key] if kind is Kind.ENTITY else [table.key, table.to_key]
    query = (
        select(table.type_name, *keys, table.digest, table.attributes)
        .where(table.tenant_id == tenant, table.type_name == type_name, table.source_id == source)
        .order_by(*keys)
        .limit(limit)
    )
    if after is not None:
        query = query.where(*_behind(kind, after))
    rows = connection.execute(query).mappings()
    return [{"to_key": None, **row, "digest": bytes(row["digest"])} for row in rows]


def _behind(kind: Kind, after: HeldName) -> list[ColumnElement[bool]]:
    table = _TABLES[kind].c
    if kind is Kind.ENTITY:
        return [table.key > after.key]
    same = and_(table.key == after.key, table.to_key > (after.to_key or ""))
    return [table.key >= after.key, or_(table.key > after.key, same)]


_TABLES = {Kind.ENTITY: registry_entity, Kind.RELATIONSHIP: registry_relationship}
