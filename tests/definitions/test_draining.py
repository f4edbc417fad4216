"""The threads of one publish run."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.publish import drained
from resources.clock import SystemClock

PATIENCE_S = 300.0
PLATFORM: Any = SimpleNamespace(clock=SystemClock())


def test_what_arrives_beside_a_slow_batch_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that finds nothing goes on looking while another has a batch, and takes what comes meanwhile."""
    waiting, found_nothing, late_done = ["slow"], threading.Event(), threading.Event()

    def publish_next(_platform: Any, _worker: str, *, run_id: str) -> str | None:
        batch = waiting.pop() if waiting else None
        if batch is None:
            found_nothing.set()
        elif batch == "late":
            late_done.set()
        else:
            assert found_nothing.wait(PATIENCE_S)
            waiting.append("late")
            assert late_done.wait(PATIENCE_S), "the other worker has left"
        return batch

    monkeypatch.setattr("penstock.use_cases.publish.publish_next", publish_next)
    reports: list[Any] = list(drained(PLATFORM, "run", workers=2, max_seconds=PATIENCE_S))
    assert reports == ["late", "slow"]


def test_an_error_of_a_worker_is_the_run_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one thread cannot handle ends the run with that error, once the others have finished."""

    def publish_next(_platform: Any, _worker: str, *, run_id: str) -> None:
        raise ConnectionError("the control database is away")

    monkeypatch.setattr("penstock.use_cases.publish.publish_next", publish_next)
    with pytest.raises(ConnectionError, match="control database"):
        list(drained(PLATFORM, "run", workers=2, max_seconds=PATIENCE_S))


def test_no_batch_is_begun_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose time is up takes nothing more, however much is waiting."""
    monkeypatch.setattr("penstock.use_cases.publish.publish_next", lambda *_, **__: "never")
    assert list(drained(PLATFORM, "run", workers=2, max_seconds=0)) == []
