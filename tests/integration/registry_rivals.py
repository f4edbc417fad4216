"""Writers and projections of one registry on PostgreSQL, as processes that are killed at any point and started again.

``python -m tests.integration.registry_rivals`` runs the whole: 32 writers, 4 projections, 100 kills.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from penstock.identity.ids import TenantId
from penstock.ports.registry import ABSENT, Append, Appended
from penstock.registry.events import Cursor
from resources.clock import SystemClock
from resources.control_db.engine import open_engine
from resources.control_db.schema import upgrade
from resources.registry.projections import LogProjection, ProjectionRunner
from resources.registry.seals import Seal, SealVerifier
from resources.registry.store import SqlRegistryStore
from resources.registry.tallies import Activity, Counts
from tests.contracts.registry_values import at, entity, settled, write

ROOT = Path(__file__).parents[2]
SHARED_KEYS = 5
BATCH = 20


class Trail:
    """A projection that keeps which event it was given when."""

    name = "trail"
    rebuildable = True

    def create(self, connection: Connection, generation: int) -> None:
        connection.execute(
            text(
                f"CREATE TABLE trail_{generation} (number bigint GENERATED ALWAYS AS IDENTITY, position bigint)"
            )
        )

    def drop(self, connection: Connection, generation: int) -> None:
        connection.execute(text(f"DROP TABLE trail_{generation}"))

    def prepare(self, events: Sequence[Row[Any]]) -> list[dict[str, int]]:
        return [{"position": event.position} for event in events]

    def write(self, connection: Connection, generation: int, prepared: Any, /) -> None:
        statement = text(f"INSERT INTO trail_{generation} (position) VALUES (:position)")
        for row in prepared:  # one by one, so that kills come in between
            connection.execute(statement, row)


def projections() -> list[LogProjection]:
    return [Trail(), Counts(), Activity(), Seal(SystemClock())]


def commands(writer: int, count: int) -> Iterator[list[Append]]:
    """What a writer does: changes of keys that all share, and every now and then a batch of its own."""
    tenant = TenantId(f"t{writer % 3}")
    for n in range(count):
        if n % 10 == 0:
            streams = [entity(f"w{writer}/{n}/{each}", tenant=tenant) for each in range(BATCH)]
            yield [
                write(stream, {"n": n}, expected=ABSENT, name=f"{writer}/{n}/{stream.key}")
                for stream in streams
            ]
        else:
            shared = entity(f"shared{n % SHARED_KEYS}", tenant=tenant)
            yield [write(shared, {"writer": writer, "n": n}, name=f"{writer}/{n}")]


def write_all(engine: Engine, writer: int, count: int) -> None:
    """Send every command; those that were sent in an earlier life change nothing."""
    store = SqlRegistryStore(engine)
    for appends in commands(writer, count):
        outcome = store.append(appends, now=at(writer))
        assert isinstance(outcome, Appended), outcome


def project(engine: Engine, name: str) -> None:
    """Keep one projection up to date until killed."""
    (chosen,) = [each for each in projections() if each.name == name]
    runner = ProjectionRunner(engine, [chosen], SystemClock(), at_once=50)
    runner.run(threading.Event(), poll_s=1.0)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a campaign came to."""

    events: int
    kills: int
    wrong: list[str]


@dataclass
class Campaign:
    """Processes, and who is killed when."""

    url: str
    writers: int
    count: int
    kills: int

    def run(self, seed: int = 1) -> Report:
        engine = open_engine(self.url)
        for projection in projections():
            ProjectionRunner(engine, [projection], SystemClock()).step(projection.name)
        arguments = {
            **{f"writer {n}": ["write", str(n), str(self.count)] for n in range(self.writers)},
            **{f"projection {p.name}": ["project", p.name] for p in projections()},
        }
        with ExitStack() as stack:
            running = {name: self._start(stack, each) for name, each in arguments.items()}
            done = self._kill(engine, running, arguments, stack, random.Random(seed))
            for name, process in running.items():
                if name.startswith("writer"):
                    assert process.wait(300) == 0, name
        wrong = list(check(engine, self.writers, self.count))
        with engine.connect() as connection:
            events = _log_events(connection)
        engine.dispose()
        return Report(events=events, kills=done, wrong=wrong)

    def _start(self, stack: ExitStack, arguments: list[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.integration.registry_rivals", "--url", self.url]
        process = subprocess.Popen([*command, *arguments], cwd=ROOT)
        stack.callback(process.wait)
        stack.callback(process.kill)
        return process

    def _kill(
        self,
        engine: Engine,
        running: dict[str, subprocess.Popen[bytes]],
        arguments: dict[str, list[str]],
        stack: ExitStack,
        chance: random.Random,
    ) -> int:
        """Kill and start again, each time once the log or a projection has gone on a little."""
        projected = [name for name in running if name.startswith("projection")]
        for done in range(self.kills):
            if not _gone_on(engine, running, chance.randrange(1, 40)):
                return done
            busy = [n for n, p in running.items() if n.startswith("writer") and p.poll() is None]
            # Every other one is a projection: there are fewer of them.
            name = chance.choice(projected if done % 2 or not busy else busy)
            running[name].send_signal(signal.SIGKILL)
            running[name].wait()
            running[name] = self._start(stack, arguments[name])
        return self.kills


def _gone_on(engine: Engine, running: dict[str, subprocess.Popen[bytes]], events: int) -> bool:
    """Return True once log and projections together have gone on by some events, False if they are at their end."""
    start = _progress(engine)
    while True:
        writing = any(p.poll() is None for n, p in running.items() if n.startswith("writer"))
        now = _progress(engine)
        if sum(now) >= sum(start) + events:
            return True
        if not writing and len(set(now)) == 1:
            return False
        time.sleep(0.02)


def _progress(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        rows = connection.scalars(text("SELECT events FROM registry_projection"))
        return [_log_events(connection), *rows]


def _log_events(connection: Connection) -> int:
    return int(connection.scalar(text("SELECT count(*) FROM registry_event")) or 0)


def check(engine: Engine, writers: int, count: int) -> Iterator[str]:
    """Yield what is wrong: with the log, with what is now, with each projection."""
    settled(SqlRegistryStore(engine))
    runner = ProjectionRunner(engine, projections(), SystemClock())
    for name in runner.names:
        runner.catch_up(name)
    store = SqlRegistryStore(engine)
    wanted = {a.event.operation_id for w in range(writers) for c in commands(w, count) for a in c}
    log = store.read_log(Cursor(), limit=10_000_000)
    if Counter(event.operation_id for event in log) != Counter(wanted):
        yield f"the log has {len(log)} events, and not each of {len(wanted)} once"
    yield from _check_rows(store, log)
    for tracking in runner.tracking():
        if tracking.events != len(log):
            yield f"{tracking.name} was given {tracking.events} of {len(log)} events"
    with engine.connect() as connection:
        trail = list(connection.scalars(text("SELECT position FROM trail_1 ORDER BY number")))
    if trail != [event.cursor.position for event in log]:
        yield "the trail is not the log, each event once and in order"
    for tenant in sorted({event.stream.tenant_id for event in log}):
        streams = {e.stream for e in log if e.stream.tenant_id == tenant}
        if sum(store.count_by_type(tenant).values()) != len(streams):
            yield f"counts of {tenant} are not what is there"
        active = sum(store.activity(tenant, since=at(0).date()).values())
        if active != sum(e.stream.tenant_id == tenant for e in log):
            yield f"activity of {tenant} is not what happened"
    verified = SealVerifier(engine).verify()
    if verified.broken or (verified.events, verified.unsealed) != (len(log), 0):
        yield f"the seal does not hold: {verified}"


def _check_rows(store: SqlRegistryStore, log: Sequence[Any]) -> Iterator[str]:
    """What is now is the last event of each stream in the log's order, and its version their number."""
    last = {event.stream: event for event in log}
    versions = Counter(event.stream for event in log)
    streams = list(last)
    for stream, held in zip(streams, store.get_many(streams), strict=True):
        event = last[stream]
        if held is None or (held.version_tag, held.version) != (
            event.operation_id,
            versions[stream],
        ):
            yield f"{stream.key} of {stream.tenant_id} is not what its last event says"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url")
    parser.add_argument("--writers", type=int, default=32)
    parser.add_argument("--commands", type=int, default=100)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("role", nargs="*")
    asked = parser.parse_args()
    match asked.role:
        case ["write", writer, count]:
            write_all(open_engine(asked.url), int(writer), int(count))
        case ["project", name]:
            project(open_engine(asked.url), name)
        case _:
            return _whole(asked)
    return 0


def _whole(asked: argparse.Namespace) -> int:
    from tests.fixtures.postgres import _database, running_postgres

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # noqa: SIM117
        with running_postgres(Path(folder) / "data") as host, _database(host) as url:
            upgrade(url)
            campaign = Campaign(url, asked.writers, asked.commands, asked.kills)
            report = campaign.run(asked.seed)
    print(f"{report.events} events, {report.kills} kills, {len(report.wrong)} wrong")  # noqa: T201
    print(*report.wrong, sep="\n")  # noqa: T201
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
