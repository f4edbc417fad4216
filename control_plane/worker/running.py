"""Running a worker: it registers, pulls, has each task done in a thread, keeps its leases, reports, and drains.

::

    pulling   asks for as many tasks as it has room for, and waits for them
    beating   heartbeats; one that was given up registers anew
    renewing  keeps the leases of what is running; a task that is to be ended is told to stop
    tasks     one thread each: the handler, then the report

A worker whose tasks take a second or two would spend as long on asking for the next. It is given some ahead, under
leases like all others, and begins one the moment that another ends. One whose tasks take longer has none ahead, which
would wait there while another worker could begin them.

A task whose lease was lost is told to stop, and nothing is reported of it: another has it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, TypeVar

from control_plane.worker.calls import LONGEST_WAIT_S, Assignment, Calls, NoAnswer, Refused
from penstock.errors import PenstockError

SHORT_S = 2.0
"""Tasks that take no longer than this, by the median of the last ones, are given ahead."""
_REMEMBERED = 9
CLAIM_WAIT_S = 20.0
"""How long a claim waits for a task at the server."""
_MALFORMED = frozenset({400, 413, 422})
_GIVEN_UP = frozenset({"illegal_move", "not_found"})
"""What is wrong where the control plane does not count on this worker any more."""
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class TaskFailed(PenstockError):
    """A handler says that its task failed, and whether trying it again may help."""

    code = "task_failed"

    def __init__(self, message: str, *, code: str = "task_failed", retryable: bool = True) -> None:
        super().__init__(message)
        self.reported_code = code
        self.retryable = retryable


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a task."""

    batch_id: str | None = None
    """Of the batch that was landed, if one was."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """Counts and places for the next step, never rows."""


Handler = Callable[[Assignment, threading.Event], Done]
"""Does a task. The event is set once it should end: its lease is lost, or its workflow was cancelled."""


@dataclass
class _Running:
    """A task in one of this worker's threads."""

    task: Assignment
    stop: threading.Event = field(default_factory=threading.Event)
    lost: bool = False
    reporting: bool = False
    """From the first report on: a lease that is refused then may be gone because the report was just taken."""


@dataclass(kw_only=True)
class OutsideWorker:
    """One worker. ``run`` returns once it was stopped and everything that it had has ended."""

    calls: Calls
    handlers: Mapping[str, Handler]
    """By capability: ``collect``, or ``collect:crm`` for one source alone."""
    capacity: int = 1
    details: Mapping[str, Any] = field(default_factory=dict)
    claim_wait_s: float = CLAIM_WAIT_S
    _stopping: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _room: threading.Condition = field(default_factory=threading.Condition)
    _running: dict[str, _Running] = field(default_factory=dict)
    """All that it has: what is being done, what waits for that, and what is being reported."""
    _waiting: deque[_Running] = field(default_factory=deque)
    _busy: int = 0
    """How many are being done."""
    _took_s: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def stop(self) -> None:
        """Take nothing more on, end what is running, and have ``run`` return."""
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped. Raises ``Refused`` where the control plane will not have this worker."""
        said = self._patiently(self._register)
        if said is None:
            return
        keeping = [
            threading.Thread(target=self._beat, args=(said.heartbeat_s,), name="beating"),
            threading.Thread(target=self._renew, args=(said.renew_s,), name="renewing"),
            threading.Thread(target=self._drain_when_stopped, name="draining"),
        ]
        for thread in keeping:
            thread.start()
        try:
            self._pull()
            self._wait_for_tasks()
        finally:
            self._stopping.set()
            self._ended.set()
            for thread in keeping:
                thread.join()
            self._quietly(self.calls.leave)

    # Pulling ------------------------------------------------------------------------------------------------

    def _pull(self) -> None:
        while (free := self._free_slots()) > 0:
            ask = partial(self.calls.claim, free, self.claim_wait_s, ahead=self._ahead())
            given = self._patiently(ask)
            for task in given or ():
                self._begin(task)

    def _free_slots(self) -> int:
        """Return how much room there is, waiting until there is some; 0 once this worker stops."""
        with self._room:
            while not self._stopping.is_set():
                free = self.capacity + self._ahead() - len(self._running)
                if free > 0:
                    return free
                self._room.wait(0.2)
        return 0

    def _ahead(self) -> int:
        """Return how many more than its capacity this worker may have: none until it knows how long tasks take."""
        took_s = list(self._took_s)
        return self.capacity if took_s and median(took_s) <= SHORT_S else 0

    def _begin(self, task: Assignment) -> None:
        running = _Running(task)
        with self._room:
            self._running[task.task_id] = running
            self._waiting.append(running)
        self._begin_waiting()

    def _begin_waiting(self) -> None:
        """Begin what waits, as far as there is capacity."""
        while True:
            with self._room:
                if not self._waiting or self._busy >= self.capacity:
                    return
                self._busy += 1
                running = self._waiting.popleft()
            name = f"task {running.task.step} of {running.task.source_id}"
            threading.Thread(target=self._do, args=(running,), name=name).start()

    def _wait_for_tasks(self) -> None:
        with self._room:
            while self._running:
                self._room.wait(0.2)

    # Doing --------------------------------------------------------------------------------------------------

    def _do(self, running: _Running) -> None:
        try:
            report = None if running.lost else self._timed(running)
            self._make_room()
            if report is not None and self._begins_to_report(running):
                self._deliver(running, report)
        finally:
            with self._room:
                self._running.pop(running.task.task_id, None)
                self._room.notify_all()

    def _timed(self, running: _Running) -> Callable[[], None]:
        began_at_s = time.monotonic()
        report = self._report_of(running)
        self._took_s.append(time.monotonic() - began_at_s)
        return report

    def _make_room(self) -> None:
        """Have the next one begun that waits, while what came of this one is reported."""
        with self._room:
            self._busy -= 1
            self._room.notify_all()
        self._begin_waiting()

    def _report_of(self, running: _Running) -> Callable[[], None]:
        """Do a task, and return the call that reports what came of it."""
        task = running.task
        try:
            done = self._handler(task)(task, running.stop)
        except TaskFailed as failed:
            code, message, again = failed.reported_code, str(failed), failed.retryable
            return lambda: self.calls.fail(task, code, message, retryable=again)
        except Exception as error:  # noqa: BLE001  whatever it is, the task failed and others go on
            _log.warning("task %s failed", task.task_id, exc_info=error)
            said, text = type(error).__name__, f"{type(error).__name__}: {error}"
            return lambda: self.calls.fail(task, said, text, retryable=True)
        return lambda: self.calls.complete(task, done.batch_id, done.result)

    def _handler(self, task: Assignment) -> Handler:
        capability = str(task.document["capability"])
        for name in (f"{capability}:{task.source_id}", capability):
            if name in self.handlers:
                return self.handlers[name]
        raise TaskFailed(f"this worker cannot {capability}", code="no_handler")

    def _begins_to_report(self, running: _Running) -> bool:
        with self._room:
            running.reporting = not running.lost
            return running.reporting

    def _deliver(self, running: _Running, report: Callable[[], None]) -> None:
        """Report until it was taken, or until the task is another's."""
        tried = 0
        while not running.lost:
            try:
                report()
            except NoAnswer as error:
                _log.warning("task %s is not reported yet: %s", running.task.task_id, error)
                threading.Event().wait(self._wait_s(tried, error))
                tried += 1
            except Refused as error:
                _log.warning("the report on task %s is refused: %s", running.task.task_id, error)
                if error.status in _MALFORMED:
                    self._quietly(partial(self._give_up, running.task, str(error)))
                return
            else:
                return
        _log.warning("task %s is lost before it was reported", running.task.task_id)

    def _give_up(self, task: Assignment, said: str) -> None:
        """Report a task as failed whose report was not taken as it is, so that nobody waits for its lease."""
        self.calls.fail(task, "report_refused", said, retryable=False)

    # Keeping ------------------------------------------------------------------------------------------------

    def _beat(self, every_s: float) -> None:
        while not self._ended.wait(every_s):
            try:
                self.calls.heartbeat()
            except Refused as error:
                if error.problem in _GIVEN_UP and not self._stopping.is_set():
                    _log.warning("given up by the control plane: %s", error)
                    self._quietly(self._register)
            except NoAnswer as error:
                _log.warning("not heard: %s", error)

    def _renew(self, every_s: float) -> None:
        while not self._ended.wait(every_s):
            with self._room:
                running = list(self._running.values())
            for each in running:
                if not each.lost:
                    self._renew_one(each)

    def _renew_one(self, running: _Running) -> None:
        try:
            if self.calls.renew(running.task):
                running.stop.set()
        except Refused as error:
            with self._room:
                running.lost = True
                running.stop.set()
            # What becomes of the report says whether it was lost, or has just been reported.
            if not running.reporting:
                _log.warning("task %s is lost: %s", running.task.task_id, error)
        except NoAnswer as error:
            _log.warning("task %s is not renewed: %s", running.task.task_id, error)

    def _drain_when_stopped(self) -> None:
        self._stopping.wait()
        if not self._ended.is_set():
            self._quietly(self.calls.drain)

    def _register(self) -> Any:
        return self.calls.register(tuple(self.handlers), self.capacity, self.details)

    # Patience -----------------------------------------------------------------------------------------------

    def _patiently(self, ask: Callable[[], _T]) -> _T | None:
        """Ask until there is an answer, waiting longer each time; None once this worker stops.

        A worker that was given up in the meantime registers anew.
        """
        tried = 0
        while not self._stopping.is_set():
            try:
                return ask()
            except NoAnswer as error:
                _log.warning("%s", error)
                self._stopping.wait(self._wait_s(tried, error))
            except Refused as error:
                if error.problem not in {*_GIVEN_UP, "changed_meanwhile"}:
                    raise
                _log.warning("%s", error)
                if error.problem in _GIVEN_UP:
                    self._quietly(self._register)
                self._stopping.wait(self._wait_s(tried, None))
            tried += 1
        return None

    def _wait_s(self, tried: int, error: NoAnswer | None) -> float:
        if error is not None and error.retry_after_s is not None:
            return min(error.retry_after_s, LONGEST_WAIT_S)
        return self.calls.wait_s(tried)

    def _quietly(self, ask: Callable[[], Any]) -> None:
        try:
            ask()
        except PenstockError as error:
            _log.warning("%s", error)


def capabilities_of(names: Sequence[str], handler: Handler) -> dict[str, Handler]:
    """Return one handler for several capabilities."""
    return dict.fromkeys(names, handler)
