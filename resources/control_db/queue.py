"""The publish queue in the control database: claims, leases and the order of what waits.

A claim looks at one batch per lane (its head), never at the whole queue. On PostgreSQL a lane that another
worker is claiming at this moment is skipped; on SQLite claims follow one another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from math import isfinite
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    text,
    update,
)

from penstock.batch.manifest import Mode
from penstock.batch.source import SourceSpec
from penstock.errors import IllegalMove, PenstockError
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.control import Claim
from penstock.publish.queue import (
    SUPERSEDED,
    Lane,
    Lease,
    QueuePlace,
    QueuePolicy,
    WaitingBatch,
    order_queue,
    rank,
    score,
)
from penstock.publish.state import (
    IN_HAND,
    WAITING,
    FailureDetails,
    Move,
    PublishState,
    PublishStatus,
    moved,
)
from resources.control_db.engine import Database
from resources.control_db.leases import hold, lane_is, read_state, write_state
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    """What is known of an open lane before it is locked."""

    lane_id: LaneId
    spec: SourceSpec
    snapshot_timestamp: datetime | None
    failed_timestamp: datetime | None
    has_superseded: bool
    batch: WaitingBatch | None


class SqlQueue(Database):
    """:class:`penstock.ports.control.PublishQueue` in SQL."""

    def claim(
        self,
        worker_id: str,
        *,
        now: datetime,
        lease_s: float,
        policy: QueuePolicy,
        only: Sequence[tuple[BatchId, TargetId]] | None = None,
    ) -> Claim | None:
        """Take the next batch, or None if nothing is due. Its status becomes PLANNING."""
        wanted = None if only is None else set(only)
        lanes = None if wanted is None else {_lane_of(*pair) for pair in wanted}
        with self._writing() as connection:
            specs = _specs(connection)
            heads = _heads(connection, now, lanes, specs)
            for head in heads:
                if head.has_superseded and _lock_open(connection, head.lane_id, now):
                    _fail_superseded(connection, head, now)
            for head in _by_score(heads, policy, now):
                fresh = _take(connection, head, now, wanted)
                if fresh is not None:
                    return _grant(connection, fresh, worker_id, now, lease_s)
        return None

    def renew(self, claim: Claim, *, now: datetime, lease_s: float) -> Claim:
        """Extend a lease to ``lease_s`` seconds from now, or raise ``LeaseLost``."""
        expires_at = now + timedelta(seconds=lease_s)
        where = lane_is(claim.state.source_id, claim.state.target_id)
        with self._writing() as connection:
            hold(connection, claim)
            connection.execute(update(lane).where(where).values(lease_expires_at=expires_at))
        return replace(claim, lease_expires_at=expires_at)

    def explain_queue(self, *, now: datetime, policy: QueuePolicy) -> list[QueuePlace]:
        """Return every waiting batch in the order it would be claimed, with its arithmetic.

        Batches that their worker has abandoned are among them.
        """
        with self._reading() as connection:
            lanes = _lanes(connection, now)
        return order_queue(lanes, policy, now)

    def boost(self, batch: BatchId, target: TargetId, boost: float) -> PublishState:
        """Set an operator's boost on a waiting batch; raises ``IllegalMove`` for any other."""
        if not isfinite(boost):
            raise PenstockError(f"a boost of {boost} cannot be compared: give a finite number")
        with self._writing() as connection:
            state = read_state(connection, batch, target, lock=True)
            if state.status not in WAITING:
                raise IllegalMove(
                    f"batch {batch!r} is {state.status} for target {target!r}: only one that waits "
                    f"({', '.join(sorted(WAITING))}) can be boosted"
                )
            after = state.model_copy(update={"priority_boost": boost})
            write_state(connection, state, after)
        return after


def _lane_of(batch: BatchId, target: TargetId) -> LaneId:
    return ids.split_batch_id(batch)[0], target


def _by_score(heads: Iterable[_Head], policy: QueuePolicy, now: datetime) -> list[_Head]:
    ranked = [
        (rank(score(head.spec, head.batch.state, policy, now), head.batch.state), head)
        for head in heads
        if head.batch is not None and head.batch.is_due(now)
    ]
    return [head for _, head in sorted(ranked, key=lambda pair: pair[0])]


def _is_open(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    return or_(lane.c.lease_expires_at.is_(None), lane.c.lease_expires_at <= now)


def _lock_open(connection: Connection, lane_id: LaneId, now: datetime) -> bool:
    """Lock a lane until the transaction ends, if it is open and nobody else is locking it."""
    query = select(lane.c.fencing_token).where(lane_is(*lane_id), _is_open(now))
    return connection.execute(query.with_for_update(skip_locked=True)).one_or_none() is not None


def _take(
    connection: Connection,
    head: _Head,
    now: datetime,
    wanted: set[tuple[BatchId, TargetId]] | None,
) -> PublishState | None:
    """Lock a lane and return the batch that can be claimed from it, as it is under the lock."""
    batch = head.batch
    if batch is None or not _is_wanted(batch.state, wanted):
        return None
    if not _lock_open(connection, head.lane_id, now):
        return None
    # It was read before it was locked: another worker may have come and gone in between.
    for fresh in _heads(connection, now, {head.lane_id}, {}):
        if fresh.batch and fresh.batch.is_due(now) and _is_wanted(fresh.batch.state, wanted):
            return fresh.batch.state
    return None


def _is_wanted(state: PublishState, wanted: set[tuple[BatchId, TargetId]] | None) -> bool:
    return wanted is None or (state.batch_id, state.target_id) in wanted


def _grant(
    connection: Connection, state: PublishState, worker_id: str, now: datetime, lease_s: float
) -> Claim:
    # The row is locked again, so that an operator's boost at this moment is not overwritten.
    before = read_state(connection, state.batch_id, state.target_id, lock=True)
    after = moved(before, Move.REQUEUE, now=now) if before.status in IN_HAND else before
    after = moved(after, Move.CLAIM, now=now)
    write_state(connection, before, after)
    expires_at = now + timedelta(seconds=lease_s)
    values = {
        "fencing_token": lane.c.fencing_token + 1,
        "worker_id": worker_id,
        "batch_id": after.batch_id,
        "lease_expires_at": expires_at,
    }
    where = lane_is(after.source_id, after.target_id)
    granted = update(lane).where(where).values(**values).returning(lane.c.fencing_token)
    token = connection.execute(granted).scalar_one()
    return Claim(state=after, worker_id=worker_id, fencing_token=token, lease_expires_at=expires_at)


@cache
def _heads_query() -> Select[Any]:
    """One row per lane that is open at ``now``, with the batch whose turn it is.

    Each subquery is a step into a partial index, so that the length of the queue costs nothing.
    Building the query costs as much as running it, so it is built once.
    """
    inner = publish_state.alias("waiting")
    mine = and_(inner.c.source_id == lane.c.source_id, inner.c.target_id == lane.c.target_id)
    superseded = and_(
        inner.c.source_timestamp < snapshot.c.source_timestamp, inner.c.republish.is_(False)
    )
    current = or_(
        snapshot.c.source_timestamp.is_(None),
        inner.c.source_timestamp >= snapshot.c.source_timestamp,
        inner.c.republish.is_(True),
    )
    oldest = (
        select(inner.c.batch_id)
        .where(mine, text(IN_QUEUE), current)
        .order_by(inner.c.source_timestamp)
        .limit(1)
        .correlate(lane, snapshot)
        .scalar_subquery()
    )
    after_snapshot = or_(
        snapshot.c.source_timestamp.is_(None),
        inner.c.source_timestamp > snapshot.c.source_timestamp,
    )
    failed = (
        select(inner.c.source_timestamp)
        .where(mine, text(FAILED_DELTA), after_snapshot)
        .order_by(inner.c.source_timestamp)
        .limit(1)
        .correlate(lane, snapshot)
        .scalar_subquery()
    )
    # Not EXISTS: PostgreSQL would rather read the whole table for it, hoping to find one soon.
    one_superseded = (
        select(inner.c.batch_id)
        .where(mine, text(IN_QUEUE), superseded)
        .order_by(inner.c.source_timestamp)
        .limit(1)
        .correlate(lane, snapshot)
        .scalar_subquery()
    )
    of_snapshot = and_(
        snapshot.c.source_id == lane.c.source_id, snapshot.c.target_id == lane.c.target_id
    )
    head = and_(publish_state.c.batch_id == oldest, publish_state.c.target_id == lane.c.target_id)
    tables = lane.outerjoin(snapshot, of_snapshot).outerjoin(publish_state, head)
    return (
        select(
            lane.c.source_id.label("lane_source_id"),
            lane.c.target_id.label("lane_target_id"),
            snapshot.c.source_timestamp.label("snapshot_timestamp"),
            failed.label("failed_timestamp"),
            one_superseded.label("superseded"),
            publish_state.c.mode,
            *STATE_COLUMNS,
        )
        .select_from(tables)
        .where(_is_open(bindparam("now", type_=UtcTimestamp())))
    )


def _heads(
    connection: Connection,
    now: datetime,
    lanes: set[LaneId] | None,
    specs: dict[SourceId, SourceSpec],
) -> list[_Head]:
    """Return the open lanes that have something in the queue."""
    if lanes is not None and not lanes:
        return []
    query = _heads_query()
    if lanes is not None:
        query = query.where(or_(*(lane_is(*lane_id) for lane_id in sorted(lanes))))
    rows = connection.execute(query, {"now": now}).all()
    return [
        _head_of(connection, row, specs)
        for row in rows
        if row.batch_id is not None or row.superseded is not None
    ]


def _head_of(connection: Connection, row: Row[Any], specs: dict[SourceId, SourceSpec]) -> _Head:
    lane_id = (SourceId(row.lane_source_id), TargetId(row.lane_target_id))
    batch = None
    if row.batch_id is not None:
        batch = WaitingBatch(state=state_of(row), mode=Mode(row.mode))
        if batch.is_behind(row.failed_timestamp):
            batch = _oldest_full(connection, lane_id, row.failed_timestamp)
    return _Head(
        lane_id=lane_id,
        spec=_spec_of(lane_id, specs),
        snapshot_timestamp=row.snapshot_timestamp,
        failed_timestamp=row.failed_timestamp,
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


def _specs(connection: Connection) -> dict[SourceId, SourceSpec]:
    rows = connection.execute(select(sources)).mappings()
    return {SourceId(row["source_id"]): spec_of(dict(row)) for row in rows}


def _spec_of(lane_id: LaneId, specs: dict[SourceId, SourceSpec]) -> SourceSpec:
    # A batch that was admitted is published, even if its source has never been declared here.
    return specs.get(lane_id[0]) or SourceSpec(source_id=lane_id[0])


def _fail_superseded(connection: Connection, head: _Head, now: datetime) -> None:
    """Fail what waits in a locked lane and is older than what its target has."""
    source, target = head.lane_id
    table = publish_state.c
    # Read again under the lock.
    of_lane = (snapshot.c.source_id == source) & (snapshot.c.target_id == target)
    newest = select(snapshot.c.source_timestamp, snapshot.c.batch_id).where(of_lane)
    row = connection.execute(newest).one()
    failure = FailureDetails(
        error_code=SUPERSEDED,
        error_message=(
            f"target {target} has a newer batch of source {source}, of {row.source_timestamp}: to go "
            "back to this one on purpose, requeue it as a republish"
        ),
        failed_operation="claim",
    )
    values = {
        **failure.model_dump(exclude={"retry_count"}),
        "status": str(PublishStatus.FAILED),
        "retry_count": func.coalesce(table.retry_count, 0),
        "publish_end_timestamp": now,
        "retry_due_at": None,
    }
    older = and_(
        table.source_id == source,
        table.target_id == target,
        table.source_timestamp < row.source_timestamp,
        table.republish.is_(False),
        text(IN_QUEUE),
    )
    connection.execute(update(publish_state).where(older).values(**values))


def _lanes(connection: Connection, now: datetime) -> list[Lane]:
    """Return every lane that has something in the queue, with all that waits in it."""
    specs = _specs(connection)
    leases = _leases(connection, now)
    snapshots = {
        (SourceId(row.source_id), TargetId(row.target_id)): row.source_timestamp
        for row in connection.execute(select(snapshot))
    }
    failed = _failed_deltas(connection, snapshots)
    return [
        Lane(
            source_id=lane_id[0],
            target_id=lane_id[1],
            spec=_spec_of(lane_id, specs),
            waiting=waiting,
            lease=leases.get(lane_id),
            snapshot_timestamp=snapshots.get(lane_id),
            failed_deltas=failed[lane_id],
        )
        for lane_id, waiting in _waiting(connection, leases).items()
    ]


def _leases(connection: Connection, now: datetime) -> dict[LaneId, Lease]:
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
