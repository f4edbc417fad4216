"""Trends in SQL: counts and percentiles of what was published, worked out by the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    and_,
    case,
    cast,
    distinct,
    func,
    literal,
    select,
)

from penstock.identity.ids import SourceId, TenantId
from penstock.ports.dashboard import SourceRecord, Stretch, Weighed
from resources.control_db.engine import Database
from resources.control_db.rows import storable_text
from resources.control_db.spans import seconds_between
from resources.control_db.tables import UtcTimestamp, batch, publish_attempt, publish_state

_S = publish_state.c
_OPERATIONS = sum(
    (
        _S[f"{kind}_{done}"]
        for kind in ("entities", "relationships")
        for done in ("updated", "deleted")
    ),
    _S.entities_created + _S.relationships_created,
)
_PUBLISHED = _S.status == "COMPLETE"
_FAILED = and_(_S.status == "FAILED", _S.error_code != "cancelled")
_LATENCY = seconds_between(_S.publish_end_timestamp, batch.c.admitted_at)


class SqlTrends(Database):
    """The part of :class:`penstock.ports.dashboard.DashboardViews` that looks back."""

    def stretches(
        self,
        tenant: TenantId | None,
        *,
        source: SourceId | None = None,
        since: datetime,
        until: datetime,
        step_s: int,
    ) -> list[Stretch]:
        """Return what ended, stretch by stretch; stretches in which nothing ended are left out."""
        begin = literal(since, UtcTimestamp)
        # Moments are never before `since`: cutting off and rounding down are the same.
        passed = seconds_between(_S.publish_end_timestamp, begin)
        number = cast(func.floor(passed / step_s), Integer).label("number")
        mine = [*_ended(tenant, source, since), _S.publish_end_timestamp < until]
        counted = select(number, *_tallies()).where(*mine).group_by(number)
        percentiles = _percentiles(number, mine, (50, 90))
        with self._reading() as connection:
            latency = {row.of: row for row in connection.execute(percentiles)}
            return [
                Stretch(
                    begins_at=since + timedelta(seconds=int(row.number) * step_s),
                    published=int(row.published),
                    failed=int(row.failed),
                    operations=int(row.operations),
                    p50_s=latency[row.number].p50 if row.number in latency else None,
                    p90_s=latency[row.number].p90 if row.number in latency else None,
                )
                for row in connection.execute(counted.order_by(number))
            ]

    def source_records(
        self, tenant: TenantId | None, *, source: SourceId | None = None, since: datetime
    ) -> list[SourceRecord]:
        """Return what became of each source's batches since a moment, by source id."""
        mine = _ended(tenant, source, since)
        counted = (
            select(_S.source_id, *_tallies(), func.sum(_S.exceptions).label("exceptions"))
            .where(*mine)
            .group_by(_S.source_id)
            .order_by(_S.source_id)
        )
        tried = and_(
            publish_attempt.c.batch_id == _S.batch_id, publish_attempt.c.target_id == _S.target_id
        )
        states = func.count(distinct(_S.batch_id + "/" + _S.target_id)).label("retried")
        again = (
            select(_S.source_id, states)
            .join(publish_attempt, tried)
            .where(*mine, _PUBLISHED)
            .group_by(_S.source_id)
        )
        percentiles = _percentiles(_S.source_id, mine, (50, 90, 99))
        with self._reading() as connection:
            latency = {row.of: row for row in connection.execute(percentiles)}
            retried = {row.source_id: row.retried for row in connection.execute(again)}
            return [
                SourceRecord(
                    source_id=SourceId(row.source_id),
                    published=int(row.published),
                    failed=int(row.failed),
                    retried=int(retried.get(row.source_id, 0)),
                    operations=int(row.operations),
                    exceptions=int(row.exceptions),
                    p50_s=getattr(latency.get(row.source_id), "p50", None),
                    p90_s=getattr(latency.get(row.source_id), "p90", None),
                    p99_s=getattr(latency.get(row.source_id), "p99", None),
                )
                for row in connection.execute(counted)
            ]

    def weighed(
        self,
        tenant: TenantId | None,
        *,
        source: SourceId | None = None,
        since: datetime,
        limit: int,
    ) -> list[Weighed]:
        """Return the newest publishes since a moment that sent anything."""
        operations = _OPERATIONS.label("operations")
        query = (
            select(_S.batch_id, _S.target_id, operations, _S.execution_time_ms)
            .where(*_ended(tenant, source, since), _PUBLISHED, _OPERATIONS > 0)
            .order_by(_S.publish_end_timestamp.desc(), _S.batch_id, _S.target_id)
            .limit(limit)
        )
        with self._reading() as connection:
            return [
                Weighed(
                    batch_id=row.batch_id,
                    target_id=row.target_id,
                    operations=int(row.operations),
                    execution_ms=int(row.execution_time_ms),
                )
                for row in connection.execute(query)
            ]


def _ended(
    tenant: TenantId | None, source: SourceId | None, since: datetime
) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [
        _S.publish_end_timestamp >= since,
        _S.status.in_(["COMPLETE", "FAILED"]),
    ]
    if tenant is not None:
        found.append(_S.tenant_id == storable_text(tenant))
    if source is not None:
        found.append(_S.source_id == storable_text(source))
    return found


def _tallies() -> tuple[ColumnElement[Any], ...]:
    return (
        func.sum(case((_PUBLISHED, 1), else_=0)).label("published"),
        func.sum(case((_FAILED, 1), else_=0)).label("failed"),
        func.sum(case((_PUBLISHED, _OPERATIONS), else_=0)).label("operations"),
    )


def _percentiles(
    of: ColumnElement[Any], mine: Sequence[ColumnElement[bool]], wanted: Sequence[int]
) -> Select[Any]:
    """Return a query for percentiles of the latency by group: each is a latency that was measured (nearest rank)."""
    rank = func.row_number().over(partition_by=of, order_by=_LATENCY)
    ranked = (
        select(
            of.label("of"),
            _LATENCY.label("latency_s"),
            rank.label("rank"),
            func.count().over(partition_by=of).label("publishes"),
        )
        .join(batch, batch.c.batch_id == _S.batch_id)
        .where(*mine, _PUBLISHED)
        .subquery()
    )
    columns = [
        # The first rank that so many per cent of all do not go beyond, in whole numbers.
        func.min(
            case((ranked.c.rank * 100 >= ranked.c.publishes * percent, ranked.c.latency_s))
        ).label(f"p{percent}")
        for percent in wanted
    ]
    return select(ranked.c.of, *columns).group_by(ranked.c.of)
