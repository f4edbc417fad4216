"""The registry's log and what follows it, on SQLite and PostgreSQL.

Bulk appends are measured against loading the same bytes bare: on PostgreSQL by binary COPY, on SQLite by
``executemany``, into a table of the same columns that has its primary key and no other index, and is kept in step with
nothing. Single and batched appends have the recorder of the ``eventsourcing`` library beside them, which keeps a log
and no rows of what is now. Databases have the settings that they ship with: PostgreSQL with fsync, SQLite in WAL.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from sqlalchemy import Engine, text

from benchmarks.execute import CHUNK, Work, _operations, postgres_server
from benchmarks.harness import Result, at_most, result
from penstock.batch.rows import SCHEMAS, Kind
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.plan.operations import Action
from penstock.ports.registry import ABSENT, Append, Appended, Search
from penstock.ports.target import Applied, ApplyContext
from penstock.registry.events import EventAction, NewEvent, StreamId, StreamKind
from resources.clock import SystemClock
from resources.control_db.engine import open_engine
from resources.control_db.schema import upgrade
from resources.registry.running import runner_of
from resources.registry.store import SqlRegistryStore
from resources.targets.binary_copy import binary_copy
from resources.targets.registry import RegistryTarget, open_registry
from resources.targets.registry_log import Projection

TENANT, SOURCE, TYPE = TenantId("bench"), SourceId("bench"), "table"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONTEXT = ApplyContext(
    batch_id=BatchId("bench@2026-01-01T00-00-00.000000Z"),
    source_id=SOURCE,
    target_id=TargetId("registry"),
    tenant_id=TENANT,
    plan_digest="0" * 32,
    fencing_token=1,
    now=NOW,
)
LIBRARY = "eventsourcing's recorder"
_LIBRARY_BATCH = 1_000


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much one run does."""

    singles: int
    chunks: int
    rounds: int
    entities: int
    reads: int


FULL = Size(singles=500, chunks=4, rounds=5, entities=1_000_000, reads=1_000)
QUICK = Size(singles=30, chunks=1, rounds=1, entities=CHUNK, reads=50)


def run(*, quick: bool = False) -> list[Result]:
    """Measure both databases."""
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        results = _measure("SQLite", f"sqlite:///{folder}/control.db", size)
    with postgres_server() as url:
        results += _measure("PostgreSQL", url, size)
    return results


def _measure(name: str, url: str, size: Size) -> list[Result]:
    upgrade(url)
    engine = open_engine(url)
    try:
        return [
            *_singles(name, engine, size),
            *_bulk(name, engine, size),
            *_at_scale(name, engine, size),
        ]
    finally:
        engine.dispose()


# One command at a time ----------------------------------------------------------------------------------------


def _singles(name: str, engine: Engine, size: Size) -> list[Result]:
    store = SqlRegistryStore(engine)
    state = {"description": "x" * 500, "owner": "team_1"}
    with _library(engine) as insert:
        mine, theirs = [], []
        for n in range(size.singles):
            append = _append(f"k{n}", state)
            mine.append(_timed(_send, store, [append]))
            theirs.append(_timed(insert, 1))
        batches = [_timed(insert, _LIBRARY_BATCH) for _ in range(max(3, size.rounds))]
    ours = [_timed(_send, store, _batch(n, state)) for n in range(max(3, size.rounds))]
    peer = f"{LIBRARY}: {median(theirs) * 1e3:.2f} ms"
    rate = f"{LIBRARY}: {_LIBRARY_BATCH / median(batches):,.0f}/s"
    return [
        result(f"{name}: one command, median", median(mine) * 1e3, "ms", peer=peer),
        result(
            f"{name}: one command, 99 of 100",
            float(np.percentile(mine, 99)) * 1e3,
            "ms",
            peer=f"10 of 100: {float(np.percentile(mine, 10)) * 1e3:.2f} ms",
        ),
        result(
            f"{name}: commands in one append of {_LIBRARY_BATCH:,}",
            _LIBRARY_BATCH / median(ours),
            "/s",
            peer=rate,
        ),
    ]


def _append(key: str, state: dict[str, Any]) -> Append:
    event = NewEvent(
        stream=_stream(key),
        action=EventAction.CREATE,
        state=state,
        operation_id=uuid4().bytes,
        actor="bench",
    )
    return Append(event=event, expected=ABSENT)


def _stream(key: str) -> StreamId:
    return StreamId(
        tenant_id=TENANT, source_id=SourceId("api"), kind=StreamKind.ENTITY, type_name=TYPE, key=key
    )


def _batch(number: int, state: dict[str, Any]) -> list[Append]:
    return [_append(f"batch{number}/{n}", state) for n in range(_LIBRARY_BATCH)]


def _send(store: SqlRegistryStore, appends: list[Append]) -> None:
    outcome = store.append(appends, now=NOW)
    assert isinstance(outcome, Appended), outcome


def _timed(work: Callable[..., object], *arguments: object) -> float:
    start = perf_counter()
    work(*arguments)
    return perf_counter() - start


class _library:  # noqa: N801
    """The library's recorder: a function that inserts so many new events of 0.5 KB in one call."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> Callable[[int], object]:
        from eventsourcing.persistence import StoredEvent

        recorder = self._postgres() if self._engine.dialect.name == "postgresql" else self._sqlite()
        recorder.create_table()
        state = b"x" * 560

        def insert(count: int) -> object:
            events = [
                StoredEvent(originator_id=uuid4(), originator_version=1, topic=TYPE, state=state)
                for _ in range(count)
            ]
            return recorder.insert_events(events)

        return insert

    def __exit__(self, *_: object) -> None:
        self._datastore.close()

    def _sqlite(self) -> Any:
        from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

        file = str(self._engine.url.database)
        self._datastore: Any = SQLiteDatastore(db_name=str(Path(file).with_name("library.db")))
        return SQLiteApplicationRecorder(self._datastore)

    def _postgres(self) -> Any:
        from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

        url = self._engine.url
        self._datastore = PostgresDatastore(
            dbname=url.database or "postgres",
            host=str(url.host or url.query["host"]),
            port=url.port or 5432,
            user=url.username or "postgres",
            password=url.password or "",
            originator_id_type="uuid",
            # By default it pipelines a statement an event: 1,000 fill the socket both ways, and it stands still.
            enable_db_functions=True,
        )
        return PostgresApplicationRecorder(self._datastore)


# In bulk ------------------------------------------------------------------------------------------------------


def _bulk(name: str, engine: Engine, size: Size) -> list[Result]:
    """Measure chunks of 0.5 to 1 KB: bare, into the log, and applied as publishing does."""
    chunks = Work.make(size.chunks).creates
    sides = {"bare": _bare, "log": _log, "applied": _applied}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(size.rounds + 1):
        order = list(sides) if number % 2 else list(reversed(sides))
        for side in order:
            _empty(engine)
            taken = _timed(sides[side], engine, chunks)
            if number or not size.rounds:  # the first round warms up
                seconds[side].append(taken)
    _empty(engine)
    events = sum(map(len, chunks))
    peer = "COPY" if engine.dialect.name == "postgresql" else "executemany"
    bare = median(seconds["bare"])
    goal = at_most(2, "x") if peer == "COPY" else None
    of_bare = f"bare {peer} of the same bytes: {events / bare:,.0f}/s"
    results = []
    for side, what in (("log", "appended to the log"), ("applied", "applied: fence, log, rows")):
        taken = median(seconds[side])
        of = goal if side == "log" else None
        each = [mine / peers for mine, peers in zip(seconds[side], seconds["bare"], strict=True)]
        spread = f"{of_bare}; by round {min(each):.2f} to {max(each):.2f} x"
        results += [
            result(f"{name}: events {what}", events / taken, "/s"),
            result(f"{name}: time of events {what}", taken / bare, "x", peer=spread, goal=of),
        ]
    return results


def _empty(engine: Engine) -> None:
    tables = ("registry_event", "registry_entity", "bare_event")
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            like = (
                "LIKE registry_event INCLUDING DEFAULTS INCLUDING IDENTITY, PRIMARY KEY (position)"
            )
            connection.execute(text(f"CREATE TABLE IF NOT EXISTS bare_event ({like})"))
            connection.execute(text(f"TRUNCATE {', '.join(tables)}"))
            connection.execute(text("CHECKPOINT"))
        return
    with engine.begin() as connection:
        create = "CREATE TABLE IF NOT EXISTS bare_event AS SELECT * FROM registry_event WHERE false"
        connection.execute(text(create))
        for table in tables:
            connection.execute(text(f"DELETE FROM {table}"))
    with engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]


_LOADED = (
    *("transaction_id", "source_id", "tenant_id", "kind", "batch_id", "plan_digest"),
    *("fencing_token", "recorded_at", "data"),
)
_OF_ROWS = (
    *("operation_id", "type_name", "key", "to_key", "action", "attributes"),
    *("before_digest", "after_digest"),
)


def _bare(engine: Engine, chunks: list[pa.Table]) -> None:
    names = ", ".join((*_LOADED, *_OF_ROWS))
    for number, chunk in enumerate(chunks, 1):
        shared = [number, SOURCE, TENANT, "entity", CONTEXT.batch_id, "0" * 32, 1]
        with engine.begin() as connection:
            driver: Any = connection.connection.driver_connection
            if engine.dialect.name != "postgresql":
                constant = [*shared, "2026-01-01 00:00:00.000000", None]
                columns = [[value] * len(chunk) for value in constant]
                columns += [chunk[name].to_pylist() for name in _OF_ROWS]
                marks = ", ".join("?" * len(columns))
                driver.executemany(
                    f"INSERT INTO bare_event ({names}) VALUES ({marks})",
                    list(zip(*columns, strict=True)),
                )
                continue
            copy = f"COPY bare_event ({names}) FROM STDIN (FORMAT BINARY)"
            with driver.cursor() as cursor, cursor.copy(copy) as stream:
                for piece in binary_copy([*shared, NOW, None, *(chunk[n] for n in _OF_ROWS)]):
                    stream.write(piece)


def _log(engine: Engine, chunks: list[pa.Table]) -> None:
    postgres = engine.dialect.name == "postgresql"
    log = Projection(kind=Kind.ENTITY, tenant=TENANT, source=SOURCE, postgres=postgres)
    for chunk in chunks:
        with engine.begin() as connection:
            log.append(connection, chunk, CONTEXT)


def _applied(engine: Engine, chunks: list[pa.Table]) -> None:
    target = open_registry(engine)
    for chunk in chunks:
        _apply(target, chunk, CONTEXT)


def _apply(target: RegistryTarget, chunk: pa.Table, context: ApplyContext) -> None:
    outcome = target.apply(chunk, context)
    assert outcome == Applied(applied=len(chunk), already_applied=0), outcome


# Many entities ------------------------------------------------------------------------------------------------


def _at_scale(name: str, engine: Engine, size: Size) -> list[Result]:
    target = open_registry(engine)
    seconds = 0.0
    for chunk in _small_chunks(size.entities):
        context = replace(CONTEXT, plan_digest=f"{int(seconds * 1e6):032x}")
        seconds += _timed(_apply, target, chunk, context)
    _analyse(engine)
    results = [
        result(f"{name}: {size.entities:,} entities published", size.entities / seconds, "/s"),
        *_projected(name, engine),
    ]
    _analyse(engine)
    return [*results, *_reads(name, engine, size)]


def _small_chunks(entities: int) -> Iterator[pa.Table]:
    """Yield creates of some 170 bytes of attributes."""
    random = np.random.default_rng(11)
    words = [f"w{n:x}" for n in random.integers(0, 2**40, 20_000)]
    for start in range(0, entities, CHUNK):
        picked = random.integers(0, len(words), (CHUNK, 8))
        records = [
            {
                "entity_type": TYPE,
                "entity_key": _key(start + n),
                "attributes": (
                    f'{{"description":"{" ".join(words[w] for w in picked[n])}",'
                    f'"owner":"team_{(start + n) % 997}","rows":{start + n}}}'
                ),
                "tombstone": False,
            }
            for n in range(min(CHUNK, entities - start))
        ]
        yield _operations(Action.CREATE, None, pa.Table.from_pylist(records, SCHEMAS[Kind.ENTITY]))


def _key(n: int) -> str:
    return f"server/db_{n % 50}/schema_{n % 7}/table_{n:07d}"


def _analyse(engine: Engine) -> None:
    postgres = engine.dialect.name == "postgresql"
    options = {"isolation_level": "AUTOCOMMIT"} if postgres else {}
    with engine.connect().execution_options(**options) as connection:
        connection.execute(text("VACUUM ANALYZE" if postgres else "ANALYZE"))
        connection.commit()


def _projected(name: str, engine: Engine) -> list[Result]:
    runner = runner_of(engine, SystemClock())
    results = []
    for projection in runner.names:
        start = perf_counter()
        events = runner.catch_up(projection)
        rate = events / (perf_counter() - start)
        results.append(result(f"{name}: events projected, {projection}", rate, "/s"))
    start = perf_counter()
    rebuilt = runner.rebuild("counts")
    rate = rebuilt.events / (perf_counter() - start)
    return [*results, result(f"{name}: events in a rebuild, counts", rate, "/s")]


def _reads(name: str, engine: Engine, size: Size) -> list[Result]:
    store = SqlRegistryStore(engine)
    random = np.random.default_rng(5)
    chosen = [int(n) for n in random.integers(0, size.entities, size.reads)]

    def get(n: int) -> object:
        stream = replace(_stream(_key(n)), source_id=SOURCE)
        held = store.get(stream)
        assert held is not None
        return held

    def history(n: int) -> object:
        events = store.history(replace(_stream(_key(n)), source_id=SOURCE))
        assert len(events) == 1
        return events

    def search(**asked: Any) -> None:
        assert store.search(Search(tenant_id=TENANT, limit=20, **asked)).items

    held = store.get(replace(_stream(_key(chosen[0])), source_id=SOURCE))
    assert held is not None
    first, second, *_ = str(held.state["description"]).split()
    reads: dict[str, Callable[[int], object]] = {
        "by key": get,
        "of a history": history,
        "by attribute, 20 a page": lambda n: search(equals={"owner": f"team_{n % 997}"}),
        "by attribute of one": lambda n: search(equals={"rows": n}),
        "by two words": lambda _: search(words=f"{first} {second}"),
        "of a page of a type": lambda _: search(type_name=TYPE),
    }
    results = []
    for what, read in reads.items():
        count = len(chosen) if what in {"by key", "of a history"} else max(10, len(chosen) // 10)
        seconds = [_timed(read, n) for n in chosen[:count]]
        label = f"{name}: reads {what}, of {size.entities:,}"
        results.append(result(label, 1 / median(seconds), "/s"))
    counted = _timed(store.count_by_type, TENANT)
    return [*results, result(f"{name}: counts by type, of {size.entities:,}", counted * 1e3, "ms")]
