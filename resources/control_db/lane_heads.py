"""The head of each open lane: the one batch of it that a claim looks at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Join,
    Row,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    func,
    not_,
    or_,
    select,
    text,
)

from penstock.batch.manifest import Mode
from penstock.batch.source import SourceSpec
from penstock.identity.ids import SourceId, TargetId
from penstock.publish.queue import WaitingBatch
from penstock.publish.state import Intent
from resources.control_db.leases import lane_is
from resources.control_db.rows import STATE_COLUMNS, spec_of, state_of
from resources.control_db.tables import (
    FAILED_DELTA,
    IN_QUEUE,
    UtcTimestamp,
    lane,
    publish_state,
    snapshot,
)
from resources.control_db.tables import source as sources

LaneId = tuple[SourceId, TargetId]
_Scalar = ScalarSelect[Any]
_INNER = publish_state.alias("waiting")


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneHead:
    """What is known of an open lane before it is locked."""

    lane_id: LaneId
    spec: SourceSpec
    has_superseded: bool
    batch: WaitingBatch | None


def is_open(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    """The condition of a lane that nobody holds."""
    return or_(lane.c.lease_expires_at.is_(None), lane.c.lease_expires_at <= now)


def lane_heads(
    connection: Connection,
    now: datetime,
    lanes: set[LaneId] | None,
    specs: dict[SourceId, SourceSpec],
) -> list[LaneHead]:
    """Return the open lanes that have something in the queue, of ``lanes`` or of all (None)."""
    if lanes is not None and not lanes:
        return []
    query = _query()
    if lanes is not None:
        query = query.where(or_(*(lane_is(*lane_id) for lane_id in sorted(lanes))))
    rows = connection.execute(query, {"now": now}).all()
    return [
        _head_of(connection, row, specs)
        for row in rows
        if row.batch_id is not None or row.superseded is not None
    ]


def _head_of(connection: Connection, row: Row[Any], specs: dict[SourceId, SourceSpec]) -> LaneHead:
    lane_id = (SourceId(row.lane_source_id), TargetId(row.lane_target_id))
    batch = None
    if row.batch_id is not None:
        batch = WaitingBatch(state=state_of(row), mode=Mode(row.mode))
        if batch.is_behind(row.failed_timestamp):
            batch = _oldest_full(connection, lane_id, row.failed_timestamp)
    return LaneHead(
        lane_id=lane_id,
        spec=spec_of_lane(lane_id, specs),
        has_superseded=row.superseded is not None,
        batch=batch,
    )


def _oldest_full(connection: Connection, lane_id: LaneId, after: datetime) -> WaitingBatch | None:
    """Return the full batch that makes up for a FAILED delta in front of a lane, if one waits."""
    table = publish_state.c
    mine = (table.source_id == lane_id[0]) & (table.target_id == lane_id[1])
    newer = (table.source_timestamp > after) & (table.mode == "full")
    query = select(*STATE_COLUMNS).where(mine, newer, text(IN_QUEUE))
    row = connection.execute(query.order_by(table.source_timestamp).limit(1)).one_or_none()
    return None if row is None else WaitingBatch(state=state_of(row), mode=Mode.FULL)


def source_specs(connection: Connection) -> dict[SourceId, SourceSpec]:
    """Return every source that was ever declared, by id."""
    rows = connection.execute(select(sources)).mappings()
    return {SourceId(row["source_id"]): spec_of(dict(row)) for row in rows}


def spec_of_lane(lane_id: LaneId, specs: dict[SourceId, SourceSpec]) -> SourceSpec:
    """Return the declaration that a lane's batches are scored by."""
    # A batch that was admitted is published, even if its source has never been declared here.
    return specs.get(lane_id[0]) or SourceSpec(source_id=lane_id[0])


@cache
def _query() -> Select[Any]:
    """One row per lane that is open at ``now``, with the batch whose turn it is.

    Building the query costs as much as running it, so it is built once.
    """
    newest = snapshot.c.source_timestamp
    at, asked_for = _INNER.c.source_timestamp, _INNER.c.intent != Intent.PUBLISH.value
    started = (
        select(_INNER.c.batch_id)
        .where(
            _INNER.c.batch_id == lane.c.started_batch_id,
            _INNER.c.target_id == lane.c.target_id,
            text(IN_QUEUE),
        )
        .correlate(lane, snapshot)
        .scalar_subquery()
    )
    oldest = _first(_INNER.c.batch_id, IN_QUEUE, or_(newest.is_(None), at >= newest, asked_for))
    failed = _first(at, FAILED_DELTA, or_(newest.is_(None), at > newest))
    superseded = _first(_INNER.c.batch_id, IN_QUEUE, and_(at < newest, not_(asked_for)))
    return (
        select(
            lane.c.source_id.label("lane_source_id"),
            lane.c.target_id.label("lane_target_id"),
            failed.label("failed_timestamp"),
            superseded.label("superseded"),
            publish_state.c.mode,
            *STATE_COLUMNS,
        )
        .select_from(_with_head(func.coalesce(started, oldest)))
        .where(is_open(bindparam("now", type_=UtcTimestamp())))
    )


def _first(column: ColumnElement[Any], index: str, condition: ColumnElement[bool]) -> _Scalar:
    """Look up the oldest batch of a lane by one step into a partial index, however many there are.

    Not by EXISTS: PostgreSQL would rather read the whole table for it, hoping to find one soon.
    """
    mine = and_(_INNER.c.source_id == lane.c.source_id, _INNER.c.target_id == lane.c.target_id)
    found = select(column).where(mine, text(index), condition)
    one = found.order_by(_INNER.c.source_timestamp).limit(1)
    return one.correlate(lane, snapshot).scalar_subquery()


def _with_head(batch: ColumnElement[Any]) -> Join:
    same_lane = and_(
        snapshot.c.source_id == lane.c.source_id, snapshot.c.target_id == lane.c.target_id
    )
    head = and_(publish_state.c.batch_id == batch, publish_state.c.target_id == lane.c.target_id)
    return lane.outerjoin(snapshot, same_lane).outerjoin(publish_state, head)
