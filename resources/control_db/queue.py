"""The publish queue in the control database: claims, leases and the order of what waits.

A claim looks at one batch per lane (its head), never at the whole queue. On PostgreSQL a lane that another
worker is claiming at this moment is skipped; on SQLite claims follow one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import isfinite

from sqlalchemy import (
    Connection,
    and_,
    func,
    select,
    text,
    update,
)

from penstock.errors import ChangedMeanwhile, IllegalMove, PenstockError
from penstock.identity import ids
from penstock.identity.ids import BatchId, TargetId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.control import Claim
from penstock.publish.queue import (
    CANCELLED,
    SUPERSEDED,
    Lease,
    QueuePlace,
    QueuePolicy,
    order_queue,
    rank,
    score,
)
from penstock.publish.state import (
    FOLLOW_UPS,
    IN_HAND,
    WAITING,
    FailureDetails,
    Intent,
    Move,
    PublishState,
    PublishStatus,
    moved,
)
from resources.control_db.approvals import void_approvals
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database
from resources.control_db.lane_heads import LaneHead, LaneId, is_open, lane_heads, source_specs
from resources.control_db.lanes import read_lanes, read_leases
from resources.control_db.leases import end_start, hold, lane_is, read_state, write_state
from resources.control_db.letter_records import reopen_corrected, reopen_overtaken
from resources.control_db.letters_told import letters_of
from resources.control_db.outbox import add_events
from resources.control_db.rows import STATE_COLUMNS, state_of
from resources.control_db.tables import (
    IN_QUEUE,
    lane,
    publish_state,
    snapshot,
)
from resources.control_db.telling import failed, tell_cancelled, tell_lease_lost
from resources.control_db.traffic import exclude_other_claims, is_still_open, read_traffic


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
            specs = source_specs(connection)
            exclude_other_claims(connection, policy, now)
            traffic = read_traffic(connection, now)
            heads = [
                head
                for head in lane_heads(connection, now, lanes, specs)
                if not traffic.shuts(*head.lane_id, head.spec.tenant_id, policy, now)
            ]
            for head in heads:
                if head.has_superseded and _lock_open(connection, head.lane_id, now):
                    _fail_superseded(connection, head, now)
            for head in _by_score(heads, policy, now):
                tenant = head.spec.tenant_id
                if not is_still_open(connection, head.lane_id, tenant, traffic, policy, now):
                    continue
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

    def list_leases(self, *, now: datetime) -> list[Lease]:
        """Return the leases that are in force, by expiry."""
        with self._reading() as connection:
            leases = read_leases(connection, now).values()
        return sorted(leases, key=lambda lease: (lease.expires_at, lease.worker_id))

    def explain_queue(self, *, now: datetime, policy: QueuePolicy) -> list[QueuePlace]:
        """Return every waiting batch in the order it would be claimed, with its arithmetic.

        Batches that their worker has abandoned are among them.
        """
        with self._reading() as connection:
            lanes = read_lanes(connection, now, policy)
        return order_queue(lanes, policy, now)

    def boost(
        self,
        batch: BatchId,
        target: TargetId,
        boost: float,
        *,
        expected: float | None = None,
        act: AuditEntry | None = None,
    ) -> PublishState:
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
            if expected is not None and state.priority_boost != expected:
                raise ChangedMeanwhile(
                    f"batch {batch!r} has a boost of {state.priority_boost:g} for target {target!r} since a moment "
                    "ago: look at `penstock queue --explain`, and say again what it should have"
                )
            after = state.model_copy(update={"priority_boost": boost})
            write_state(connection, state, after)
            if act is not None:
                add_act(connection, act)
        return after

    def cancel(
        self,
        batch: BatchId,
        target: TargetId,
        *,
        now: datetime,
        message: str,
        act: AuditEntry | None = None,
    ) -> PublishState:
        """Take a waiting batch out of the queue; raises ``IllegalMove`` for one that is in hand or settled."""
        source = ids.split_batch_id(batch)[0]
        with self._writing() as connection:
            # The lane before the state, like everybody who takes both.
            of_lane = select(lane.c.started_batch_id).where(lane_is(source, target))
            started = connection.execute(of_lane.with_for_update()).scalar()
            before = read_state(connection, batch, target, lock=True)
            after = _cancelled(before, now, message, half_executed=started == batch)
            if before.intent in FOLLOW_UPS:
                void_approvals(connection, before, now, why=message)
            write_state(connection, before, after)
            end_start(connection, after)
            reopen_corrected(connection, after, now)
            tell_cancelled(connection, after, now)
            if act is not None:
                add_act(connection, act)
        return after


def _cancelled(
    before: PublishState, now: datetime, message: str, *, half_executed: bool
) -> PublishState:
    of = f"batch {before.batch_id!r} is {before.status} for target {before.target_id!r}"
    if before.status not in WAITING:
        what_now = (
            "a worker has it, and will end it. To keep others from following it, pause its source"
            if before.status in IN_HAND
            else "it is not in the queue"
        )
        raise IllegalMove(
            f"{of}: only one that waits ({', '.join(sorted(WAITING))}) can be cancelled; {what_now}"
        )
    if before.intent not in FOLLOW_UPS:
        failure = FailureDetails(
            error_code=CANCELLED, error_message=message, failed_operation="cancel"
        )
        return moved(before, Move.FAIL, now=now, changes={"failure_details": failure})
    if half_executed:
        raise IllegalMove(
            f"{of}, and its {before.intent} is half executed: it has to be ended, or nobody would know what of it "
            "has taken effect"
        )
    return moved(before, Move.WITHDRAW, now=now)


def _lane_of(batch: BatchId, target: TargetId) -> LaneId:
    return ids.split_batch_id(batch)[0], target


def _by_score(heads: Iterable[LaneHead], policy: QueuePolicy, now: datetime) -> list[LaneHead]:
    ranked = [
        (rank(score(head.spec, head.batch.state, policy, now), head.batch.state), head)
        for head in heads
        if head.batch is not None and head.batch.is_due(now)
    ]
    return [head for _, head in sorted(ranked, key=lambda pair: pair[0])]


def _lock_open(connection: Connection, lane_id: LaneId, now: datetime) -> bool:
    """Lock a lane until the transaction ends, if it is open and nobody else is locking it."""
    query = select(lane.c.fencing_token).where(lane_is(*lane_id), is_open(now))
    return connection.execute(query.with_for_update(skip_locked=True)).one_or_none() is not None


def _take(
    connection: Connection,
    head: LaneHead,
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
    for fresh in lane_heads(connection, now, {head.lane_id}, {}):
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
    where = lane_is(after.source_id, after.target_id)
    lost_by = connection.execute(select(lane.c.worker_id).where(where)).scalar_one()
    values = {
        "fencing_token": lane.c.fencing_token + 1,
        "worker_id": worker_id,
        "batch_id": after.batch_id,
        "lease_expires_at": expires_at,
        "called_at": now,  # from now on the target may be called
    }
    granted = update(lane).where(where).values(**values).returning(lane.c.fencing_token)
    token = connection.execute(granted).scalar_one()
    if before.status in IN_HAND and lost_by:
        tell_lease_lost(
            connection, after, now=now, lost_by=lost_by, taken_by=worker_id, token=token
        )
    return Claim(state=after, worker_id=worker_id, fencing_token=token, lease_expires_at=expires_at)


def _fail_superseded(connection: Connection, head: LaneHead, now: datetime) -> None:
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
        table.intent == Intent.PUBLISH.value,
        text(IN_QUEUE),
    )
    reopened = reopen_overtaken(connection, older, now)
    overtaken = update(publish_state).where(older).values(**values).returning(*STATE_COLUMNS)
    states = [state_of(row) for row in connection.execute(overtaken)]
    add_events(connection, [failed(state, now) for state in states])
    for state in states if reopened else ():
        add_events(connection, letters_of(connection, state, now))
