"""What keeps lanes shut, read from the control database: pauses, breakers, and the lanes in hand."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select, text

from penstock.identity.ids import SourceId, TargetId, TenantId
from penstock.publish.queue import InHand, QueuePolicy, Traffic
from penstock.publish.state import PublishStatus
from resources.control_db.breakers import read_breakers
from resources.control_db.lane_heads import LaneId
from resources.control_db.tables import lane, pause, publish_state

_BEFORE_CALLS = (str(PublishStatus.PLANNING), str(PublishStatus.PLAN_COMPLETE))
_CLAIMS = 0x70656E73  # a number of our own, by which claims that have to count exclude each other


def read_traffic(connection: Connection, now: datetime) -> Traffic:
    """Return what keeps lanes shut at this moment."""
    paused: dict[str, dict[str, str]] = {"source": {}, "target": {}}
    for row in connection.execute(select(pause)):
        said = f"{row.paused_by} paused it at {row.paused_at:%Y-%m-%d %H:%M:%S} UTC, {row.reason}"
        paused[row.scope][row.scope_id] = said
    return Traffic(
        paused_sources=paused["source"],
        paused_targets=paused["target"],
        breakers={state.target_id: state for state in read_breakers(connection)},
        in_hand=_in_hand(connection, now),
        answered=_answered(connection),
    )


def _in_hand(connection: Connection, now: datetime) -> list[InHand]:
    same = (publish_state.c.batch_id == lane.c.batch_id) & (
        publish_state.c.target_id == lane.c.target_id
    )
    state = publish_state.c
    query = (
        select(lane.c.source_id, lane.c.target_id, lane.c.called_at, state.tenant_id, state.status)
        .join(publish_state, same)
        .where(lane.c.lease_expires_at > now)
    )
    return [
        InHand(
            source_id=SourceId(row.source_id),
            target_id=TargetId(row.target_id),
            tenant_id=TenantId(row.tenant_id),
            is_planning=row.status in _BEFORE_CALLS,
            called_at=row.called_at,
        )
        for row in connection.execute(query)
    ]


def _answered(connection: Connection) -> dict[TargetId, datetime]:
    query = select(lane.c.target_id, func.max(lane.c.answered_at).label("at"))
    rows = connection.execute(
        query.where(lane.c.answered_at.is_not(None)).group_by(lane.c.target_id)
    )
    return {TargetId(row.target_id): row.at for row in rows}


def exclude_other_claims(connection: Connection, policy: QueuePolicy, now: datetime) -> None:
    """Wait until no other claim is counting lanes, where there is a limit to count up to.

    SQLite's writers follow one another anyway.
    """
    limits = (
        policy.most_lanes_per_target,
        policy.most_lanes_per_tenant,
        policy.most_lanes_per_source,
    )
    if connection.dialect.name != "postgresql":
        return
    counted = any(limit is not None for limit in limits)
    shut = (b.status != "closed" or b.is_doubted(now) for b in read_breakers(connection))
    if counted or any(shut):
        _exclude(connection)


def is_still_open(
    connection: Connection,
    lane_id: LaneId,
    tenant: TenantId,
    traffic: Traffic,
    policy: QueuePolicy,
    now: datetime,
) -> bool:
    """Look again, with other claims excluded, at a lane whose target gets one lane until it has answered."""
    source, target = lane_id
    if connection.dialect.name != "postgresql" or traffic.trusts(target, policy, now):
        return True
    _exclude(connection)
    return not read_traffic(connection, now).shuts(source, target, tenant, policy, now)


def _exclude(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLAIMS})
