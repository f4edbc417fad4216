"""Whole lanes, with all that waits in them, for the explanation of the queue."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from sqlalchemy import Connection, select, text

from penstock.batch.manifest import Mode
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.publish.queue import Lane, Lease, QueuePolicy, WaitingBatch
from resources.control_db.lane_heads import LaneId, source_specs, spec_of_lane
from resources.control_db.rows import STATE_COLUMNS, state_of
from resources.control_db.tables import FAILED_DELTA, IN_QUEUE, lane, publish_state, snapshot
from resources.control_db.traffic import read_traffic


def read_lanes(connection: Connection, now: datetime, policy: QueuePolicy) -> list[Lane]:
    """Return every lane that has something in the queue, with all that waits in it."""
    specs = source_specs(connection)
    leases = read_leases(connection, now)
    snapshots = {
        (SourceId(row.source_id), TargetId(row.target_id)): row.source_timestamp
        for row in connection.execute(select(snapshot))
    }
    failed = _failed_deltas(connection, snapshots)
    started = _started(connection)
    traffic = read_traffic(connection, now)
    return [
        Lane(
            source_id=lane_id[0],
            target_id=lane_id[1],
            spec=spec_of_lane(lane_id, specs),
            waiting=waiting,
            lease=leases.get(lane_id),
            snapshot_timestamp=snapshots.get(lane_id),
            failed_deltas=failed[lane_id],
            started=started.get(lane_id),
            shut=traffic.shuts(*lane_id, spec_of_lane(lane_id, specs).tenant_id, policy, now),
            paused=traffic.is_paused(*lane_id),
        )
        for lane_id, waiting in _waiting(connection, leases).items()
    ]


def _started(connection: Connection) -> dict[LaneId, BatchId]:
    rows = connection.execute(select(lane).where(lane.c.started_batch_id.is_not(None)))
    return {
        (SourceId(row.source_id), TargetId(row.target_id)): BatchId(row.started_batch_id)
        for row in rows
    }


def read_leases(connection: Connection, now: datetime) -> dict[LaneId, Lease]:
    """Return the leases that are in force."""
    rows = connection.execute(select(lane).where(lane.c.lease_expires_at > now))
    return {
        (SourceId(row.source_id), TargetId(row.target_id)): Lease(
            worker_id=row.worker_id, batch_id=row.batch_id, expires_at=row.lease_expires_at
        )
        for row in rows
    }


def _waiting(
    connection: Connection, leases: dict[LaneId, Lease]
) -> dict[LaneId, list[WaitingBatch]]:
    table = publish_state.c
    query = (
        select(*STATE_COLUMNS, table.mode).where(text(IN_QUEUE)).order_by(table.source_timestamp)
    )
    waiting: dict[LaneId, list[WaitingBatch]] = defaultdict(list)
    for row in connection.execute(query):
        lane_id = (SourceId(row.source_id), TargetId(row.target_id))
        lease = leases.get(lane_id)
        if lease is None or lease.batch_id != row.batch_id:
            waiting[lane_id].append(WaitingBatch(state=state_of(row), mode=Mode(row.mode)))
    return waiting


def _failed_deltas(
    connection: Connection, snapshots: dict[LaneId, datetime]
) -> dict[LaneId, list[datetime]]:
    table = publish_state.c
    columns = (table.source_id, table.target_id, table.source_timestamp)
    query = select(*columns).where(text(FAILED_DELTA)).order_by(table.source_timestamp)
    failed: dict[LaneId, list[datetime]] = defaultdict(list)
    for row in connection.execute(query):
        lane_id = (SourceId(row.source_id), TargetId(row.target_id))
        newest = snapshots.get(lane_id)
        if newest is None or row.source_timestamp > newest:
            failed[lane_id].append(row.source_timestamp)
    return failed
