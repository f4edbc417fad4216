"""Waking up whoever follows the log: one connection of a process listens, however many follow.

On PostgreSQL every append notifies a channel as it commits; on SQLite the file counts its commits. Nobody relies on
being woken: a follower looks by itself every now and then, so that a wake that is lost costs time and no event.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable

import psycopg
from sqlalchemy import Engine, Row, text
from sqlalchemy.exc import SQLAlchemyError

from resources.control_db.log_order import WATERMARK
from resources.control_db.signals import open_signal
from resources.targets.registry_tables import CHANNEL

_SLICE_S = 0.2
"""How soon a listener notices that it is to stop."""
_AGAIN_S = 0.5
_LATECOMERS_S = (0.02, 0.5)
"""How soon, at first and at last, to look again where events are committed that have to wait for an older transaction:
it may end without an event of its own, and so without a word."""
_HELD_BACK = text(
    f"SELECT {WATERMARK} AS watermark, COALESCE((SELECT max(transaction_id) FROM registry_event), 0) AS last"
)
_log = logging.getLogger(__name__)


class LogWaker:
    """:class:`penstock.ports.registry.LogSignal` of a control database, in a thread that its first use starts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._postgres = engine.dialect.name == "postgresql"
        self._lock = threading.Lock()
        self._wakes: dict[int, Callable[[], object]] = {}
        self._numbers = 0
        self._stop = threading.Event()
        self._listening = threading.Event()
        self._thread: threading.Thread | None = None

    def subscribe(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Have a function called, in another thread, whenever there may be more to read, until the answer is called.

        Returns once somebody listens, or has failed to.
        """
        with self._lock:
            self._numbers += 1
            number = self._numbers
            self._wakes[number] = wake
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="registry log", daemon=True)
                self._thread.start()
        self._listening.wait()

        def leave() -> None:
            with self._lock:
                self._wakes.pop(number, None)

        return leave

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (psycopg.Error, sqlite3.Error, SQLAlchemyError, OSError) as error:
                _log.warning(
                    "nobody is woken for the registry's log until it is listened to again: %s",
                    error,
                )
                self._listening.set()
                self._stop.wait(_AGAIN_S)

    def _listen(self) -> None:
        signal = open_signal(self._engine, CHANNEL)
        try:
            self._listening.set()
            self._wake_until_readable()  # for what came while nobody listened
            while not self._stop.is_set():
                if signal.wait(_SLICE_S):
                    self._wake_until_readable()
        finally:
            signal.close()

    def _wake(self) -> None:
        with self._lock:
            wakes = list(self._wakes.values())
        for wake in wakes:
            wake()

    def _wake_until_readable(self) -> None:
        """Wake everybody; and again, while what is committed cannot be read, whenever more of it can.

        What can be read is looked up first: whoever is woken afterwards sees that, or more. Looked up after them, it
        could have become readable in between, and nobody would be woken for it.
        """
        if not self._postgres:
            self._wake()
            return
        before, again_s = self._standing(), _LATECOMERS_S[0]
        self._wake()
        while before.last >= before.watermark and not self._stop.wait(again_s):
            now = self._standing()
            if now.watermark != before.watermark:
                self._wake()
            before, again_s = now, min(2 * again_s, _LATECOMERS_S[1])

    def _standing(self) -> Row[tuple[int, int]]:
        """Return the transaction before which all can be read, and the last one that has events."""
        with self._engine.connect().execution_options(penstock_reading=True) as connection:
            return connection.execute(_HELD_BACK).one()
