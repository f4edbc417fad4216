"""A worker with short tasks has some ahead, and none idles while a report is on its way."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from control_plane.worker.calls import Assignment, Calls, NoAnswer, Refused, Registered
from control_plane.worker.running import SHORT_S, Done, OutsideWorker
from tests.contracts.control_values import NOW

PATIENCE_S = 60.0


def task(number: int) -> Assignment:
    return Assignment(
        task_id=f"{number:032x}",
        workflow_id="w" * 32,
        step="collect",
        source_id=f"s{number}",
        tenant_id="acme",
        attempt=1,
        fencing_token=1,
        lease_expires_at=NOW + timedelta(days=1),
        document={"capability": "collect"},
    )


@dataclass(kw_only=True)
class Given(Calls):
    """A control plane that has some tasks, and remembers what it was asked."""

    url: str = "http://127.0.0.1:9"
    token: str = "t"
    worker_id: str = "w1"
    left: list[Assignment]
    asked: list[tuple[int, int]] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    taken: threading.Event = field(default_factory=threading.Event)
    """Set while reports are taken."""
    all_reported: threading.Event = field(default_factory=threading.Event)
    renew_s: float = 60

    def register(self, *_said: Any) -> Registered:
        return Registered(heartbeat_s=60, renew_s=self.renew_s)

    def claim(self, most: int, wait_s: float, *, ahead: int = 0) -> list[Assignment]:
        self.asked.append((most, ahead))
        given, self.left = self.left[:most], self.left[most:]
        if not given:
            self.all_reported.wait(wait_s)
        return given

    def complete(self, task: Assignment, batch_id: str | None, result: Mapping[str, Any]) -> None:
        assert self.taken.wait(PATIENCE_S)
        self.reported.append(task.source_id)
        if not self.left:
            self.all_reported.set()

    def drain(self) -> None:
        """Nothing more is given."""

    leave = drain


def run_until_reported(calls: Given, worker: OutsideWorker) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(worker.run)
        assert calls.all_reported.wait(PATIENCE_S)
        worker.stop()
        running.result(PATIENCE_S)
    calls.close()


def test_the_next_task_begins_while_the_last_is_reported() -> None:
    """Tasks that are short are given ahead, and reports hold none of them up; no more are done at once than may be."""
    calls = Given(left=[task(number) for number in range(6)])
    calls.taken.set()
    at_once, most = 0, 0
    lock = threading.Lock()

    def handle(given: Assignment, _stop: threading.Event) -> Done:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        if given.source_id == "s1":
            calls.taken.clear()  # what comes of it is taken once the next has begun
        if given.source_id == "s2":
            calls.taken.set()
        with lock:
            at_once -= 1
        return Done()

    worker = OutsideWorker(calls=calls, handlers={"collect": handle}, capacity=1)
    run_until_reported(calls, worker)
    assert calls.asked[0] == (1, 0)
    assert 1 in {ahead for _, ahead in calls.asked}
    assert most == 1
    assert sorted(calls.reported) == [f"s{number}" for number in range(6)]


def test_a_worker_with_long_tasks_has_none_ahead() -> None:
    """They would wait there while others could begin them."""
    calls = Given(left=[task(number) for number in range(3)])
    calls.taken.set()
    worker = OutsideWorker(calls=calls, handlers={"collect": lambda *_: Done()}, capacity=2)
    worker._took_s.extend([SHORT_S * 2] * 9)
    run_until_reported(calls, worker)
    assert {ahead for _, ahead in calls.asked[:2]} == {0}


@dataclass(kw_only=True)
class Losing(Given):
    """A control plane that refuses to renew, from a moment on."""

    renew_s: float = 0.001
    unheard: bool = False
    """Whether reports get no answer."""
    gone: threading.Event = field(default_factory=threading.Event)
    """Set once the lease is no more."""
    stops: list[threading.Event] = field(default_factory=list)
    """Of the task that is done: set once the worker knows that its lease is gone."""
    refusals: int = 0
    reports: int = 0

    def handle(self, _task: Assignment, stop: threading.Event) -> Done:
        """Do a task at once."""
        self.stops.append(stop)
        return Done()

    def renew(self, task: Assignment) -> bool:
        if not self.gone.is_set():
            return False
        self.refusals += 1
        raise Refused("another has it", status=409, problem="lease_lost")

    def complete(self, task: Assignment, batch_id: str | None, result: Mapping[str, Any]) -> None:
        self.reports += 1
        self.gone.set()
        assert self.stops[0].wait(PATIENCE_S)
        self.all_reported.set()
        if self.unheard:
            raise NoAnswer("it does not answer", retry_after_s=0)


def _lost(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "lost" in record.getMessage()]


def test_a_task_that_is_just_being_reported_is_not_called_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A lease that is refused because the report was taken says nothing: nothing was lost."""
    calls = Losing(left=[task(1)])
    worker = OutsideWorker(calls=calls, handlers={"collect": calls.handle})
    run_until_reported(calls, worker)
    assert calls.refusals == 1
    assert _lost(caplog) == []


def test_a_task_that_is_lost_before_its_report_arrives_is_called_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A report that got no answer is not repeated once the lease is gone, and that is said."""
    calls = Losing(left=[task(1)], unheard=True)
    worker = OutsideWorker(calls=calls, handlers={"collect": calls.handle})
    run_until_reported(calls, worker)
    assert calls.reports == 1
    assert _lost(caplog) == [f"task {1:032x} is lost before it was reported"]


def test_a_task_that_is_lost_while_it_is_done_is_not_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its handler is told to stop, and what it has done is nobody's business; the log names the task."""
    calls = Losing(left=[task(1)])

    def handle(_given: Assignment, stop: threading.Event) -> Done:
        calls.gone.set()
        assert stop.wait(PATIENCE_S)
        calls.all_reported.set()
        return Done()

    worker = OutsideWorker(calls=calls, handlers={"collect": handle})
    run_until_reported(calls, worker)
    assert calls.reports == 0
    assert _lost(caplog) == [f"task {1:032x} is lost: another has it"]
