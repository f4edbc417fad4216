"""Writing events into the outbox, in the transaction of what they tell of."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, literal_column, text
from sqlalchemy.sql.elements import ColumnElement

from penstock.events.envelope import SOURCE, NewEvent
from penstock.ports.tracing import trace_parent_of
from resources.control_db.engine import insert_into
from resources.control_db.log_order import NUMBER
from resources.control_db.outbox_tables import CHANNEL, outbox_event
from resources.control_db.rows import storable_json, storable_text

_NUMBER: ColumnElement[int] = literal_column(NUMBER)


def add_events(connection: Connection, events: Sequence[NewEvent]) -> None:
    """Add events to the outbox; those whose id is there already change nothing.

    They are told once the transaction commits, and never if it does not.
    """
    if not events:
        return
    postgres = connection.dialect.name == "postgresql"
    number = _NUMBER if postgres else 0
    statement = insert_into(connection, outbox_event).values(transaction_id=number)
    connection.execute(statement.on_conflict_do_nothing(), [_row(event) for event in events])
    if postgres:
        connection.execute(text(f"SELECT pg_notify('{CHANNEL}', '')::text"))


def _row(event: NewEvent) -> dict[str, Any]:
    return {
        "event_id": event.event_id or uuid.uuid4().hex,
        "type": event.type,
        "source": SOURCE,
        "subject": storable_text(event.subject),
        "tenant_id": event.tenant_id,
        "time": event.time,
        "data": storable_json(dict(event.data)),
        "trace_parent": event.trace_parent or trace_parent_of(event.subject),
    }
