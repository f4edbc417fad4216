"""Events that came in, in the control database: each once, handled by subject in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Dialect,
    TextClause,
    TextualSelect,
    and_,
    bindparam,
    delete,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql

from penstock.errors import IllegalMove, NotFound
from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.events import Arrival, Handled, InboxEvent, InboxStatus, Received
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database, insert_into
from resources.control_db.event_tables import inbox_event
from resources.control_db.rows import storable_json, storable_text
from resources.control_db.tables import UtcTimestamp

_table = inbox_event.c
_PAGE = 500
_COLUMNS = ", ".join(f"e.{column.name}" for column in _table)
_NEXT_WAITING = (
    f"SELECT {_COLUMNS} "
    "FROM inbox_event AS e {waiting} WHERE e.status = 'waiting' AND NOT EXISTS ("
    "SELECT 1 FROM inbox_event AS blocked {retrying} WHERE blocked.tenant_id = e.tenant_id "
    "AND blocked.subject = e.subject AND blocked.status = 'waiting' "
    "AND blocked.retry_at IS NOT NULL AND blocked.retry_at > :now) ORDER BY e.position LIMIT :limit"
)
_HINTS = {
    "waiting": "INDEXED BY ix_inbox_event_waiting",
    "retrying": "INDEXED BY ix_inbox_event_retrying",
}
"""SQLite prefers the index of all statuses otherwise, and goes through all that wait, for each event that waits."""


@cache
def _next_waiting(dialect: str) -> TextualSelect:
    """Return the query for what waits, made once: the server looks many times a second."""
    hints = _HINTS if dialect == "sqlite" else dict.fromkeys(_HINTS, "")
    statement = text(_NEXT_WAITING.format(**hints))
    return statement.bindparams(bindparam("now", type_=UtcTimestamp())).columns(*inbox_event.c)


class SqlInbox(Database):
    """:class:`penstock.ports.events.Inbox` in SQL."""

    def accept(self, arrivals: Sequence[Arrival], *, received_from: str, now: datetime) -> int:
        """Store those that are new by tenant, source and id, in one transaction; return how many."""
        (new,) = self.accept_each([Received(arrivals, received_from)], now=now)
        return new

    def accept_each(self, received: Sequence[Received], *, now: datetime) -> list[int]:
        """Store what several sent, all in one transaction; return how many of each are new, as if one by one."""
        rows = [
            _row_of(each, part.received_from, now) for part in received for each in part.arrivals
        ]
        with self._writing() as connection:
            new = _insert_new(connection, rows)
        counts, at = [], 0
        for part in received:
            mine = {_key_of(row) for row in rows[at : at + len(part.arrivals)]}
            at += len(part.arrivals)
            counts.append(len(mine & new))
            new -= mine
        return counts

    def next_waiting(self, *, now: datetime, limit: int) -> list[InboxEvent]:
        """Return events that wait, oldest first; of a subject whose oldest is not due, none."""
        query = _next_waiting(self.engine.dialect.name)
        with self._reading() as connection:
            rows = connection.execute(query, {"now": now, "limit": limit}).mappings()
            return [_event_of(row) for row in rows]

    def settle(self, handled: Sequence[Handled], *, now: datetime) -> None:
        """Record what became of events; one that is settled stays as it is."""
        done = [each.position for each in handled if each.code is None]
        with self._writing() as connection:
            for start in range(0, len(done), _PAGE):
                page = and_(
                    _table.position.in_(done[start : start + _PAGE]), _table.status == "waiting"
                )
                connection.execute(
                    update(inbox_event)
                    .where(page)
                    .values(
                        status="done",
                        attempts=_table.attempts + 1,
                        retry_at=None,
                        error_code=None,
                        error_message=None,
                        settled_at=now,
                    )
                )
            failed = [_failure(each, now) for each in handled if each.code is not None]
            if failed:
                mine = and_(_table.position == bindparam("at"), _table.status == "waiting")
                values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in _FAILURE}
                statement = update(inbox_event).where(mine)
                statement = statement.values(**values, attempts=_table.attempts + 1)
                connection.execute(statement, failed)

    def requeue(self, position: int, *, act: AuditEntry) -> InboxEvent:
        """Have a dead one tried again; raises ``NotFound``, or ``IllegalMove`` if it is not dead."""
        query = select(inbox_event).where(_table.position == position)
        anew = {"status": "waiting", "attempts": 0, "retry_at": None, "settled_at": None}
        with self._writing() as connection:
            row = connection.execute(query.with_for_update()).mappings().one_or_none()
            if row is None:
                raise NotFound(f"there is no event {position} in the inbox")
            if row["status"] != InboxStatus.DEAD:
                raise IllegalMove(
                    f"event {position} of the inbox is {row['status']}: only one that is dead can be tried again"
                )
            mine = _table.position == position
            connection.execute(update(inbox_event).where(mine).values(**anew))
            add_act(connection, act)
            return _event_of(connection.execute(query).mappings().one())

    def get(self, position: int) -> InboxEvent:
        """Return one, or raise ``NotFound``."""
        query = select(inbox_event).where(_table.position == position)
        with self._reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no event {position} in the inbox")
        return _event_of(row)

    def find(
        self,
        *,
        tenant: TenantId | None = None,
        status: InboxStatus | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[InboxEvent]:
        """Return events, newest first."""
        query = select(inbox_event).order_by(_table.position.desc()).limit(limit)
        if tenant is not None:
            query = query.where(_table.tenant_id == tenant)
        if status is not None:
            query = query.where(_table.status == status.value)
        if before is not None:
            query = query.where(_table.position < before)
        with self._reading() as connection:
            return [_event_of(row) for row in connection.execute(query).mappings()]

    def remove(self, *, settled_before: datetime, limit: int) -> int:
        """Remove what was done before a moment; return how many. What waits or is dead stays."""
        old = select(_table.position).where(
            _table.status == "done", _table.settled_at < settled_before
        )
        page = old.order_by(_table.settled_at).limit(limit)
        with self._writing() as connection:
            gone = connection.execute(delete(inbox_event).where(_table.position.in_(page)))
        return gone.rowcount


_NEW = (
    "source",
    "event_id",
    "type",
    "subject",
    "tenant_id",
    "time",
    "data",
    "trace_parent",
    "received_at",
    "received_from",
    "status",
    "attempts",
    "error_code",
    "error_message",
    "settled_at",
)
"""What is there of an event when it comes in."""


def _insert_new(
    connection: Connection, rows: Sequence[dict[str, Any]]
) -> set[tuple[str, str, str]]:
    """Insert events in their order unless they are there; return the keys of those that were not."""
    if not rows:
        return set()
    if connection.dialect.name == "postgresql":
        answer = connection.execute(_insert_page(), {"page": json.dumps(rows, default=str)})
    else:
        statement = insert_into(connection, inbox_event).on_conflict_do_nothing()
        # As parameters, not as values of the statement, which would be compiled anew for each number of rows.
        answer = connection.execute(statement.returning(*_KEY), rows)
    return {(row.tenant_id, row.source, row.event_id) for row in answer}


@cache
def _insert_page() -> TextClause:
    """Return PostgreSQL's INSERT of a page that is one parameter: fifteen for each event take longer than all else."""
    dialect: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    typed = ", ".join(f"{name} {_table[name].type.compile(dialect)}" for name in _NEW)
    names = ", ".join(_NEW)
    return text(
        f"INSERT INTO inbox_event ({names}) SELECT {names} "
        f"FROM ROWS FROM (jsonb_to_recordset(CAST(:page AS jsonb)) AS ({typed})) WITH ORDINALITY "
        f"AS page ({names}, number) ORDER BY number "
        "ON CONFLICT DO NOTHING RETURNING tenant_id, source, event_id"
    )


def _key_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["tenant_id"], row["source"], row["event_id"]


_KEY = (_table.tenant_id, _table.source, _table.event_id)
_FAILURE = ("status", "retry_at", "error_code", "error_message", "settled_at")


def _failure(each: Handled, now: datetime) -> dict[str, Any]:
    is_dead = each.retry_at is None
    return {
        "at": each.position,
        "new_status": "dead" if is_dead else "waiting",
        "new_retry_at": each.retry_at,
        "new_error_code": each.code,
        "new_error_message": storable_text(each.message),
        "new_settled_at": now if is_dead else None,
    }


def _row_of(arrival: Arrival, received_from: str, now: datetime) -> dict[str, Any]:
    is_bad = arrival.error is not None
    return {
        "source": storable_text(arrival.source),
        "event_id": storable_text(arrival.event_id),
        "type": storable_text(arrival.type),
        "subject": storable_text(arrival.subject),
        "tenant_id": arrival.tenant_id,
        "time": arrival.time,
        "data": storable_json(dict(arrival.data)),
        "trace_parent": arrival.trace_parent,
        "received_at": now,
        "received_from": received_from,
        "status": "dead" if is_bad else "waiting",
        "attempts": 0,
        "error_code": "bad_event" if is_bad else None,
        "error_message": storable_text(arrival.error),
        "settled_at": now if is_bad else None,
    }


def _event_of(row: Mapping[Any, Any]) -> InboxEvent:
    return InboxEvent(
        position=row["position"],
        arrival=Arrival(
            source=row["source"],
            event_id=row["event_id"],
            type=row["type"],
            subject=row["subject"],
            tenant_id=TenantId(row["tenant_id"]),
            time=row["time"],
            data=row["data"],
            trace_parent=row["trace_parent"],
        ),
        received_at=row["received_at"],
        received_from=row["received_from"],
        status=InboxStatus(row["status"]),
        attempts=row["attempts"],
        retry_at=row["retry_at"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        settled_at=row["settled_at"],
    )
