"""Listing what the registry holds of a source, in the order of its own index."""

from __future__ import annotations

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, and_, or_, select

from penstock.batch.rows import Kind
from penstock.identity.ids import SourceId, TenantId
from penstock.plan.operations import DIGEST
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
    found, listed = [HELD_SCHEMA.empty_table()], 0
    type_name = after.type_name if after else _next_type(connection, tenant, kind, "")
    while type_name is not None and listed < limit:
        begins = after if after and after.type_name == type_name else None
        missing = limit - listed
        found.append(_page(connection, tenant, source, kind, type_name, begins, missing))
        listed += len(found[-1])
        if listed < limit:
            type_name = _next_type(connection, tenant, kind, type_name)
    return pa.concat_tables(found)


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
) -> pa.Table:
    table = _TABLES[kind].c
    keys = [table.key] if kind is Kind.ENTITY else [table.key, table.to_key]
    query = (
        select(*keys, table.digest, table.attributes)
        .where(table.tenant_id == tenant, table.type_name == type_name, table.source_id == source)
        .order_by(*keys)
        .limit(limit)
    )
    if after is not None:
        query = query.where(*_behind(kind, after))
    rows = connection.execute(query).all()
    n, ends = len(rows), len(keys)
    return pa.table(
        [
            pa.array([type_name] * n, pa.string()),
            pa.array([row[0] for row in rows], pa.string()),
            pa.array([row[1] if ends > 1 else None for row in rows], pa.string()),
            pa.array([bytes(row[ends]) for row in rows], DIGEST),
            pa.array([row[-1] for row in rows], pa.string()),
        ],
        schema=HELD_SCHEMA,
    )


def _behind(kind: Kind, after: HeldName) -> list[ColumnElement[bool]]:
    table = _TABLES[kind].c
    if kind is Kind.ENTITY:
        return [table.key > after.key]
    same = and_(table.key == after.key, table.to_key > (after.to_key or ""))
    return [table.key >= after.key, or_(table.key > after.key, same)]


_TABLES = {Kind.ENTITY: registry_entity, Kind.RELATIONSHIP: registry_relationship}
