"""What sources have done, counted in the control database: standings, SLAs, days, and series to watch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    text,
)

from penstock.batch.source import SourceSpec
from penstock.forecast.lane_model import LaneId
from penstock.forecast.sla import Tally
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.ports.forecasts import (
    LaneStanding,
    LateBatch,
    ObservedPublish,
    SourceDay,
    SourceStanding,
)
from penstock.publish.queue import CANCELLED, SUPERSEDED
from penstock.publish.state import Intent, PublishStatus
from resources.control_db.engine import Database, upsert
from resources.control_db.forecast_tables import source_day
from resources.control_db.rows import spec_of
from resources.control_db.spans import day_of, seconds_between
from resources.control_db.tables import (
    IN_QUEUE,
    UtcTimestamp,
    publish_attempt,
    publish_state,
    snapshot,
)
from resources.control_db.tables import batch as batches
from resources.control_db.tables import source as sources

_OPERATIONS = tuple(
    publish_state.c[f"{kind}_{what}"]
    for kind in ("entities", "relationships")
    for what in ("created", "updated", "deleted")
)
_COMPLETE, _FAILED = str(PublishStatus.COMPLETE), str(PublishStatus.FAILED)
_DAYS_BACK = 90
_LONGEST_DAY_OPEN = 3
"""Days for which batches of a day may still come to their end; after that the day stands."""


class SqlHistories(Database):
    """Histories as aggregates: no view reads a row for each batch."""

    def observations(self, lane: LaneId, *, limit: int) -> list[ObservedPublish]:
        """Return a lane's newest publishes that ended, oldest first."""
        states, tries = publish_state.c, publish_attempt.c
        tried = (
            select(func.count())
            .select_from(publish_attempt)
            .where(tries.batch_id == states.batch_id, tries.target_id == states.target_id)
            .scalar_subquery()
        )
        query = (
            select(
                states.batch_id,
                states.publish_end_timestamp,
                batches.c.rows,
                states.rejected,
                states.blocked,
                states.held,
                sum(_OPERATIONS, literal(0)).label("applied"),
                seconds_between(states.publish_end_timestamp, states.publish_start_timestamp).label(
                    "duration_s"
                ),
                tried.label("tried"),
            )
            .join(batches, batches.c.batch_id == states.batch_id)
            .where(
                states.source_id == lane[0],
                states.target_id == lane[1],
                states.status == _COMPLETE,
                states.intent == str(Intent.PUBLISH),
            )
            .order_by(states.source_timestamp.desc())
            .limit(limit)
        )
        with self._reading() as connection:
            return [_observed(row) for row in reversed(connection.execute(query).all())]

    def landings(self, source: SourceId, *, limit: int) -> list[datetime]:
        """Return when a source's newest batches were admitted, oldest first."""
        query = (
            select(batches.c.admitted_at)
            .where(batches.c.source_id == source)
            .order_by(batches.c.source_timestamp.desc())
            .limit(limit)
        )
        with self._reading() as connection:
            return sorted(connection.execute(query).scalars())

    def standings(self, tenant: TenantId | None = None) -> list[SourceStanding]:
        """Return how the declared sources of a tenant, or all, stand, by source id."""
        query = select(sources, _newest_landing()).where(sources.c.declared)
        if tenant is not None:
            query = query.where(sources.c.tenant_id == tenant)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(sources.c.source_id)).mappings().all()
            specs = {SourceId(row["source_id"]): spec_of(dict(row)) for row in rows}
            lanes = _lanes(connection, specs)
        return [
            SourceStanding(
                spec=specs[SourceId(row["source_id"])],
                last_landed_at=row["last_landed_at"],
                lanes=tuple(lanes[SourceId(row["source_id"])]),
            )
            for row in rows
        ]

    def late_batches(self, *, now: datetime) -> list[LateBatch]:
        """Return what is late now: in the queue, in hand, or FAILED with nothing newer published."""
        states = publish_state.c
        newest = and_(
            snapshot.c.source_id == states.source_id, snapshot.c.target_id == states.target_id
        )
        lost = and_(
            states.status == _FAILED,
            states.error_code.not_in([CANCELLED, SUPERSEDED]),
            or_(
                snapshot.c.source_timestamp.is_(None),
                states.source_timestamp > snapshot.c.source_timestamp,
            ),
        )
        in_queue = text(IN_QUEUE.replace("status", "publish_state.status"))
        query = (
            select(
                states.batch_id,
                states.source_id,
                states.target_id,
                states.tenant_id,
                states.source_timestamp,
                states.status,
                sources.c.sla_s,
            )
            .join(sources, sources.c.source_id == states.source_id)
            .outerjoin(snapshot, newest)
            .where(
                sources.c.declared,
                sources.c.sla_s.is_not(None),
                states.intent == str(Intent.PUBLISH),
                or_(in_queue, lost),
                _age_s(now) > sources.c.sla_s,
            )
            .order_by(states.source_timestamp, states.batch_id, states.target_id)
        )
        with self._reading() as connection:
            return [
                LateBatch(**{**row, "status": PublishStatus(row["status"])})
                for row in connection.execute(query).mappings()
            ]

    def sla_tallies(
        self, windows_s: Sequence[int], *, now: datetime
    ) -> Mapping[SourceId, Mapping[int, Tally]]:
        """Count what fell due within each window, and what of it was late, by source."""
        states = publish_state.c
        overdue_s = _age_s(now) - sources.c.sla_s
        sums: list[ColumnElement[Any]] = []
        for window in windows_s:
            inside = overdue_s < window
            sums.append(func.sum(case((inside, 1), else_=0)).label(f"due_{window}"))
            late = case((and_(inside, _is_late()), 1), else_=0)
            sums.append(func.sum(late).label(f"late_{window}"))
        longest = select(func.max(sources.c.sla_s)).where(sources.c.declared)
        with self._reading() as connection:
            sla_s = connection.execute(longest).scalar() or 0
            earliest = now - timedelta(seconds=max(windows_s) + sla_s)
            query = (
                select(states.source_id, *sums)
                .join(sources, sources.c.source_id == states.source_id)
                .where(
                    sources.c.declared,
                    sources.c.sla_s.is_not(None),
                    states.source_timestamp >= earliest,
                    overdue_s >= 0,
                    _counts(),
                )
                .group_by(states.source_id)
            )
            return {
                SourceId(row["source_id"]): {
                    window: Tally(due=int(row[f"due_{window}"]), late=int(row[f"late_{window}"]))
                    for window in windows_s
                }
                for row in connection.execute(query).mappings()
            }

    def refresh_days(self, *, now: datetime) -> None:
        """Bring the days of every source up to date."""
        with self._writing() as connection:
            newest = connection.execute(select(func.max(source_day.c.day))).scalar()
            since = now - timedelta(days=_DAYS_BACK)
            if newest is not None:
                known = datetime.fromisoformat(f"{newest}T00:00:00+00:00")
                since = max(since, known - timedelta(days=_LONGEST_DAY_OPEN))
            since = since.replace(hour=0, minute=0, second=0, microsecond=0)
            upsert(connection, source_day, _days_since(connection, since, now))

    def days(self, sources: Sequence[SourceId], *, since: str) -> list[SourceDay]:
        """Return the days of some sources from one on, oldest first."""
        table = source_day.c
        query = (
            select(source_day)
            .where(table.source_id.in_(sources), table.day >= since)
            .order_by(table.day, table.source_id)
        )
        with self._reading() as connection:
            return [SourceDay(**row) for row in connection.execute(query).mappings()]


def _age_s(now: datetime) -> ColumnElement[float]:
    return seconds_between(literal(now, UtcTimestamp()), publish_state.c.source_timestamp)


def _counts() -> ColumnElement[bool]:
    """The condition of what an SLA is about: not what was asked for again, taken out, or overtaken."""
    states = publish_state.c
    left_out = and_(states.status == _FAILED, states.error_code.in_([CANCELLED, SUPERSEDED]))
    return and_(states.intent == str(Intent.PUBLISH), ~left_out)


def _is_late() -> ColumnElement[bool]:
    """The condition of what came later than its SLA, or has fallen due and is not there."""
    states = publish_state.c
    took_s = seconds_between(states.publish_end_timestamp, states.source_timestamp)
    return or_(states.status != _COMPLETE, took_s > sources.c.sla_s)


def _observed(row: Row[Any]) -> ObservedPublish:
    refused = row.rejected + row.blocked
    return ObservedPublish(
        batch_id=BatchId(row.batch_id),
        ended_at=row.publish_end_timestamp,
        rows=row.rows,
        operations=row.applied + refused + row.held,
        refused=refused,
        duration_s=None if row.tried else row.duration_s,
    )


def _newest_landing() -> ColumnElement[Any]:
    return (
        select(batches.c.admitted_at)
        .where(batches.c.source_id == sources.c.source_id)
        .order_by(batches.c.source_timestamp.desc())
        .limit(1)
        .correlate(sources)
        .scalar_subquery()
        .label("last_landed_at")
    )


def _lanes(
    connection: Connection, specs: Mapping[SourceId, SourceSpec]
) -> Mapping[SourceId, list[LaneStanding]]:
    """Return how the lanes of some sources stand: one look at each lane's snapshot, queue and newest batch."""
    states = publish_state.c
    waiting: dict[LaneId, int] = {}
    in_queue = select(states.source_id, states.target_id, func.count().label("n"))
    grouped = in_queue.where(text(IN_QUEUE)).group_by(states.source_id, states.target_id)
    for row in connection.execute(grouped):
        waiting[SourceId(row.source_id), TargetId(row.target_id)] = row.n
    standings: dict[SourceId, list[LaneStanding]] = defaultdict(list)
    for source, spec in specs.items():
        for target in spec.targets:
            published = _published(connection, source, target)
            newest = (
                select(states.status)
                .where(states.source_id == source, states.target_id == target)
                .order_by(states.source_timestamp.desc())
                .limit(1)
            )
            status = connection.execute(newest).scalar()
            standings[source].append(
                LaneStanding(
                    target_id=target,
                    published_at=None if published is None else published["publish_end_timestamp"],
                    published_timestamp=None
                    if published is None
                    else published["source_timestamp"],
                    in_progress=waiting.get((source, target), 0),
                    newest_status=None if status is None else PublishStatus(status),
                )
            )
    return standings


def _published(connection: Connection, source: SourceId, target: TargetId) -> RowMapping | None:
    states = publish_state.c
    same = and_(states.batch_id == snapshot.c.batch_id, states.target_id == snapshot.c.target_id)
    query = (
        select(snapshot.c.source_timestamp, states.publish_end_timestamp)
        .select_from(snapshot)
        .outerjoin(publish_state, same)
        .where(snapshot.c.source_id == source, snapshot.c.target_id == target)
    )
    return connection.execute(query).mappings().one_or_none()


def _days_since(connection: Connection, since: datetime, now: datetime) -> list[dict[str, Any]]:
    states = publish_state.c
    complete = states.status == _COMPLETE
    took_s = seconds_between(states.publish_end_timestamp, states.source_timestamp)
    has_sla = sources.c.sla_s.is_not(None)
    fell_due = _age_s(now) > sources.c.sla_s
    day = day_of(states.source_timestamp)
    query = (
        select(
            states.source_id,
            day.label("day"),
            func.count().label("batches"),
            func.sum(case((complete, 1), else_=0)).label("published"),
            func.sum(case((and_(has_sla, fell_due, _is_late()), 1), else_=0)).label("late"),
            func.sum(case((states.status == _FAILED, 1), else_=0)).label("failed"),
            func.sum(case((complete, took_s), else_=0.0)).label("latency_s"),
        )
        .outerjoin_from(publish_state, sources, sources.c.source_id == states.source_id)
        .where(states.source_timestamp >= since, _counts())
        .group_by(states.source_id, day)
    )
    return [
        {
            **row,
            **{name: int(row[name]) for name in ("published", "late", "failed")},
            "latency_s": float(row["latency_s"]),
        }
        for row in connection.execute(query).mappings()
    ]
