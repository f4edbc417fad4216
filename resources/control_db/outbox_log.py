"""The outbox as it is read: in the order of commits, by whoever follows it, and cleared of what is old."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, not_, or_, select

from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.identity.ids import TenantId
from resources.control_db.engine import Database
from resources.control_db.following import Waiter, readable
from resources.control_db.log_order import later
from resources.control_db.outbox_tables import CHANNEL, outbox_event

_log = outbox_event.c
_PAGE = 5_000
"""Rows removed in one transaction, so that writers wait for none of it long."""


class SqlEventLog(Database):
    """:class:`penstock.ports.events.EventLog` in SQL."""

    def read(
        self,
        after: OutboxCursor,
        *,
        limit: int,
        tenant: TenantId | None = None,
        types: Sequence[str] = (),
    ) -> list[OutboxEvent]:
        """Return what comes after a place, as far as nothing can come in between any more."""
        with self._reading() as connection:
            query = readable(connection, outbox_event, select(outbox_event).where(_after(after)))
            if tenant is not None:
                query = query.where(_log.tenant_id == tenant)
            if types:
                query = query.where(_log.type.in_(list(types)))
            in_order = query.order_by(_log.transaction_id, _log.position).limit(limit)
            return [_event_of(row) for row in connection.execute(in_order)]

    def end(self) -> OutboxCursor:
        """Return the place behind all that can be read now."""
        with self._reading() as connection:
            return readable_end(connection)

    def place_of(self, event_id: str) -> OutboxCursor | None:
        """Return where an event is, or None of one that is not there (any more)."""
        with self._reading() as connection:
            row = connection.execute(_places().where(_log.event_id == event_id)).first()
        return None if row is None else _cursor_of(row)

    def place_before(self, moment: datetime) -> OutboxCursor:
        """Return the place before the first event, in the order of commits, that is not older than a moment."""
        with self._reading() as connection:
            first = _places().where(_log.time >= moment)
            row = connection.execute(
                first.order_by(_log.transaction_id, _log.position).limit(1)
            ).first()
            if row is None:
                last = _places().order_by(_log.transaction_id.desc(), _log.position.desc())
                return _cursor_of(connection.execute(last.limit(1)).first())
        return OutboxCursor(transaction=row[0], position=row[1] - 1)

    def remove(
        self, *, older_than: datetime, up_to: OutboxCursor | None, held_until: datetime
    ) -> int:
        """Remove old events; return how many.

        Those after ``up_to`` stay, unless they are older than ``held_until``.
        """
        old = _log.time < older_than
        if up_to is not None:
            old = and_(old, or_(not_(_after(up_to)), _log.time < held_until))
        removed = 0
        while True:
            page = select(_log.position).where(old).order_by(_log.time).limit(_PAGE)
            with self._writing() as connection:
                gone = connection.execute(delete(outbox_event).where(_log.position.in_(page)))
            removed += gone.rowcount
            if gone.rowcount < _PAGE:
                return removed

    def count(self) -> int:
        """Return how many events there are."""
        with self._reading() as connection:
            return int(
                connection.execute(select(func.count()).select_from(outbox_event)).scalar_one()
            )

    def waiter(self) -> Waiter:
        """Return something to wait with until the outbox goes on."""
        return Waiter(self.engine, outbox_event, CHANNEL)


def readable_end(connection: Connection) -> OutboxCursor:
    """Return the place behind all that can be read now, in a transaction: what is not told yet comes after it."""
    query = readable(connection, outbox_event, _places())
    last = query.order_by(_log.transaction_id.desc(), _log.position.desc()).limit(1)
    return _cursor_of(connection.execute(last).first())


def _places() -> Any:
    return select(_log.transaction_id, _log.position)


def _after(place: OutboxCursor) -> Any:
    return later(outbox_event, place.transaction, place.position)


def _cursor_of(row: Row[Any] | None) -> OutboxCursor:
    if row is None:
        return OutboxCursor()
    return OutboxCursor(transaction=row.transaction_id, position=row.position)


def _event_of(row: Row[Any]) -> OutboxEvent:
    return OutboxEvent(
        cursor=OutboxCursor(transaction=row.transaction_id, position=row.position),
        event_id=row.event_id,
        type=row.type,
        source=row.source,
        subject=row.subject,
        tenant_id=TenantId(row.tenant_id),
        time=row.time,
        data=row.data,
        trace_parent=row.trace_parent,
    )
