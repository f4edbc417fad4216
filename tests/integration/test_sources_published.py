"""The ready sources on the whole path: extracted, landed, discovered and published into the registry."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from penstock.batch.rows import Kind
from penstock.batch.source import SourceDefinition
from penstock.publish.state import PublishStatus
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.platform import Platform
from penstock.use_cases.publish import publish_next
from penstock.use_cases.reports import PublishReport
from resources.clock import SystemClock
from resources.control_db.store import SqlControlStore
from resources.object_store import open_object_store
from resources.row_cache import RowCache
from resources.row_cache.scratch import LocalScratch
from resources.sources.python_environment import python_environment
from resources.sources.sql_catalog import sql_catalog
from resources.targets.registry import open_registry
from tests.integration.installed import install

Publish = Callable[[SourceDefinition], PublishReport]


@pytest.fixture
def platform(control_store: SqlControlStore, tmp_path: Path) -> Platform:
    """A platform with its objects on disk and a registry."""
    objects = open_object_store((tmp_path / "objects").as_uri())
    registry = open_registry(control_store.engine)
    registry.prepare()
    return Platform(
        objects=objects,
        control=control_store,
        batches=RowCache(objects, tmp_path / "cache"),
        targets={registry.target_id: registry},
        clock=SystemClock(),
        scratch=LocalScratch(tmp_path / "scratch"),
    )


@pytest.fixture
def publish(platform: Platform) -> Publish:
    """A function that publishes the next batch of a source; each is a day younger than the one before."""
    moment = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    cursor = ""

    def run(definition: SourceDefinition) -> PublishReport:
        nonlocal moment, cursor
        moment += timedelta(days=1)
        platform.control.sync_sources([definition.spec])
        extract_source(platform, definition, moment)
        land_batch(platform, definition, moment)
        found = discover_batches(platform, cursor)
        cursor = found.cursor
        assert len(found.admitted) == 1, found
        report = publish_next(platform, "worker")
        assert report is not None
        assert report.state.status is PublishStatus.COMPLETE, report.state.failure_details
        return report

    return run


def run_sql(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def test_a_catalog_is_created_altered_and_partly_dropped(publish: Publish, tmp_path: Path) -> None:
    """Every row is created; an altered table is an update and a create; a dropped one goes with all its parts."""
    path = tmp_path / "shop.db"
    run_sql(
        path,
        "CREATE TABLE c (id INTEGER PRIMARY KEY, name TEXT);"
        "CREATE TABLE o (id INTEGER PRIMARY KEY, c INT REFERENCES c (id));"
        "CREATE VIEW v AS SELECT o.id, c.name FROM o JOIN c ON c.id = o.c",
    )
    definition = sql_catalog("shop", url=f"sqlite:///{path}", name="shop")
    first = publish(definition).state.metrics
    assert first.entities_created == 14
    assert first.relationships_created > 20
    assert publish(definition).operations == 0

    run_sql(
        path,
        "DROP VIEW v; DROP TABLE o; CREATE TABLE c2 (id INTEGER PRIMARY KEY, name VARCHAR(9));"
        "DROP TABLE c; ALTER TABLE c2 RENAME TO c",
    )
    third = publish(definition).state.metrics
    assert third.entities_deleted == 8
    assert third.entities_updated == 1
    assert third.entities_created == 0


def test_a_schema_that_cannot_be_read_deletes_nothing(publish: Publish, tmp_path: Path) -> None:
    """The file is no database any more: all that was published of it stays."""
    path = tmp_path / "shop.db"
    run_sql(path, "CREATE TABLE c (id INTEGER PRIMARY KEY, name TEXT)")
    definition = sql_catalog("shop", url=f"sqlite:///{path}", name="shop")
    publish(definition)
    path.write_bytes(b"not a database" * 100)
    metrics = publish(definition).state.metrics
    assert (metrics.entities_deleted, metrics.relationships_deleted) == (0, 0)


def test_an_environment_follows_what_is_installed(publish: Publish, tmp_path: Path) -> None:
    """An upgrade is updates and a broken record loses nothing."""
    site = tmp_path / "site"
    install(site, "app", "1.0", "Requires-Dist: lib>=2")
    lib = install(site, "lib", "1.0", files={"lib.py": "x = 1\n", "extra.py": ""})
    definition = python_environment("tools", path=site)
    first = publish(definition)
    assert first.state.metrics.entities_created == 8
    assert {row.type_name for row in first.ledger if row.kind is Kind.RELATIONSHIP} >= {"requires"}

    (lib / "RECORD").unlink()
    assert publish(definition).state.metrics.entities_deleted == 0

    for path in [*lib.iterdir(), lib, site / "extra.py"]:
        path.rmdir() if path.is_dir() else path.unlink()
    install(site, "lib", "2.0", files={"lib.py": "x = 2\n"})
    third = publish(definition).state.metrics
    assert third.entities_deleted == 2  # extra.py and the old RECORD
    assert third.entities_created == 1  # the new RECORD
    assert third.entities_updated == 3  # lib, lib.py, and app, whose requirement is met now


def test_the_tests_own_environment_publishes(publish: Publish) -> None:
    """Tens of thousands of real rows go through, and again without an operation."""
    definition = python_environment("python_environment")
    first = publish(definition)
    assert first.state.metrics.entities_created > 10_000
    assert publish(definition).operations == 0
