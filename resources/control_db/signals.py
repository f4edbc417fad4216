"""Waiting for others to commit: LISTEN on PostgreSQL, the file's own count of commits on SQLite."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import Protocol

import psycopg
from sqlalchemy import Connection, Engine, text

_FILE_POLL_S = 0.02
_AGAIN_S = 0.5


class Signal(Protocol):
    """Tells that somebody else committed something."""

    def wait(self, timeout_s: float) -> bool:
        """Return True when somebody may have committed, False after ``timeout_s`` without any sign of it."""
        ...

    def close(self) -> None:
        """Let go of its connection."""
        ...


def open_signal(engine: Engine, channel: str) -> Signal:
    """Return what waits for others; on PostgreSQL for those who :func:`notify` on a channel, on SQLite for anybody."""
    if engine.dialect.name == "postgresql":
        return Notifications(engine, channel)
    return FileChanges(engine)


def notify(connection: Connection, channel: str) -> None:
    """Tell those who wait on a channel, once the transaction commits; on SQLite they see it by themselves."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_notify(:channel, '')::text"), {"channel": channel})


class Notifications:
    """LISTEN on a connection of its own; one that is lost is made anew, and whoever waits then is told to look."""

    def __init__(self, engine: Engine, channel: str) -> None:
        self._url = engine.url.set(drivername="postgresql")
        self._channel = channel
        self._connection: psycopg.Connection | None = None
        self._closed = threading.Event()
        self._listen()

    def _listen(self) -> None:
        url = self._url.render_as_string(hide_password=False)
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(f"LISTEN {self._channel}")

    def wait(self, timeout_s: float) -> bool:
        """Return True after a notification, and where one may have been missed."""
        if self._closed.is_set():
            # Whoever still waits in another thread makes no new connection, which nobody would close.
            return False
        try:
            if self._connection is None:
                self._listen()
                return True
            return any(True for _ in self._connection.notifies(timeout=timeout_s, stop_after=1))
        except psycopg.OperationalError:
            self._drop()
            self._closed.wait(min(timeout_s, _AGAIN_S))
            return True

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class FileChanges:
    """SQLite's own count of commits by others, which costs no read of the file's pages."""

    def __init__(self, engine: Engine) -> None:
        self._connection = sqlite3.connect(str(engine.url.database), check_same_thread=False)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._seen = self._version()

    def _version(self) -> int:
        with self._lock:
            if self._closed.is_set():
                return self._seen
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def wait(self, timeout_s: float) -> bool:
        """Return True when someone has committed, False after ``timeout_s`` without any."""
        give_up_at = time.monotonic() + timeout_s
        while (left_s := give_up_at - time.monotonic()) > 0 and not self._closed.is_set():
            version = self._version()
            if version != self._seen:
                self._seen = version
                return True
            self._closed.wait(min(_FILE_POLL_S, left_s))
        return False

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._closed.set()
            self._connection.close()
