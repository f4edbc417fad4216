"""Running what has to happen by itself: each loop in a thread of its own, its fate on record, stopped cleanly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from control_plane.service.services import Services

IDLE_S = 0.5
"""Seconds until a loop that has found nothing to do looks again, unless it says otherwise."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Something that has to be done again and again.

    Several servers may run the same loop at once, and any may die: it takes its work under a lease, or does what is
    harmless twice.
    """

    name: str
    run_once: Callable[[Services], bool | float]
    """Does what is due; returns True to be called again at once, False for a while later, or seconds until then."""
    close: Callable[[Services], None] = lambda _services: None
    """Lets go of what it keeps open, once it has ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopState:
    """How a loop fares in this server."""

    name: str
    runs: int = 0
    """That ended well."""
    failures: int = 0
    failures_in_a_row: int = 0
    last_run_at: datetime | None = None
    """When the last one ended well."""
    last_error: str | None = None
    """Of the last failure; no secret is in it."""
    last_failed_at: datetime | None = None
    busy_s: float = 0.0
    """How long the last run took."""
    late_s: float = 0.0
    """How long after it was due the last run began."""


@dataclass
class Loops:
    """The loops of one server."""

    services: Services
    loops: Sequence[Loop]
    _states: dict[str, LoopState] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _wakes: dict[str, threading.Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._states = {loop.name: LoopState(name=loop.name) for loop in self.loops}
        self._wakes = {loop.name: threading.Event() for loop in self.loops}

    def start(self) -> None:
        """Start a thread for each."""
        for loop in self.loops:
            thread = threading.Thread(target=self._run, args=(loop,), name=f"loop {loop.name}")
            thread.daemon = True
            self._threads.append(thread)
            thread.start()

    def stop(self, *, patience_s: float = 10.0) -> None:
        """Have them end after what they are at; one that does not in time is left to die with the process."""
        self._stopping.set()
        for wake in self._wakes.values():
            wake.set()
        for thread in self._threads:
            thread.join(patience_s)
        for loop in self.loops:
            loop.close(self.services)

    def wake(self, name: str) -> None:
        """Have a loop look at once; a name that no loop has is no error."""
        if name in self._wakes:
            self._wakes[name].set()

    def states(self) -> list[LoopState]:
        """Return how each fares, in the order in which they are listed."""
        with self._lock:
            return list(self._states.values())

    def _run(self, loop: Loop) -> None:
        clock, wait_s = self.services.clock, 0.0
        while not self._stopping.is_set():
            due_at_s = clock.monotonic_s() + wait_s
            self._wakes[loop.name].wait(wait_s)
            self._wakes[loop.name].clear()
            if self._stopping.is_set():
                return
            wait_s = self._once(loop, due_at_s)

    def _once(self, loop: Loop, due_at_s: float) -> float:
        """Run a loop once, record how it went, and return the seconds until it is due again."""
        clock = self.services.clock
        began_at_s = clock.monotonic_s()
        try:
            again = loop.run_once(self.services)
        except Exception as error:  # noqa: BLE001  whatever it is, the loop has to go on
            return self._failed(loop, error)
        with self._lock:
            before = self._states[loop.name]
            self._states[loop.name] = replace(
                before,
                runs=before.runs + 1,
                failures_in_a_row=0,
                last_run_at=clock.now(),
                busy_s=clock.monotonic_s() - began_at_s,
                late_s=max(0.0, began_at_s - due_at_s),
            )
        if isinstance(again, bool):
            return 0.0 if again else IDLE_S
        return max(0.0, again)

    def _failed(self, loop: Loop, error: Exception) -> float:
        _log.warning("loop %s failed: %s", loop.name, type(error).__name__, exc_info=error)
        with self._lock:
            before = self._states[loop.name]
            in_a_row = before.failures_in_a_row + 1
            self._states[loop.name] = replace(
                before,
                failures=before.failures + 1,
                failures_in_a_row=in_a_row,
                last_error=_said(error),
                last_failed_at=self.services.clock.now(),
            )
        return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(in_a_row - 1, 10))


def _said(error: Exception) -> str:
    """Return what may be shown of a failure: Penstock's own words, and of others the kind alone."""
    from penstock.errors import PenstockError

    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, PenstockError) else name
