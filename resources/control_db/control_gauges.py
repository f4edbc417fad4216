"""Gauges of the control plane: workflows, tasks, workers, incidents, and events on their way in and out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, func, select

from penstock.ports.metrics import Sample
from resources.control_db.event_tables import destination, inbox_event
from resources.control_db.forecast_tables import incident
from resources.control_db.log_order import later
from resources.control_db.outbox_tables import outbox_event
from resources.control_db.workflow_tables import worker, workflow, workflow_task


def workflows(connection: Connection, _now: datetime) -> Iterator[Sample]:
    """Workflows by kind and status."""
    yield from _counted(connection, workflow, "workflows", ("kind", "status"))


def tasks(connection: Connection, _now: datetime) -> Iterator[Sample]:
    """Tasks that have not ended, by step and status."""
    going_on = workflow_task.c.ended_at.is_(None)
    yield from _counted(connection, workflow_task, "tasks", ("step", "status"), going_on)


def workers(connection: Connection, _now: datetime) -> Iterator[Sample]:
    """Workers by kind and status."""
    yield from _counted(connection, worker, "workers", ("kind", "status"))


def incidents(connection: Connection, _now: datetime) -> Iterator[Sample]:
    """Open incidents by kind."""
    is_open = incident.c.resolved_at.is_(None)
    yield from _counted(connection, incident, "incidents_open", ("kind",), is_open)


def events_in(connection: Connection, _now: datetime) -> Iterator[Sample]:
    """Events that came in, by how far they are."""
    yield from _counted(connection, inbox_event, "inbox_events", ("status",))


def events_out(connection: Connection, _now: datetime) -> Iterator[Sample]:
    """Events that lie behind each destination's cursor; whether it wants each of them is not looked at."""
    query = select(
        destination.c.destination_id,
        destination.c.cursor_transaction,
        destination.c.cursor_position,
    )
    for row in connection.execute(query).all():
        behind = later(outbox_event, row.cursor_transaction, row.cursor_position)
        untold = select(func.count()).select_from(outbox_event).where(behind)
        count = connection.execute(untold).scalar_one()
        labels = {"destination": row.destination_id}
        yield Sample(name="outbox_events_untold", labels=labels, value=count)


def _counted(
    connection: Connection,
    table: Table,
    name: str,
    labels: Sequence[str],
    *where: ColumnElement[bool],
) -> Iterator[Sample]:
    columns: list[Any] = [table.c[label] for label in labels]
    query = select(*columns, func.count().label("counted")).where(*where).group_by(*columns)
    for row in connection.execute(query).mappings():
        shown = {label: str(row[label]) for label in labels}
        yield Sample(name=name, labels=shown, value=row["counted"])
