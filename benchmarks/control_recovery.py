"""How soon each process of the stack is made up for after SIGKILL: a part of ``bench control``.

Daemon, code server, webserver and a publish run are those of the shipped stack, under the supervisor that
``penstock up`` has, over the location of the other benches. PostgreSQL is a server of its own: who runs it restarts
it, and so does this bench, at once. The supervisor looks as often as ``penstock up`` does.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from benchmarks.bench_location import WORK_S
from benchmarks.bench_stack import REGISTRY, complete, land, opened
from benchmarks.harness import Result, at_most, result
from benchmarks.stack_processes import processes_over
from control_plane.supervisor import Child, Stack, free_port
from penstock.publish.state import PublishStatus
from penstock.use_cases.platform import Platform
from resources.settings import Settings
from sensors.s3_batches import LINGER_S

_LOOK_S = 0.5
_COLD_S = LINGER_S + 5.0
_PATIENCE_S = 300.0
_PUBLISH_S = 5.0
"""How long a chunk takes: long enough to be killed in it."""
SOON = at_most(120, "s")


def stack_recovery() -> list[Result]:
    """Kill each of Dagster's processes, and a publish run, and see when a batch goes through, or the page answers."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings, platform = opened(Path(folder))
        environ = {WORK_S: str(_PUBLISH_S), "PYTHONWARNINGS": "ignore"}
        where = "benchmarks.bench_location"
        stack = Stack(settings, port=free_port(), environ=environ, location=where)
        try:
            stack.start()
            with _supervised(stack):
                return _killed(stack, platform, settings)
        finally:
            stack.stop()


def _killed(stack: Stack, platform: Platform, settings: Settings) -> list[Result]:
    def publish(number: int) -> None:
        complete(platform, land(platform, settings, number).batch_id)

    publish(0)  # starts what is started only once
    time.sleep(_COLD_S)
    began = time.perf_counter()
    publish(1)
    peer = f"nothing killed: {time.perf_counter() - began:.1f} s"
    found = []
    for number, (name, what) in enumerate(
        [("daemon", "Dagster's daemon"), ("code-server", "Dagster's code server")], 2
    ):
        time.sleep(_COLD_S)  # or the run of the batch before would publish this one, too
        began = _kill(_child(stack, name))
        publish(number)
        took_s = time.perf_counter() - began
        found.append(
            result(f"{what} killed: next batch published", took_s, "s", peer=peer, goal=SOON)
        )
    webserver = _child(stack, "webserver")
    began = _kill(webserver)
    _until(webserver.ready, "the page answers")
    took_s = time.perf_counter() - began
    found.append(result("Dagster's webserver killed: page answers", took_s, "s", goal=SOON))
    took_s = _run_killed(platform, settings)
    found.append(
        result("publish run killed: its batch published", took_s, "s", goal=at_most(60, "s"))
    )
    return found


def _run_killed(platform: Platform, settings: Settings) -> float:
    """Return the seconds from the kill of a run that executes until its batch is COMPLETE."""
    batch = land(platform, settings, 10).batch_id

    def executing() -> bool:
        states = platform.control.list_states(batch=batch, target=REGISTRY)
        return bool(states) and states[0].status is PublishStatus.EXECUTING

    _until(executing, "the batch is being executed")
    runs = processes_over(settings.home, "multiprocessing.spawn")
    assert runs, "a process of its own executes the run"
    began = time.perf_counter()
    for process in runs:
        os.kill(process, signal.SIGKILL)
    complete(platform, batch)
    return time.perf_counter() - began


@dataclass(kw_only=True)
class Postgres:
    """A PostgreSQL server that is killed, and started again."""

    url: str
    _process: subprocess.Popen[bytes] | None = None

    def killed(self, goes_on: Callable[[], None]) -> float:
        """Return the seconds from the kill of the server, restarted at once, until ``goes_on`` returns."""
        found = re.search(r"host=([^&]+)", self.url)
        assert found is not None, "the bench's own server listens on a socket in its data folder"
        data = Path(unquote(found[1]))
        command = shlex.split((data / "postmaster.opts").read_text())
        os.kill(int((data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
        began = time.perf_counter()
        _until(partial(self._starts, command, data), "PostgreSQL is started again")
        goes_on()
        return time.perf_counter() - began

    def _starts(self, command: Sequence[str], data: Path) -> bool:
        """Start it; False if it ends, as it does until those that the last one left behind have ended."""
        # PostgreSQL does not run as root; whose the folder is ran it before.
        whose = data.stat().st_uid if os.geteuid() == 0 else None
        with (data / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, user=whose
            )
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return True
        return False

    def stop(self) -> None:
        """Stop what was started here."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_PATIENCE_S)


@contextmanager
def _supervised(stack: Stack) -> Iterator[None]:
    """Restart what dies, as ``penstock up`` does."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_S):
            stack.check()

    thread = threading.Thread(target=watch, name="supervisor")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _child(stack: Stack, name: str) -> Child:
    return next(child for child in stack.children if child.name == name)


def _kill(child: Child) -> float:
    """Kill a process, and return the moment."""
    assert child.process is not None
    child.process.send_signal(signal.SIGKILL)
    return time.perf_counter()


def _until(holds: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"in vain for {_PATIENCE_S:g} s: {what}")
        time.sleep(0.1)
