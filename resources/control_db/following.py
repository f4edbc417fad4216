"""Reading a log table in the order of commits, and waiting for it to go on.

On PostgreSQL transactions commit in another order than they draw numbers in. A reader therefore goes only as far as
the oldest transaction of its database that is still running, in the order of (transaction, position): nothing can come
in before what it has read. A long transaction that writes holds readers up; none makes them skip.
On SQLite one transaction writes at a time, so positions are in the order of commits.
"""

from __future__ import annotations

import threading
import time

from sqlalchemy import Connection, Engine, Select, Table, literal_column, select
from sqlalchemy.sql.elements import ColumnElement

from resources.control_db.log_order import WATERMARK, later
from resources.control_db.signals import open_signal

_WATERMARK: ColumnElement[int] = literal_column(WATERMARK)
_LATECOMERS_S = 0.02
"""How soon to look again where rows are committed that have to wait for an older transaction."""


def readable(connection: Connection, log: Table, query: Select[tuple[int]]) -> Select[tuple[int]]:
    """Restrict a query to rows that nothing can come in before any more."""
    if connection.dialect.name == "postgresql":
        return query.where(log.c.transaction_id < _WATERMARK)
    return query


class Waiter:
    """Waits for a log to go on, by what PostgreSQL tells on a channel, or by SQLite's count of commits."""

    def __init__(self, engine: Engine, log: Table, channel: str) -> None:
        self._engine = engine
        self._log = log
        self._postgres = engine.dialect.name == "postgresql"
        self._signal = open_signal(engine, channel)
        self._closed = threading.Event()

    def __enter__(self) -> Waiter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of its connection; whoever waits in another thread is let go, too."""
        self._closed.set()
        self._signal.close()

    def wait(self, transaction: int, position: int, *, timeout_s: float) -> bool:
        """Return True as soon as there are rows after a place, False after so many seconds without any."""
        give_up_at = time.monotonic() + timeout_s
        while True:
            there, can_be_read = self._look(transaction, position)
            left_s = give_up_at - time.monotonic()
            if can_be_read or left_s <= 0 or self._closed.is_set():
                return can_be_read
            if there:
                # Only an older transaction, still running, keeps them from being read.
                time.sleep(min(_LATECOMERS_S, left_s))
            else:
                self._signal.wait(left_s)

    def _look(self, transaction: int, position: int) -> tuple[bool, bool]:
        """Say whether anything comes after a place, and whether it can be read."""
        after = later(self._log, transaction, position)
        first = select(self._log.c.position).where(after).limit(1)
        with self._engine.connect().execution_options(penstock_reading=True) as connection:
            there = connection.execute(first).first() is not None
            if not there or not self._postgres:
                return there, there
            query = readable(connection, self._log, first)
            return there, connection.execute(query).first() is not None
