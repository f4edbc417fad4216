"""Sending to many destinations at once, each on its own: one that is dead holds up no other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from penstock.use_cases.deliver_events import Delivering, deliver, due_destinations
from resources.control_db.following import Waiter
from resources.control_db.outbox_log import SqlEventLog
from resources.delivery.sending import EventSender

MOST_AT_ONCE = 32
"""Destinations that are sent to at the same moment."""
_ROUNDS = 20
"""How often one is sent a page before others get its thread."""


class Dispatcher:
    """Keeps every destination that has something coming at work, up to a bound."""

    def __init__(self, delivering: Delivering, log: SqlEventLog, sender: EventSender) -> None:
        self._delivering = delivering
        self._log = log
        self._sender = sender
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="deliver")
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._waiter: Waiter | None = None
        self._closing = threading.Event()

    def dispatch(self, *, wait_s: float) -> int:
        """Begin to send to each destination that is due and at rest; return how many.

        If there is none, wait for the outbox to go on first, ``wait_s`` at most; so long where nobody is sent anything.
        """
        end = self._log.end()
        begun = self._begin()
        if begun:
            return begun
        if not self._busy and not self._delivering.destinations.has_enabled():
            # Whatever is committed meanwhile is for nobody.
            self._closing.wait(wait_s)
            return 0
        if self._waiter is None:
            self._waiter = self._log.waiter()
        self._waiter.wait(end.transaction, end.position, timeout_s=wait_s)
        return self._begin()

    def settle(self) -> None:
        """Return once nobody is being sent anything."""
        while True:
            with self._lock:
                if not self._busy:
                    return
            threading.Event().wait(0.01)

    def close(self) -> None:
        """Let what is being sent come to its end, and close all connections."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._waiter is not None:
            self._waiter.close()
        self._sender.close()

    def _begin(self) -> int:
        begun = 0
        for name in due_destinations(self._delivering):
            with self._lock:
                if name in self._busy:
                    continue
                self._busy.add(name)
            self._pool.submit(self._deliver, name)
            begun += 1
        return begun

    def _deliver(self, name: str) -> None:
        try:
            for _ in range(_ROUNDS):
                if not deliver(self._delivering, name):
                    return
        finally:
            with self._lock:
                self._busy.discard(name)
