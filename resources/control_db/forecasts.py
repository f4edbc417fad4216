"""Models of lanes, and forecasts as they were made, in the control database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    RowMapping,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    select,
    text,
    update,
)

from penstock.forecast.eta import Size
from penstock.forecast.lane_model import (
    MOST_PUBLISHES,
    MOST_SCORES,
    LaneId,
    LaneModel,
    PastPublish,
    Stage,
)
from penstock.forecast.line import JobId
from penstock.forecast.records import ForecastRecord
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.forecasts import Reliability
from penstock.publish.state import IN_HAND, SETTLED, Intent, PublishState, PublishStatus
from resources.control_db.engine import Database, insert_into, upsert
from resources.control_db.forecast_tables import NOT_SETTLED, forecast, lane_model
from resources.control_db.histories import SqlHistories
from resources.control_db.rows import STATE_COLUMNS, state_of
from resources.control_db.spans import seconds_between
from resources.control_db.tables import (
    IN_QUEUE,
    execution_chunk,
    lane,
    plan_execution,
    publish_attempt,
    publish_state,
)
from resources.control_db.tables import batch as batches

_COLUMNS = [forecast.c[field.name] for field in fields(ForecastRecord)]


class SqlLaneModels(Database):
    """What is remembered of lanes, and what it is brought up to date from."""

    def lane_models(self) -> list[LaneModel]:
        """Return what is remembered of every lane."""
        query = select(lane_model).order_by(lane_model.c.source_id, lane_model.c.target_id)
        with self._reading() as connection:
            return [
                LaneModel.from_document(SourceId(row.source_id), TargetId(row.target_id), row.model)
                for row in connection.execute(query)
            ]

    def save_lane_models(self, models: Iterable[LaneModel], *, now: datetime) -> None:
        """Remember lanes as they are now."""
        rows = [
            {
                "source_id": model.source_id,
                "target_id": model.target_id,
                "model": model.to_document(),
                "updated_at": now,
            }
            for model in sorted(models, key=lambda each: each.lane_id)
        ]
        with self._writing() as connection:
            upsert(connection, lane_model, rows)

    def measured_until(self) -> datetime | None:
        """Return when lanes were last remembered; None before the first time."""
        with self._reading() as connection:
            return connection.execute(select(func.max(lane_model.c.updated_at))).scalar()

    def recent_publishes(self, since: datetime) -> dict[LaneId, list[PastPublish]]:
        """Return each lane's newest publishes that ended well at the first attempt since a moment, oldest first."""
        found: dict[LaneId, list[PastPublish]] = defaultdict(list)
        with self._reading() as connection:
            for row in connection.execute(_recent(since)):
                past = PastPublish(
                    ended_at=row.publish_end_timestamp,
                    work_s=round(max(0.0, row.work_s), 3),
                    rows=row.rows,
                    operations=row.operations,
                )
                found[SourceId(row.source_id), TargetId(row.target_id)].append(past)
        return dict(found)


class SqlForecasts(SqlLaneModels, SqlHistories):
    """:class:`penstock.ports.forecasts.Forecasts` in SQL."""

    def in_hand(self, now: datetime) -> list[tuple[PublishState, datetime]]:
        """Return what workers have, each with since when."""
        states, tries = publish_state.c, publish_attempt.c
        tried = (
            select(func.max(func.coalesce(tries.retry_at, tries.failed_at)))
            .where(
                tries.batch_id == states.batch_id,
                tries.target_id == states.target_id,
                tries.enqueued_at == states.enqueued_at,
            )
            .scalar_subquery()
        )
        query = (
            select(*STATE_COLUMNS, tried.label("tried_at"))
            .join(
                lane,
                and_(lane.c.batch_id == states.batch_id, lane.c.target_id == states.target_id),
            )
            .where(
                lane.c.lease_expires_at > now,
                states.status.in_([str(status) for status in IN_HAND]),
            )
            .order_by(states.source_timestamp, states.batch_id, states.target_id)
        )
        with self._reading() as connection:
            return [
                (state_of(row), min(now, row.tried_at or row.publish_start_timestamp or now))
                for row in connection.execute(query)
            ]

    def job_sizes(self) -> dict[JobId, Size]:
        """Return the sizes of everything in the queue and in hand."""
        states, plans, chunks = publish_state.c, plan_execution.c, execution_chunk.c
        done = (
            select(func.sum(chunks.operations))
            .where(
                chunks.batch_id == plans.batch_id,
                chunks.target_id == plans.target_id,
                chunks.plan_digest == plans.plan_digest,
                chunks.finished_at.is_not(None),
            )
            .correlate(plan_execution)
            .scalar_subquery()
        )
        begun = and_(
            plans.batch_id == states.batch_id,
            plans.target_id == states.target_id,
            plans.plan_digest == states.plan_digest,
            plans.finished_at.is_(None),
        )
        columns = (states.batch_id, states.target_id, batches.c.rows, plans.operations)
        query = (
            select(*columns, plans.started_at, done.label("done"))
            .join(batches, batches.c.batch_id == states.batch_id)
            .outerjoin(plan_execution, begun)
            .where(text(IN_QUEUE.replace("status", "publish_state.status")))
        )
        with self._reading() as connection:
            return {
                (BatchId(row.batch_id), TargetId(row.target_id)): Size(
                    rows=row.rows,
                    operations=row.operations,
                    done=int(row.done or 0),
                    executing_since=row.started_at,
                )
                for row in connection.execute(query)
            }

    def last_recorded(self) -> dict[JobId, tuple[datetime, Stage]]:
        """Return the newest forecast on record of everything that has not been held against what came."""
        query = (
            select(forecast.c.batch_id, forecast.c.target_id, forecast.c.made_at, forecast.c.stage)
            .where(text(NOT_SETTLED))
            .order_by(forecast.c.made_at)
        )
        with self._reading() as connection:
            return {
                (BatchId(row.batch_id), TargetId(row.target_id)): (row.made_at, Stage(row.stage))
                for row in connection.execute(query)
            }

    def record(self, forecasts: Sequence[ForecastRecord]) -> None:
        """Put forecasts on record; one of the same batch, target and moment stays as it is."""
        if not forecasts:
            return
        rows = [{**asdict(each), "stage": str(each.stage)} for each in forecasts]
        with self._writing() as connection:
            connection.execute(insert_into(connection, forecast).on_conflict_do_nothing(), rows)

    def overdue(self, *, now: datetime) -> list[ForecastRecord]:
        """Return the forecasts, oldest first, whose p90 has passed while their batches are still on their way.

        Of each lane and stage the newest, as many as a model remembers scores.
        """
        with self._reading() as connection:
            return [_made(row) for row in connection.execute(_overdue(now)).mappings()]

    def settle(self, *, now: datetime) -> list[ForecastRecord]:
        """Hold the forecasts of what has ended since against when it came, and return them."""
        with self._writing() as connection:
            settled = _ended(connection, now)
            for each in settled:
                mine = and_(
                    forecast.c.batch_id == each.batch_id,
                    forecast.c.target_id == each.target_id,
                    forecast.c.made_at == each.made_at,
                )
                values = {"came_at": each.came_at, "settled_at": now}
                connection.execute(update(forecast).where(mine).values(**values))
        return settled

    def reliability(self, *, since: datetime) -> list[Reliability]:
        """Return how often forecasts made since a moment held, by stage."""
        table = forecast.c
        query = (
            select(
                table.stage,
                func.count().label("forecasts"),
                func.sum(case((table.came_at <= table.p50_at, 1), else_=0)).label("p50"),
                func.sum(case((table.came_at <= table.p90_at, 1), else_=0)).label("p90"),
            )
            .where(table.made_at >= since, table.came_at.is_not(None))
            .group_by(table.stage)
            .order_by(table.stage)
        )
        with self._reading() as connection:
            return [
                Reliability(
                    stage=Stage(row.stage),
                    forecasts=row.forecasts,
                    within_p50=int(row.p50),
                    within_p90=int(row.p90),
                )
                for row in connection.execute(query)
            ]

    def forget_forecasts(self, *, before: datetime) -> int:
        """Delete forecasts made before a moment; return how many."""
        with self._writing() as connection:
            return connection.execute(delete(forecast).where(forecast.c.made_at < before)).rowcount


def _recent(since: datetime) -> Select[Any]:
    """Return the query for each lane's newest clean publishes: the first attempt of an ordinary publish."""
    states, tries = publish_state.c, publish_attempt.c
    tried = exists().where(tries.batch_id == states.batch_id, tries.target_id == states.target_id)
    newest = func.row_number().over(
        partition_by=(states.source_id, states.target_id),
        order_by=states.publish_end_timestamp.desc(),
    )
    plan = and_(
        plan_execution.c.plan_digest == states.plan_digest,
        plan_execution.c.batch_id == states.batch_id,
        plan_execution.c.target_id == states.target_id,
    )
    ranked = (
        select(
            states.source_id,
            states.target_id,
            states.publish_end_timestamp,
            seconds_between(states.publish_end_timestamp, states.publish_start_timestamp).label(
                "work_s"
            ),
            batches.c.rows,
            plan_execution.c.operations,
            newest.label("newest"),
        )
        .join(batches, batches.c.batch_id == states.batch_id)
        .outerjoin(plan_execution, plan)
        .where(
            states.publish_end_timestamp >= since,
            states.status == str(PublishStatus.COMPLETE),
            states.intent == str(Intent.PUBLISH),
            ~tried,
        )
        .subquery()
    )
    return (
        select(ranked)
        .where(ranked.c.newest <= MOST_PUBLISHES)
        .order_by(ranked.c.publish_end_timestamp)
    )


def _ended(connection: Connection, now: datetime) -> list[ForecastRecord]:
    """Return the forecasts that are not settled, of what has ended or is not there any more, settled."""
    same = and_(
        publish_state.c.batch_id == forecast.c.batch_id,
        publish_state.c.target_id == forecast.c.target_id,
    )
    gone = publish_state.c.batch_id.is_(None)
    ended = publish_state.c.status.in_([str(status) for status in SETTLED])
    query = (
        select(*_COLUMNS, publish_state.c.status, publish_state.c.publish_end_timestamp)
        .outerjoin_from(forecast, publish_state, same)
        .where(forecast.c.settled_at.is_(None), gone | ended)
        .order_by(forecast.c.made_at)
    )
    settled = []
    for row in connection.execute(query).mappings():
        came = row["publish_end_timestamp"] if row["status"] == PublishStatus.COMPLETE else None
        settled.append(replace(_made(row), came_at=came, settled_at=now))
    return settled


def _overdue(now: datetime) -> Select[Any]:
    same = and_(
        publish_state.c.batch_id == forecast.c.batch_id,
        publish_state.c.target_id == forecast.c.target_id,
    )
    order = (forecast.c.made_at, forecast.c.batch_id, forecast.c.target_id)
    newest = func.row_number().over(
        partition_by=(forecast.c.source_id, forecast.c.target_id, forecast.c.stage),
        order_by=[each.desc() for each in order],
    )
    ranked = (
        select(*_COLUMNS, newest.label("newest"))
        .join(publish_state, same)
        .where(
            text(NOT_SETTLED),
            forecast.c.p90_at < now,
            publish_state.c.status.not_in([str(status) for status in SETTLED]),
        )
        .subquery()
    )
    found = ranked.c
    return (
        select(ranked)
        .where(found.newest <= MOST_SCORES)
        .order_by(found.made_at, found.batch_id, found.target_id)
    )


def _made(row: RowMapping) -> ForecastRecord:
    values = {field.name: row[field.name] for field in fields(ForecastRecord)}
    return ForecastRecord(**{**values, "stage": Stage(row["stage"])})
