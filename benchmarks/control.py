"""The control plane: how soon work is given out, what that costs, and how soon it goes on after a kill.

Everything goes over HTTP to ``penstock serve`` in a process of its own, on SQLite and on PostgreSQL as they ship.
Workers are threads of this process with the client that outside workers have. A workflow is triggered by the use case
that ``POST /workflows`` calls, so that a figure is of the control plane and not of this process's own HTTP.

Coordination overhead is against the same work done by the same threads with nobody to coordinate them.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.bench_stack import load
from benchmarks.control_events import Feed, measure
from benchmarks.control_recovery import SOON, Postgres, stack_recovery
from benchmarks.execute import postgres_server
from benchmarks.harness import Result, at_least, at_most, result
from control_plane.worker.calls import Assignment, Calls
from control_plane.worker.running import Done, OutsideWorker
from penstock.access.control import ControlRole
from penstock.batch.source import SourceSpec
from penstock.identity.ids import SourceId, TenantId
from penstock.use_cases.access_tokens import create_token
from penstock.use_cases.acts import By
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.workflows import create_workflow
from penstock.workflow.spec import WorkflowSpec
from resources.control_db.control_tokens import SqlControlTokens
from resources.control_db.engine import Database
from resources.settings import Settings
from resources.wiring import open_coordination, open_platform

TENANT, BY = TenantId("bench"), By(actor="bench")
LIMITS = '{"caller_per_s": 1e6, "caller_burst": 1e6, "address_per_s": 1e6, "address_burst": 1e6}'
_PATIENCE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much one run does."""

    at_once: int = 100
    """Workflows triggered together."""
    held: int = 1000
    """Workflows that wait meanwhile, for a worker that never comes."""
    rounds: int = 3
    workers: int = 10
    tasks: int = 200
    task_s: float = 0.5
    """How long each takes, where overhead is measured."""
    databases: Sequence[str] = ("SQLite", "PostgreSQL")
    feed: Feed = field(default_factory=Feed)
    """The events that come in."""
    policy: Mapping[str, float] = field(default_factory=dict)
    """Of the workers; its defaults, unless the run is a quick one."""


QUICK = Size(
    at_once=10,
    held=20,
    rounds=1,
    workers=2,
    tasks=8,
    task_s=0.2,
    databases=("SQLite",),
    feed=Feed(per_s=100, for_s=1.0, batch=10, acting=10, subjects=10, connections=2),
    policy={"lease_s": 3.0, "silent_s": 5.0},
)


def run(*, quick: bool = False) -> list[Result]:
    """Measure on both databases; quick on one, with short leases."""
    size = QUICK if quick else Size()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in size.databases:
            with postgres_server() if name == "PostgreSQL" else nullcontext() as url:
                results += _on(name, Plane(Path(folder) / name, url, size.policy), size)
    if not quick:
        results += stack_recovery()
    return [*results, load()]


def _on(name: str, plane: Plane, size: Size) -> list[Result]:
    with plane.serving():
        plane.declare(max(size.at_once, size.tasks))
        found = _allotment(plane, size)
        found += _overhead(plane, size)
        found += _events(plane, size)
    found += _recovery(plane)
    plane.close()
    return [_named(name, each) for each in found]


def _named(name: str, each: Result) -> Result:
    return replace(each, name=f"{name}: {each.name}")


@dataclass
class Plane:
    """A control plane over a folder, and what this process does to it."""

    home: Path
    database_url: str | None
    policy: Mapping[str, float] = field(default_factory=dict)
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _made: list[Calls] = field(default_factory=list)

    def __post_init__(self) -> None:
        told = {"home": self.home, "database_url": self.database_url}
        self.settings = Settings.model_validate({k: v for k, v in told.items() if v is not None})
        self.platform = open_platform(self.settings)
        self.co: Coordination = open_coordination(self.platform)
        control = self.platform.control
        assert isinstance(control, Database)
        self.token = create_token(
            SqlControlTokens.from_engine(control.engine),
            tenant=TENANT,
            role=ControlRole.OPERATOR,
            name="bench",
            lifetime=timedelta(days=1),
            by=BY,
            now=self.platform.clock.now(),
        ).text
        self.port = _free_port()
        # No certificates are loaded to speak plain HTTP.
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        headers = {"Authorization": f"Bearer {self.token}"}
        self._http = httpx.Client(base_url=self.url, verify=plain, headers=headers, timeout=10)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run its server until the block ends."""
        self.start()
        try:
            yield
        finally:
            self.stop(signal.SIGTERM)

    def start(self) -> None:
        """Start its server, and wait until it answers."""
        environ = {
            **os.environ,
            "PENSTOCK_HOME": str(self.home),
            "PENSTOCK_CONTROL_LIMITS": LIMITS,
            "PENSTOCK_WORKER_POLICY": json.dumps(dict(self.policy)),
            **({"PENSTOCK_DATABASE_URL": self.database_url} if self.database_url else {}),
        }
        command = [sys.executable, "-m", "control_plane.cli", "serve", "--port", str(self.port)]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, env=environ, stdout=quiet, stderr=quiet)
        _until(self._answers, "the control plane answers")

    def stop(self, number: int) -> None:
        """Stop its server by a signal."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return self._http.get("/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def active_workers(self) -> int:
        """Say how many work for it."""
        return len(self._http.get("/workers?status=active").json()["items"])

    def has_workers(self) -> bool:
        """Say whether anybody works for it."""
        return self.active_workers() > 0

    def declare(self, sources: int) -> None:
        """Declare sources."""
        names = [*(f"s{number}" for number in range(sources)), "held"]
        self.platform.control.sync_sources(
            [SourceSpec(source_id=SourceId(name), tenant_id=TENANT, targets=()) for name in names]
        )

    def trigger(self, *sources: str, **values: Any) -> str:
        """Make a workflow that collects sources, and return its id."""
        asked = {"name": "bench", "sources": list(sources), "steps": ["collect"], **values}
        spec = WorkflowSpec.model_validate(asked)
        return create_workflow(self.co, spec, tenant=TENANT, by=BY).workflow.workflow_id

    def calls(self, worker_id: str) -> Calls:
        """Return a worker's connection."""
        made = Calls(url=self.url, token=self.token, worker_id=worker_id, tries=20)
        self._made.append(made)
        return made

    def close(self) -> None:
        """Let go of everything."""
        self._http.close()
        for calls in self._made:
            calls.close()
        control = self.platform.control
        assert isinstance(control, Database)
        control.close()


# From trigger to assignment ---------------------------------------------------------------------------------


def _allotment(plane: Plane, size: Size) -> list[Result]:
    """Trigger workflows together while many others are held, and see when a worker has each task."""
    for _ in range(size.held):
        plane.trigger("held", capabilities={"collect": "nobody_can"})
    latencies: list[float] = []
    with _listening(plane, size) as heard:
        for _ in range(size.rounds):
            latencies += _one_round(plane, size, heard)
    latencies.sort()
    p99 = latencies[ceil(0.99 * len(latencies)) - 1]
    of = f"{size.at_once} workflows at once, {size.held:,} held"
    return [
        result(f"{of}: trigger to assignment, median", median(latencies), "s"),
        result(f"{of}: trigger to assignment, p99", p99, "s", goal=at_most(5, "s")),
        result(f"{of}: trigger to assignment, slowest", latencies[-1], "s"),
        result("workflows held", _held(plane), "", goal=at_least(size.held, "")),
    ]


def _held(plane: Plane) -> int:
    from penstock.ports.workflows import WorkflowFilter
    from penstock.workflow.status import WorkflowStatus

    wanted = WorkflowFilter(statuses=(WorkflowStatus.RUNNING,))
    found = plane.co.workflows.list_workflows(wanted, limit=100_000)
    return sum(each.spec.sources == ("held",) for each in found)


@contextmanager
def _listening(plane: Plane, size: Size) -> Iterator[dict[str, float]]:
    """Have workers pull and complete tasks; yields when each workflow's task was there, by workflow id."""
    heard: dict[str, float] = {}

    def handle(task: Assignment, _stop: threading.Event) -> Done:
        heard.setdefault(task.workflow_id, time.time())
        return Done()

    each = ceil(size.at_once / size.workers)
    with _workers(plane, size.workers, each, handle):
        yield heard


@contextmanager
def _workers(plane: Plane, count: int, capacity: int, handle: Any) -> Iterator[None]:
    workers = [
        OutsideWorker(
            calls=plane.calls(f"w-{os.urandom(4).hex()}"),
            handlers={"collect": handle},
            capacity=capacity,
        )
        for _ in range(count)
    ]
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(worker.run) for worker in workers]
        try:
            yield
        finally:
            for worker in workers:
                worker.stop()
            for each in running:
                each.result()


def _one_round(plane: Plane, size: Size, heard: dict[str, float]) -> list[float]:
    triggered: dict[str, float] = {}

    def trigger(number: int) -> None:
        at = time.time()
        triggered[plane.trigger(f"s{number}")] = at

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(trigger, range(size.at_once)))
    _until(lambda: triggered.keys() <= heard.keys(), "every workflow's task was given out")
    return [heard[each] - at for each, at in triggered.items()]


# What it costs ----------------------------------------------------------------------------------------------


def _overhead(plane: Plane, size: Size) -> list[Result]:
    """Do the same work with and without the control plane."""
    slots = size.workers * 2

    def work(_number: int = 0) -> None:
        time.sleep(size.task_s)

    began = time.perf_counter()
    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(work, range(size.tasks)))
    alone_s = time.perf_counter() - began

    done: list[str] = []

    def handle(task: Assignment, _stop: threading.Event) -> Done:
        work()
        done.append(task.task_id)
        return Done()

    with _workers(plane, size.workers, 2, handle):
        # As the threads above, the workers are there before there is work.
        _until(lambda: plane.active_workers() >= size.workers, "all workers are there")
        began = time.perf_counter()
        plane.trigger(*(f"s{number}" for number in range(size.tasks)))
        _until(lambda: len(set(done)) >= size.tasks, "all tasks are done")
        took_s = time.perf_counter() - began
    over = 100 * (took_s / alone_s - 1)
    of = f"{size.tasks} tasks of {size.task_s:g} s in {slots} slots"
    peer = f"uncoordinated: {alone_s:.2f} s"
    return [result(f"{of}: coordination overhead", over, "%", peer=peer, goal=at_most(10, "%"))]


# From event to action ---------------------------------------------------------------------------------------


def _events(plane: Plane, size: Size) -> list[Result]:
    """Have a workflow wait for each source, and events come in."""
    for number in range(size.at_once):
        event = {"type": "archive_discovered", "subject": f"s{number}"}
        plane.trigger(f"s{number}", kind="event_driven", event=event)
    control = plane.platform.control
    assert isinstance(control, Database)
    workers = _workers(plane, 2, 10, lambda _task, _stop: Done())
    return measure(
        size.feed, url=plane.url, token=plane.token, engine=control.engine, workers=workers
    )


# After a kill -----------------------------------------------------------------------------------------------


def _recovery(plane: Plane) -> list[Result]:
    """Kill the server, and a worker with a task, and see when work goes on."""
    found = [result("server killed: next assignment", _server_killed(plane), "s", goal=SOON)]
    found.append(result("worker killed: its task done", _worker_killed(plane), "s", goal=SOON))
    if plane.database_url:
        found.append(_postgres_killed(plane, Postgres(url=plane.database_url)))
    plane.stop(signal.SIGTERM)
    return found


def _server_killed(plane: Plane) -> float:
    """Return the seconds from the kill until a worker that waited has a task; a supervisor restarts it at once."""
    plane.start()
    heard = threading.Event()

    def handle(_task: Assignment, _stop: threading.Event) -> Done:
        heard.set()
        return Done()

    with _workers(plane, 1, 1, handle):
        _until(plane.has_workers, "the worker is there")
        plane.stop(signal.SIGKILL)
        began = time.perf_counter()
        plane.start()
        plane.trigger("s0")
        assert heard.wait(_PATIENCE_S), "no task was given out after the server was killed"
        return time.perf_counter() - began


def _postgres_killed(plane: Plane, postgres: Postgres) -> Result:
    """Measure from the kill until a worker that waited has a task, with the control plane that runs; then stop both."""
    heard = threading.Event()

    def handle(_task: Assignment, _stop: threading.Event) -> Done:
        heard.set()
        return Done()

    def triggered() -> bool:
        try:
            plane.trigger("s0")
        except SQLAlchemyError:
            return False
        return True

    def goes_on() -> None:
        _until(triggered, "a workflow is made")
        assert heard.wait(_PATIENCE_S), "no task was given out after PostgreSQL was killed"

    try:
        with _workers(plane, 1, 1, handle):
            _until(plane.has_workers, "the worker is there")
            took_s = postgres.killed(goes_on)
        plane.stop(signal.SIGTERM)
    finally:
        postgres.stop()
    return result("PostgreSQL killed: next assignment", took_s, "s", goal=SOON)


def _worker_killed(plane: Plane) -> float:
    """Return the seconds from a worker's kill until another has done its task: a lease, and a retry's delay."""
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "begun"
        script = f"import time; open({str(mark)!r}, 'w').close(); time.sleep(600)"
        victim = _outside_process(plane, [sys.executable, "-c", script])
        workflow = plane.trigger("s0")
        _until(mark.exists, "the worker has begun its task")
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        began = time.perf_counter()
        other = _outside_process(plane, [sys.executable, "-c", "pass"])
        try:
            _until(
                lambda: plane.co.workflows.get_workflow(workflow).ended_at is not None,
                "another has done the task",
            )
            return time.perf_counter() - began
        finally:
            os.killpg(other.pid, signal.SIGTERM)
            other.wait()


def _outside_process(plane: Plane, command: Sequence[str]) -> subprocess.Popen[bytes]:
    environ = {
        **os.environ,
        "PENSTOCK_CONTROL_URL": plane.url,
        "PENSTOCK_WORKER_TOKEN": plane.token,
    }
    run_it = [sys.executable, "-m", "control_plane.cli", "worker", "run", "--", *command]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(run_it, env=environ, stdout=quiet, stderr=quiet, start_new_session=True)


def _until(holds: Any, what: str) -> None:
    give_up_at = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"in vain for {_PATIENCE_S:g} s: {what}")
        time.sleep(0.05)


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
