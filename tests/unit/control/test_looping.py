"""Loops: run again and again, their fate on record, stopped cleanly."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

from control_plane.service.looping import Loop, Loops
from control_plane.service.services import Services
from penstock.errors import NotFound
from resources.clock import SystemClock

PATIENCE_S = 30.0
SERVICES = cast("Services", SimpleNamespace(clock=SystemClock()))


def test_a_loop_that_has_more_to_do_is_called_again_at_once() -> None:
    """True is called again without a wait, and each run is counted."""
    done = threading.Event()
    runs: list[int] = []

    def run_once(_services: Any) -> bool | float:
        runs.append(1)
        if len(runs) < 50:
            return True
        done.set()
        return 3600.0

    loops = Loops(SERVICES, [Loop(name="busy", run_once=run_once)])
    loops.start()
    assert done.wait(PATIENCE_S)
    loops.stop()
    (state,) = loops.states()
    assert (state.name, state.runs, state.failures) == ("busy", 50, 0)
    assert state.last_run_at is not None


def test_a_loop_that_waits_is_woken() -> None:
    """What has nothing due for an hour looks at once when somebody knows better."""
    ran = threading.Semaphore(0)

    def run_once(_services: Any) -> bool | float:
        ran.release()
        return 3600.0

    loops = Loops(SERVICES, [Loop(name="sleepy", run_once=run_once)])
    loops.start()
    assert ran.acquire(timeout=PATIENCE_S)
    loops.wake("sleepy")
    loops.wake("nobody")
    assert ran.acquire(timeout=PATIENCE_S)
    loops.stop()


def test_a_loop_that_fails_is_recorded_and_goes_on() -> None:
    """One failure costs a wait; the other loops and the next run are as if nothing had been."""
    failed, other = threading.Event(), threading.Event()
    errors: list[Exception] = [NotFound("there is no x"), ValueError("password=hunter2")]

    def run_once(_services: Any) -> bool | float:
        if errors:
            raise errors.pop(0)
        failed.set()
        return 3600.0

    def fine(_services: Any) -> bool | float:
        other.set()
        return 3600.0

    loops = Loops(SERVICES, [Loop(name="bad", run_once=run_once), Loop(name="fine", run_once=fine)])
    loops.start()
    assert other.wait(PATIENCE_S)
    while loops.states()[0].failures < 1:
        failed.wait(0.01)
    assert loops.states()[0].last_error == "NotFound: there is no x"
    while not failed.is_set():
        loops.wake("bad")
        failed.wait(0.01)
    loops.stop()
    bad, good = loops.states()
    assert (bad.failures, bad.failures_in_a_row, bad.runs) == (2, 0, 1)
    assert bad.last_error == "ValueError", "what a library says may hold a secret"
    assert (good.failures, good.runs) == (0, 1)
