"""Processes to be killed: forked from one that has imported everything and opened nothing, which takes milliseconds."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.crash.observe import Seen, observe
from tests.crash.points import Points, pointed
from tests.crash.scenario import START, Step, StepClock, Worker
from tests.crash.worlds import Worlds

PATIENCE_S = 300.0
"""Longer than any step takes on a busy machine."""


class WorkerFailed(Exception):
    """A worker that was not killed did not get through its step."""


@dataclass(frozen=True)
class Said:
    """What a worker says when it is through."""

    points: list[str]
    seen: Seen | None
    modules: tuple[str, ...] = ()


def import_all(modules: tuple[str, ...]) -> None:
    """Import what a worker had to import by itself: otherwise each spends most of its time on that."""
    for name in modules:
        if name not in sys.modules:
            with suppress(ImportError):
                importlib.import_module(name)


@dataclass
class Process:
    """A forked worker."""

    pid: int
    answer: Path
    status: int | None = None

    def wait(self) -> Said | None:
        """Wait for its end; None if it was killed, what it said if not."""
        if self.status is None:
            self.status = _waited(self.pid, 0)
        if os.WIFSIGNALED(self.status):
            return None
        said = pickle.loads(self.answer.read_bytes())
        if isinstance(said, str):
            raise WorkerFailed(said)
        assert isinstance(said, Said)
        return said

    def stopped(self) -> bool:
        """Wait until it stops itself; False if it came to its end before."""
        status = _waited(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.status = status
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.status is None:
            os.kill(self.pid, number)

    def ends_within(self, delay_s: float) -> bool:
        """Give it some time; say whether it came to its end in it."""
        until = time.monotonic() + delay_s
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                return True
            time.sleep(0.0005)
        return False


def _waited(pid: int, options: int) -> int:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found, status = os.waitpid(pid, options | os.WNOHANG)
        if found:
            return status
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise WorkerFailed(f"a worker hung for {PATIENCE_S:g} s")


def fork(work: Callable[[], Any], answer: Path) -> Process:
    """Run ``work`` in a process of its own, its answer in a file."""
    answer.unlink(missing_ok=True)
    pid = os.fork()
    if pid:
        return Process(pid, answer)
    status = 0
    try:
        said: Any = work()
    except BaseException:  # noqa: BLE001  it is told to the parent
        said, status = traceback.format_exc(), 1
    try:
        answer.write_bytes(pickle.dumps(said))
    finally:
        os._exit(status)


@dataclass(frozen=True)
class Starter:
    """Starts workers in the live world."""

    worlds: Worlds
    answers: Path
    """Folder for what workers say in the end."""

    def start(
        self,
        step: Step,
        *,
        hours: int,
        points: Points | None = None,
        then: tuple[Step, ...] = (),
        look: bool = False,
    ) -> Process:
        """Start a worker on a step, and on what follows; ``hours`` is how late it is, by its own clock."""
        points = points or Points()
        name = f"worker-{hours}"

        def work() -> Said:
            clock = StepClock(START + timedelta(days=30, hours=hours))
            platform = replace(pointed(self.worlds.open(), points), clock=clock)
            worker = Worker(platform, name, self.worlds)
            for one in (step, *then):
                one.run(worker)
            same = step.same_plans and all(one.same_plans for one in then)
            passed = list(points.passed)
            seen = observe(self.worlds, platform, same_plans=same) if look else None
            return Said(passed, seen, tuple(sys.modules))

        return fork(work, self.answers / f"{name}.answer")
