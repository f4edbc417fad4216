"""Engines for the control database: SQLite in WAL mode, or PostgreSQL.

On SQLite every transaction takes the write lock at its beginning (``BEGIN IMMEDIATE``), so that two writers
queue up instead of failing half-way; reads take none. On PostgreSQL writers run at READ COMMITTED and those of one
lane queue up on the lane's row; reads run at REPEATABLE READ, so that what they say of the queue is of one moment.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Connection, Dialect, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from penstock.errors import PenstockError

BUSY_TIMEOUT_MS = 30_000
_READING = "penstock_reading"
_USED_AT = "penstock_used_at"
_ASKED_AFTER_S = 1.0
"""A connection that was used less long ago than this is taken to be well: a server that restarts takes longer."""
_writers: dict[str, threading.Lock] = {}
"""Of each SQLite file, where the writers of this process stand in line."""
# Who held one when the process was forked is not in the child.
os.register_at_fork(after_in_child=_writers.clear)


class BadDatabaseUrl(PenstockError):
    """A database URL cannot be used; the message never holds its password."""

    code = "bad_database_url"


def open_engine(url: str | URL) -> Engine:
    """Return an engine with the settings that the control database relies on.

    ``postgresql://`` means psycopg 3. Raises :class:`BadDatabaseUrl` for any other database.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        _require_folder(parsed)
        timeout = {"timeout": BUSY_TIMEOUT_MS / 1000}
        engine = create_engine(parsed, connect_args=timeout, hide_parameters=True)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # A worker thread holds one connection at a time; those beyond the pool are closed after use.
    engine = create_engine(parsed, pool_size=8, max_overflow=24, hide_parameters=True)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", partial(_require_answer, engine.dialect))
    return engine


def _parse(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        # The text may hold a password, so it is not shown.
        raise BadDatabaseUrl(
            "the control database's URL is not a SQLAlchemy URL: write sqlite:////folder/control.db "
            "or postgresql://user:password@host/database"
        ) from None
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        return parsed
    raise BadDatabaseUrl(
        f"{parsed.render_as_string(hide_password=True)} is no database that the control database can "
        "live in: use sqlite:// or postgresql://"
    )


def _require_folder(url: URL) -> None:
    file = url.database
    if file and file != ":memory:" and not Path(file).absolute().parent.is_dir():
        raise BadDatabaseUrl(
            f"the folder of {file} is not there: create it, or name another file in the URL"
        )


def _note_use(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.info[_USED_AT] = time.monotonic()


def _require_answer(
    dialect: Dialect, connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object
) -> None:
    """Have the pool replace a connection that lay idle and does not answer any more.

    SQLAlchemy's ``pool_pre_ping`` asks before each use: measured, a sixth of the time of a busy thread's statements.
    """
    if time.monotonic() - record.info.get(_USED_AT, time.monotonic()) < _ASKED_AFTER_S:
        return
    try:
        answers = dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error:
        answers = False
    if not answers:
        raise InvalidatePoolError("the database closed a connection that lay idle")


def _configure_sqlite(connection: DBAPIConnection, _record: object) -> None:
    # Without this the driver begins transactions by itself, and only before some statements.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    _switch_to_wal(cursor)
    # FULL, not NORMAL: a fencing token that a power cut took back would lock its lane out of its target.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    # The registry writes some 15 MB at once, with keys in any order: by default its pages would be spilled before the
    # commit and checkpointed after each. Measured: a fifth fewer bytes written.
    cursor.execute("PRAGMA cache_size = -32768")  # KiB, at most, per connection
    cursor.execute("PRAGMA wal_autocheckpoint = 16384")  # pages: a WAL of 64 MiB
    cursor.close()


def _switch_to_wal(cursor: DBAPICursor) -> None:
    """Put a file into WAL mode, which it then stays in.

    SQLite's busy timeout does not cover this switch, so several first connections at once wait here.
    """
    give_up_at = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get(_READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@contextmanager
def _in_line(engine: Engine) -> Iterator[None]:
    """Have the threads of this process write to a SQLite file one after another.

    SQLite wakes no writer that waits: each looks again after up to 100 ms, while nobody writes. Measured with twenty
    threads: most of the time of a write. Other processes are still waited for like that, and whoever has waited here
    for too long goes on, to be told by SQLite what is in the way.
    """
    file = engine.url.database
    if engine.dialect.name != "sqlite" or not file or file == ":memory:":
        yield
        return
    line = _writers.setdefault(file, threading.Lock())
    is_mine = line.acquire(timeout=BUSY_TIMEOUT_MS / 1000)
    try:
        yield
    finally:
        if is_mine:
            line.release()


class DatabaseUnreachable(PenstockError):
    """The control database does not answer, or does not let us in."""

    code = "database_unreachable"


class Database:
    """One engine, and the two kinds of transactions that the parts of the store are made of."""

    def __init__(self, url: str | URL) -> None:
        self.engine = open_engine(url)

    @classmethod
    def from_engine(cls, engine: Engine) -> Self:
        """Return a store on an engine that :func:`open_engine` made, beside others."""
        store = cls.__new__(cls)
        store.engine = engine
        return store

    def __repr__(self) -> str:
        shown = self.engine.url.render_as_string(hide_password=True)
        return f"{type(self).__name__}({shown!r})"

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Run a block in one transaction that commits at its end, or not at all."""
        with _in_line(self.engine), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Run a block that sees the database as of one moment, and blocks no writer."""
        options: dict[str, Any] = {_READING: True}
        if self.engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        with self.engine.connect().execution_options(**options) as connection:
            yield connection

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


def insert_if_new(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert a row unless its primary key is there; say whether it was inserted."""
    statement = insert_into(connection, table).on_conflict_do_nothing()
    first_of_key = next(iter(table.primary_key))
    answer = connection.execute(statement.returning(first_of_key), row)
    return answer.one_or_none() is not None


def insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert those of ``rows`` whose primary key is not there yet."""
    if rows:
        connection.execute(insert_into(connection, table).on_conflict_do_nothing(), rows)


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert ``rows``, or overwrite all other columns of those whose primary key is there."""
    if not rows:
        return
    statement = insert_into(connection, table)
    key = [column.name for column in table.primary_key]
    others = {name: statement.excluded[name] for name in rows[0] if name not in key}
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=others), rows)


def insert_into(connection: Connection, table: Table) -> Any:
    """Return an INSERT of the connection's dialect, which can say ON CONFLICT."""
    # Both dialects spell ON CONFLICT alike, but have no common class for it.
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
