"""Reading the log in the order of commits, and following it.

On PostgreSQL transactions commit in another order than they draw numbers in. A reader therefore goes only as far as
the oldest transaction of the database that is still running, in the order of (transaction, position): nothing can come
in before what it has read. A long transaction that writes holds readers up; none makes them skip.
On SQLite one transaction writes at a time, so positions are in the order of commits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, literal_column, select
from sqlalchemy.sql.elements import ColumnElement

from penstock.identity.ids import TenantId
from penstock.ports.registry import LogSignal
from penstock.registry.events import Cursor, RecordedEvent
from penstock.registry.upcasting import CURRENT, Upcasters
from resources.control_db.log_order import WATERMARK
from resources.control_db.log_order import later as after_place
from resources.registry.rows import recorded_of
from resources.registry.waking import LogWaker
from resources.targets.registry_tables import registry_event

_WATERMARK: ColumnElement[int] = literal_column(WATERMARK)
AT_ONCE = 1_000


def rows_in(
    connection: Connection, after: Cursor, *, limit: int, tenant: TenantId | None = None
) -> Sequence[Row[Any]]:
    """Return rows of the log after a place, in the order of commits, as far as nothing can come in between any more."""
    log = registry_event.c
    query = select(registry_event).where(later(after))
    if connection.dialect.name == "postgresql":
        query = query.where(log.transaction_id < _WATERMARK)
    if tenant is not None:
        query = query.where(log.tenant_id == tenant)
    query = query.order_by(log.transaction_id, log.position).limit(limit)
    return connection.execute(query).all()


def later(after: Cursor) -> ColumnElement[bool]:
    """Return the condition that an event comes after a place."""
    return after_place(registry_event, after.transaction, after.position)


def read_in(
    connection: Connection,
    after: Cursor,
    *,
    limit: int,
    tenant: TenantId | None = None,
    upcasters: Upcasters = CURRENT,
) -> list[RecordedEvent]:
    """Return events after a place, as :func:`rows_in` does."""
    rows = rows_in(connection, after, limit=limit, tenant=tenant)
    return [upcasters.upcast(recorded_of(row)) for row in rows]


class RegistryLog:
    """:class:`penstock.ports.registry.EventReader` on a control database."""

    def __init__(self, engine: Engine, *, upcasters: Upcasters = CURRENT) -> None:
        self._engine = engine
        self._upcasters = upcasters

    def read(self, after: Cursor, *, limit: int = AT_ONCE) -> list[RecordedEvent]:
        """Return what comes after a place."""
        with self._engine.connect().execution_options(penstock_reading=True) as connection:
            return read_in(connection, after, limit=limit, upcasters=self._upcasters)

    def follow(self, after: Cursor, *, poll_s: float) -> Iterator[Sequence[RecordedEvent]]:
        """Yield events as they are committed; an empty sequence after each ``poll_s`` seconds without any.

        Close the iterator to let go of its connection.
        """
        with Waiter(self._engine) as waiter:
            while True:
                if events := self.read(after):
                    after = events[-1].cursor
                    yield events
                elif not waiter.wait(after, timeout_s=poll_s):
                    yield []


class Waiter:
    """Waits for the log to go on: until a signal tells, and at the latest until it is time to look anyway."""

    def __init__(self, engine: Engine, signal: LogSignal | None = None) -> None:
        """Use a signal that others use too, or one of its own."""
        self._engine = engine
        self._own = LogWaker(engine) if signal is None else None
        self._woken = threading.Event()
        self._leave = (signal or self._own).subscribe(self._woken.set)  # type: ignore[union-attr]

    def __enter__(self) -> Waiter:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        if self._own is not None:
            self._own.close()

    def wait(self, after: Cursor, *, timeout_s: float) -> bool:
        """Return True as soon as there are events after a place, False after so many seconds without any."""
        give_up_at = time.monotonic() + timeout_s
        while True:
            self._woken.clear()
            with self._engine.connect().execution_options(penstock_reading=True) as connection:
                readable = bool(rows_in(connection, after, limit=1))
            left_s = give_up_at - time.monotonic()
            if readable or left_s <= 0:
                return readable
            self._woken.wait(left_s)
