"""Targets that drop writes and say that all went well: the ledger check fails, on real targets and real batches."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.batch.source import SourceDefinition
from penstock.plan.operations import Action
from penstock.ports.target import Target
from penstock.publish.state import PublishStatus
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.platform import Platform
from penstock.use_cases.publish import PublishOptions, publish_next
from penstock.use_cases.publish_reports import recorded_report
from penstock.use_cases.reports import PublishReport
from platform_assets.checks import LEDGER, evaluations
from resources.control_db.engine import open_engine
from resources.control_db.store import SqlControlStore
from resources.object_store import open_object_store
from resources.row_cache import RowCache
from resources.row_cache.scratch import LocalScratch
from resources.sources.sql_catalog import sql_catalog
from resources.targets.registry import open_registry
from resources.targets.sql_table import open_sql_table
from tests.fixtures.clock import FixedClock
from tests.fixtures.leaky import LeakyTarget

TARGETS = [
    "registry-sqlite",
    pytest.param("registry-postgres", marks=pytest.mark.postgres),
    "sql_table-sqlite",
    pytest.param("sql_table-postgres", marks=pytest.mark.postgres),
]
TABLES = 40
START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """A platform with one leaky target, and a small database that is catalogued into it."""

    def __init__(self, folder: Path, control: SqlControlStore, target: Target) -> None:
        objects = open_object_store((folder / "objects").as_uri())
        self.leaky = LeakyTarget(target)
        self.clock = FixedClock(START)
        self.platform = Platform(
            objects=objects,
            control=control,
            batches=RowCache(objects, folder / "cache"),
            targets={target.target_id: self.leaky},
            clock=self.clock,
            scratch=LocalScratch(folder / "scratch"),
            verify_sample=-1,
            chunk_operations=200,
        )
        self.database, self.cursor = folder / "shop.db", ""
        for number in range(TABLES):
            self.sql(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, name TEXT, n NUMERIC)")
        self.source: SourceDefinition = sql_catalog(
            "shop", url=f"sqlite:///{self.database}", targets=[target.target_id]
        )
        control.sync_sources([self.source.spec])

    def sql(self, statement: str) -> None:
        connection = sqlite3.connect(self.database)
        connection.execute(statement)
        connection.close()

    def publish(self, *, sample: int = -1) -> PublishReport:
        self.clock.moment += timedelta(hours=1)
        extract_source(self.platform, self.source, self.clock.moment)
        land_batch(self.platform, self.source, self.clock.moment)
        self.cursor = discover_batches(self.platform, self.cursor).cursor
        platform = replace(self.platform, verify_sample=sample)
        report = publish_next(platform, "worker", options=PublishOptions(jitter=lambda: 0.0))
        assert report is not None
        assert report.state.status is PublishStatus.COMPLETE, report.state.failure_details
        return report

    def lost(self, report: PublishReport) -> set[bytes]:
        batch, target = report.state.batch_id, report.state.target_id
        found = self.platform.control.list_exceptions(batch, target, limit=100_000)
        assert {e.code for e in found if e.outcome == "lost"} <= {"lost_write"}
        return {bytes.fromhex(e.operation_id) for e in found if e.outcome == "lost"}


@pytest.fixture(params=TARGETS)
def world(
    request: pytest.FixtureRequest, tmp_path: Path, new_control_url: Callable[[str], str]
) -> Iterator[World]:
    name, _, database = request.param.partition("-")
    with ExitStack() as stack:
        engine = open_engine(new_control_url(database))
        stack.callback(engine.dispose)
        registry = open_registry(engine)
        registry.prepare()
        control = SqlControlStore.from_engine(engine)
        if name == "registry":
            yield World(tmp_path, control, registry)
            return
        tables = open_engine(new_control_url(database))
        stack.callback(tables.dispose)
        yield World(tmp_path, control, open_sql_table(tables, "tables"))


def some(key: str) -> bool:
    """Whether an operation is one of about a tenth, by its key."""
    return zlib.crc32(key.encode()) % 10 == 0


def balanced(report: PublishReport) -> bool:
    """What the asset check says."""
    (check,) = [e for e in evaluations(report) if e.check_name == LEDGER]
    return check.passed


def test_an_honest_target_passes(world: World) -> None:
    """With everything read back nothing is lost, and the check passes."""
    report = world.publish()
    assert balanced(report)
    assert report.state.exceptions == 0
    assert report.state.metrics.entities_created > 4 * TABLES


def test_every_dropped_write_is_found(world: World) -> None:
    """With everything read back each dropped operation is lost, no other is, and the check fails."""
    world.leaky.drops = some
    report = world.publish()
    assert world.leaky.dropped
    blocked = {
        e.operation_id
        for e in world.platform.control.list_exceptions(
            report.state.batch_id, report.state.target_id, limit=100_000
        )
        if e.outcome == "blocked"
    }
    assert world.lost(report) == world.leaky.dropped
    assert not balanced(report)
    assert sum(row.lost for row in report.ledger) == len(world.leaky.dropped)
    assert report.state.exceptions == len(world.leaky.dropped) + len(blocked)
    stored = recorded_report(world.platform, report.state)
    assert not balanced(stored)


@pytest.mark.parametrize("action", [Action.UPDATE, Action.DELETE])
def test_dropped_changes_are_found_too(world: World, action: Action) -> None:
    """An update that left the old row, and a delete that left it there, are as lost as a create."""
    world.publish()
    if action is Action.UPDATE:
        world.sql("DROP TABLE t7")
        world.sql("CREATE TABLE t7 (id INTEGER PRIMARY KEY, name BLOB, n NUMERIC)")
    else:
        world.sql("DROP TABLE t7")
    world.leaky.drops = lambda key: "/t7" in key
    report = world.publish()
    assert world.leaky.dropped
    assert world.lost(report) == world.leaky.dropped
    assert not balanced(report)


def test_the_next_batch_makes_up_for_it(world: World) -> None:
    """What was lost is in no snapshot, so it is planned again, and the target ends up as it should be."""
    world.leaky.drops = some
    world.publish()
    world.leaky.drops = lambda _key: False
    report = world.publish()
    assert report.operations > 0
    assert balanced(report)
    assert report.state.exceptions == 0
    assert world.publish().operations == 0


def test_a_sample_finds_a_target_that_drops_a_tenth(world: World) -> None:
    """The default sample of 32 of each chunk shows that something is wrong, though not all that is."""
    world.leaky.drops = some
    report = world.publish(sample=32)
    assert not balanced(report)
    assert set() < world.lost(report) <= world.leaky.dropped


def test_counts_that_do_not_add_up_are_caught_always(world: World) -> None:
    """A target that answers for less than it was sent is read back whole, whatever the sample."""
    world.leaky.drops, world.leaky.confesses = some, True
    report = world.publish(sample=0)
    assert world.lost(report) == world.leaky.dropped
    assert not balanced(report)


def test_without_a_look_nothing_is_noticed(world: World) -> None:
    """A sample of none trusts the target: this is what verification is for."""
    world.leaky.drops = some
    report = world.publish(sample=0)
    assert balanced(report)
    assert world.leaky.dropped
    assert world.lost(report) == set()
