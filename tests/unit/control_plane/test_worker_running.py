"""A worker with short tasks has some ahead, and none idles while a report is on its way."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from control_plane.worker.calls import Assignment, Calls, Registered
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

    def register(self, *_said: Any) -> Registered:
        return Registered(heartbeat_s=60, renew_s=60)

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
