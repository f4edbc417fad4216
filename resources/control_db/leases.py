"""Leases on lanes: every write on behalf of a claimed batch begins by holding its lane.

The lane's row is locked first and the publish state's after it, by everyone, so that no two writers
wait for each other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from penstock.errors import LaneBusy, LeaseLost, NotFound
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.control import Claim
from penstock.publish.state import PublishState
from resources.control_db.rows import STATE_COLUMNS, changed_columns, state_of
from resources.control_db.tables import lane, publish_state


def lane_is(source: SourceId, target: TargetId) -> ColumnElement[bool]:
    """The condition that names one lane's row."""
    return and_(lane.c.source_id == source, lane.c.target_id == target)


def state_is(batch: BatchId, target: TargetId) -> ColumnElement[bool]:
    """The condition that names one publish state's row."""
    return and_(publish_state.c.batch_id == batch, publish_state.c.target_id == target)


def hold(connection: Connection, claim: Claim) -> None:
    """Lock a claim's lane until the transaction ends, or raise ``LeaseLost``.

    A lease that has expired still holds as long as no other worker has taken the lane.
    """
    query = select(lane).where(lane_is(claim.state.source_id, claim.state.target_id))
    row = connection.execute(query.with_for_update()).one_or_none()
    if row is None or row.fencing_token != claim.fencing_token:
        raise lost(claim, None if row is None else row.worker_id)
    if row.batch_id != claim.state.batch_id:
        raise LeaseLost(
            f"worker {claim.worker_id!r} has ended its lease on {_lane_text(claim)}: "
            "claim the batch again before writing for it"
        )


def claims_of(connection: Connection, source: SourceId, target: TargetId) -> int:
    """Return how often a lane was claimed."""
    query = select(lane.c.fencing_token).where(lane_is(source, target))
    return int(connection.execute(query).scalar() or 0)


def check_claims(
    connection: Connection, source: SourceId, target: TargetId, claims: int | None
) -> None:
    """Lock a lane until the transaction ends; raises ``LaneBusy`` if it was claimed since it had been so often."""
    if claims is None:
        return
    query = select(lane.c.fencing_token).where(lane_is(source, target)).with_for_update()
    if (connection.execute(query).scalar() or 0) != claims:
        raise LaneBusy(
            f"a worker has had the lane {source} -> {target} meanwhile: what was seen of the target before may be "
            "written over by now. Look again"
        )


def lost(claim: Claim, holder: str | None) -> LeaseLost:
    """Return the error of a worker whose lane another has claimed."""
    by = f" by worker {holder!r}" if holder else ""
    return LeaseLost(
        f"the lease of worker {claim.worker_id!r} (token {claim.fencing_token}) on "
        f"{_lane_text(claim)} was taken over{by}: stop, and write nothing more for batch "
        f"{claim.state.batch_id!r}"
    )


def _lane_text(claim: Claim) -> str:
    return f"lane {claim.state.source_id} -> {claim.state.target_id}"


def end_lease(connection: Connection, state: PublishState) -> None:
    """Free a lane; its fencing token stays, so that the next claim's is higher."""
    names = ("worker_id", "batch_id", "lease_expires_at", "called_at")
    free: dict[str, Any] = dict.fromkeys(names)
    where = lane_is(state.source_id, state.target_id)
    connection.execute(update(lane).where(where).values(**free))


def note_call(connection: Connection, claim: Claim, now: datetime) -> None:
    """Note that a target is about to be called through a lane."""
    where = lane_is(claim.state.source_id, claim.state.target_id)
    connection.execute(update(lane).where(where).values(called_at=now))


def note_answered(
    connection: Connection, claim: Claim, now: datetime, *, called_again: bool = False
) -> None:
    """Note that a target has answered, so that further lanes of it may be claimed."""
    where = lane_is(claim.state.source_id, claim.state.target_id)
    values = {"answered_at": now, "called_at": now if called_again else None}
    connection.execute(update(lane).where(where).values(**values))


def note_start(connection: Connection, state: PublishState, now: datetime) -> None:
    """Note that a lane has a batch half executed: it goes before any other until that has ended."""
    where = lane_is(state.source_id, state.target_id)
    values = {"started_batch_id": state.batch_id, "called_at": now}
    connection.execute(update(lane).where(where).values(**values))


def end_start(connection: Connection, state: PublishState) -> None:
    """Note that a batch is half executed no more."""
    mine = and_(
        lane_is(state.source_id, state.target_id), lane.c.started_batch_id == state.batch_id
    )
    connection.execute(update(lane).where(mine).values(started_batch_id=None))


def read_state(
    connection: Connection, batch: BatchId, target: TargetId, *, lock: bool = False
) -> PublishState:
    """Return one publish state, or raise ``NotFound``."""
    query = select(*STATE_COLUMNS).where(state_is(batch, target))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(
            f"batch {batch!r} is not on its way to target {target!r}: `penstock publish-state` "
            "lists what is"
        )
    return state_of(row)


def write_state(connection: Connection, before: PublishState, after: PublishState) -> None:
    """Store what changed between two versions of a publish state."""
    columns = changed_columns(before, after)
    if columns:
        where = state_is(before.batch_id, before.target_id)
        connection.execute(update(publish_state).where(where).values(**columns))
