"""Chunks of operations on entities, as short as tests of targets need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.batch.rows import SCHEMAS, Kind
from penstock.identity.canonical import canonical_text
from penstock.identity.digest import entity_digest, halves
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.plan.build import Origin, Side, build_operations
from penstock.plan.operations import Action
from penstock.ports.target import ApplyContext

CONTEXT = ApplyContext(
    batch_id=BatchId("crm@2026-01-01T00-00-00.000000Z"),
    source_id=SourceId("crm"),
    target_id=TargetId("warehouse"),
    tenant_id=TenantId("default"),
    plan_digest="0" * 32,
    fencing_token=1,
    now=datetime(2026, 1, 1, tzinfo=UTC),
)


@dataclass(frozen=True)
class Change:
    """One entity on its way from one state to the next; None is absent."""

    key: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


def created(key: str, **attributes: Any) -> Change:
    """An entity that was not there."""
    return Change(key, None, attributes)


def chunk(changes: Sequence[Change], *, type_name: str = "person", version: int = 0) -> pa.Table:
    """Return the operations of some changes, in the order of actions."""
    parts = []
    for action in Action:
        some = [c for c in changes if _action(c) is action]
        if some:
            parts.append(_operations(action, some, type_name, version))
    return pa.concat_tables(parts)


def _action(change: Change) -> Action:
    if change.before is None:
        return Action.CREATE
    return Action.DELETE if change.after is None else Action.UPDATE


def _operations(
    action: Action, changes: Sequence[Change], type_name: str, version: int
) -> pa.Table:
    nothing = np.zeros(len(changes), np.uint64)
    befores, afters = [c.before for c in changes], [c.after for c in changes]
    rows = [
        {
            "entity_type": type_name,
            "entity_key": c.key,
            "attributes": canonical_text(c.before if c.after is None else c.after).decode(),  # type: ignore[arg-type]
            "tombstone": False,
        }
        for c in changes
    ]
    return build_operations(
        origin=Origin(
            target_id=CONTEXT.target_id, batch_id=CONTEXT.batch_id, snapshot_version=version
        ),
        kind=Kind.ENTITY,
        action=action,
        rows=pa.Table.from_pylist(rows, SCHEMAS[Kind.ENTITY]),
        key_hi=nothing,
        key_lo=nothing,
        before=_side(type_name, changes, befores),
        after=_side(type_name, changes, afters),
        batch_rows=None,
    )


def _side(
    type_name: str, changes: Sequence[Change], attributes: Sequence[Mapping[str, Any] | None]
) -> Side | None:
    if None in attributes:
        return None
    digests = [
        entity_digest(type_name, change.key, canonical_text(values or {}))
        for change, values in zip(changes, attributes, strict=True)
    ]
    hash_hi, hash_lo = halves(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16))
    return Side(hash_hi=hash_hi, hash_lo=hash_lo)
