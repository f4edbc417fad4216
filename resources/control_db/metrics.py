"""What is measured, in the control database: tallies kept with a cursor, and gauges as they stand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select, text, update

from penstock.events.envelope import OutboxCursor
from penstock.events.measures import Tally
from penstock.ports.metrics import Sample
from penstock.publish.breaker import BreakerStatus
from penstock.publish.state import IN_HAND, WAITING
from resources.control_db import control_gauges
from resources.control_db.breakers import read_breakers
from resources.control_db.engine import Database, insert_into, insert_new
from resources.control_db.metric_tables import metric_cursor, metric_tally
from resources.control_db.tables import (
    IN_QUEUE,
    dead_letter,
    lane,
    pause,
    publish_state,
    snapshot,
    source,
)

_CURSOR = "tallies"
_states = publish_state.c
_LANE = (_states.source_id.label("source"), _states.target_id.label("target"))


class SqlMetrics(Database):
    """:class:`penstock.ports.metrics.Metrics` in SQL."""

    def tallied_to(self) -> OutboxCursor:
        """Return up to where the outbox has been folded."""
        query = select(metric_cursor).where(metric_cursor.c.name == _CURSOR)
        with self._reading() as connection:
            row = connection.execute(query).one_or_none()
        return (
            OutboxCursor()
            if row is None
            else OutboxCursor(transaction=row.transaction_id, position=row.position)
        )

    def add_tallies(
        self, tallies: Sequence[Tally], *, since: OutboxCursor, to: OutboxCursor
    ) -> bool:
        """Add tallies and move the cursor in one transaction; False unless it is still where it was."""
        with self._writing() as connection:
            if not _moved(connection, since, to):
                return False
            _add(connection, tallies)
        return True

    def tallies(self) -> list[Tally]:
        """Return every tally."""
        table = metric_tally.c
        query = select(metric_tally).order_by(table.name, table.labels, table.part)
        with self._reading() as connection:
            return [
                Tally(
                    name=row.name,
                    labels=tuple(json.loads(row.labels)),
                    part=row.part,
                    value=row.value,
                )
                for row in connection.execute(query)
            ]

    def standing(self, *, now: datetime) -> list[Sample]:
        """Return every gauge that is read from the control database, all of one moment."""
        with self._reading() as connection:
            return [sample for gauge in GAUGES for sample in gauge(connection, now)]


def _moved(connection: Connection, since: OutboxCursor, to: OutboxCursor) -> bool:
    start = {"name": _CURSOR, "transaction_id": 0, "position": 0}
    insert_new(connection, metric_cursor, [start])
    table = metric_cursor.c
    statement = (
        update(metric_cursor)
        .where(
            table.name == _CURSOR,
            table.transaction_id == since.transaction,
            table.position == since.position,
        )
        .values(transaction_id=to.transaction, position=to.position)
    )
    return connection.execute(statement).rowcount == 1


def _add(connection: Connection, tallies: Sequence[Tally]) -> None:
    if not tallies:
        return
    statement = insert_into(connection, metric_tally)
    statement = statement.on_conflict_do_update(
        index_elements=["name", "labels", "part"],
        set_={"value": metric_tally.c.value + statement.excluded.value},
    )
    rows = [
        {
            "name": tally.name,
            "labels": json.dumps(tally.labels, ensure_ascii=False),
            "part": tally.part,
            "value": tally.value,
        }
        for tally in tallies
    ]
    connection.execute(statement, rows)


# Gauges -----------------------------------------------------------------------------------------------------


def _queue(connection: Connection, now: datetime) -> Iterator[Sample]:
    oldest = func.min(_states.enqueued_at).label("oldest")
    query = (
        select(*_LANE, func.count().label("n"), oldest)
        .where(text(IN_QUEUE), _states.status.in_([str(status) for status in WAITING]))
        .group_by(_states.source_id, _states.target_id)
    )
    for row in connection.execute(query):
        labels = {"source": row.source, "target": row.target}
        yield Sample(name="queue_batches", labels=labels, value=row.n)
        age_s = max(0.0, (now - row.oldest).total_seconds())
        yield Sample(name="queue_oldest_age_seconds", labels=labels, value=age_s)


def _in_hand(connection: Connection, _now: datetime) -> Iterator[Sample]:
    query = (
        select(_states.target_id, _states.status, func.count().label("n"))
        .where(text(IN_QUEUE), _states.status.in_([str(status) for status in IN_HAND]))
        .group_by(_states.target_id, _states.status)
    )
    for row in connection.execute(query):
        labels = {"target": row.target_id, "status": row.status}
        yield Sample(name="in_hand_batches", labels=labels, value=row.n)


def _batches(connection: Connection, _now: datetime) -> Iterator[Sample]:
    query = select(_states.status, func.count().label("n")).group_by(_states.status)
    for row in connection.execute(query):
        yield Sample(name="batches", labels={"status": row.status}, value=row.n)


def _kept_back(connection: Connection, _now: datetime) -> Iterator[Sample]:
    sums = [func.sum(_states[name]).label(name) for name in ("held", "blocked", "rejected")]
    query = (
        select(*_LANE, *sums)
        .where(_states.exceptions > 0)
        .group_by(_states.source_id, _states.target_id)
    )
    for row in connection.execute(query):
        labels = {"source": row.source, "target": row.target}
        for name in ("held", "blocked", "rejected"):
            yield Sample(name=f"operations_{name}", labels=labels, value=getattr(row, name))


def _letters(connection: Connection, _now: datetime) -> Iterator[Sample]:
    table = dead_letter.c
    by = (table.source_id, table.target_id, table.code)
    query = (
        select(*by, func.count().label("n")).where(table.status == "open").group_by(*by).limit(1000)
    )
    for row in connection.execute(query):
        labels = {
            "source": row.source_id or "",
            "target": row.target_id or "",
            "code": row.code,
        }
        yield Sample(name="dead_letters_open", labels=labels, value=row.n)


def _breakers(connection: Connection, now: datetime) -> Iterator[Sample]:
    for breaker in read_breakers(connection):
        for status in BreakerStatus:
            labels = {"target": breaker.target_id, "state": str(status)}
            is_in = breaker.status_at(now) is status
            yield Sample(name="breaker_state", labels=labels, value=float(is_in))


def _pauses(connection: Connection, _now: datetime) -> Iterator[Sample]:
    for row in connection.execute(select(pause.c.scope, pause.c.scope_id)):
        yield Sample(name="paused", labels={"scope": row.scope, "name": row.scope_id}, value=1)


def _leases(connection: Connection, now: datetime) -> Iterator[Sample]:
    query = (
        select(lane.c.target_id, func.count().label("n"))
        .where(lane.c.lease_expires_at > now)
        .group_by(lane.c.target_id)
    )
    for row in connection.execute(query):
        yield Sample(name="leases", labels={"target": row.target_id}, value=row.n)


def _sources(connection: Connection, _now: datetime) -> Iterator[Sample]:
    table = source.c
    query = select(table.source_id, table.sla_s, table.cadence_s).where(table.declared)
    for row in connection.execute(query):
        for name, seconds in (("sla", row.sla_s), ("cadence", row.cadence_s)):
            if seconds is not None:
                labels = {"source": row.source_id}
                yield Sample(name=f"source_{name}_seconds", labels=labels, value=seconds)


def _published(connection: Connection, _now: datetime) -> Iterator[Sample]:
    query: Select[Any] = select(
        snapshot.c.source_id, snapshot.c.target_id, snapshot.c.source_timestamp
    )
    for row in connection.execute(query):
        yield Sample(
            name="published_source_timestamp_seconds",
            labels={"source": row.source_id, "target": row.target_id},
            value=row.source_timestamp.timestamp(),
        )


Gauge = Callable[[Connection, datetime], Iterator[Sample]]
GAUGES: tuple[Gauge, ...] = (
    _queue,
    _in_hand,
    _batches,
    _kept_back,
    _letters,
    _breakers,
    _pauses,
    _leases,
    _sources,
    _published,
    control_gauges.workflows,
    control_gauges.tasks,
    control_gauges.workers,
    control_gauges.incidents,
    control_gauges.events_in,
    control_gauges.events_out,
)
