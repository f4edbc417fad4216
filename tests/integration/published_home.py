"""An installation on disk with real batches, published by the real use cases."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Mode, RelationshipType
from penstock.batch.rows import Entity, Relationship
from penstock.batch.source import Extract, SourceDefinition, SourceSpec
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.platform import Platform
from penstock.use_cases.publish import publish_next
from penstock.use_cases.reports import PublishReport
from resources.control_db.store import SqlControlStore
from resources.settings import Settings
from resources.sources.sql_catalog import sql_catalog
from resources.wiring import open_platform

CHANGE = """
    ALTER TABLE customer ADD COLUMN email TEXT;
    DROP TABLE scratch;
    DROP VIEW big;
    CREATE VIEW big AS SELECT id, amount * 2 AS amount FROM sale;
"""


@dataclass(frozen=True, kw_only=True)
class PublishedHome:
    """A Penstock home: one source, two published batches, and one that waits."""

    home: Path
    first: BatchId
    second: BatchId
    waiting: BatchId
    entity: str
    """A view whose SQL changed between the two."""
    dropped: str
    """A table that was dropped between the two."""
    held: BatchId
    """A batch of another source, whose deletes a guard holds."""
    held_plan: str
    """Digest of its plan."""


def publish_home(folder: Path, database_url: str | None = None) -> PublishedHome:
    """Catalog a small database into a new home, twice with a change in between, and land a third batch."""
    database = folder / "shop.db"
    connection = sqlite3.connect(database)
    connection.executescript("""
        CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
        CREATE TABLE sale (
            id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer (id), amount NUMERIC
        );
        CREATE TABLE scratch (note TEXT);
        CREATE VIEW big AS SELECT id, amount FROM sale WHERE amount > 100;
    """)
    shop = sql_catalog("shop", url=f"sqlite:///{database}", name="shop", importance=0.9)
    settings = {"home": folder / "home", "database_url": database_url}
    platform = open_platform(Settings.model_validate(settings))
    assert isinstance(platform.control, SqlControlStore)
    platform.control.sync_sources([shop.spec])
    first, cursor = _land(platform, shop, hours_ago=3, cursor="")
    assert publish_next(platform, "worker") is not None
    connection.executescript(CHANGE)
    connection.close()
    second, cursor = _land(platform, shop, hours_ago=2, cursor=cursor)
    assert publish_next(platform, "worker") is not None
    held, plan, cursor = publish_held(platform, folder / "depot.db", cursor)
    waiting, _ = _land(platform, shop, hours_ago=1, cursor=cursor)
    platform.control.engine.dispose()
    return PublishedHome(
        home=folder / "home",
        first=first,
        second=second,
        waiting=waiting,
        entity="shop/main/big",
        dropped="shop/main/scratch",
        held=held,
        held_plan=plan,
    )


def publish_held(
    platform: Platform, database: Path, cursor: str, *, name: str = "depot"
) -> tuple[BatchId, str, str]:
    """Publish a source that may lose nothing and loses a table; returns that batch, its plan and the cursor."""
    connection = sqlite3.connect(database)
    connection.executescript(
        "CREATE TABLE bin (id INTEGER PRIMARY KEY); CREATE TABLE old (id INTEGER);"
    )
    depot = sql_catalog(name, url=f"sqlite:///{database}", name=name)
    depot = replace(depot, spec=replace(depot.spec, guard_policy=GuardPolicy(max_deletes=0)))
    platform.control.sync_sources([*platform.control.list_sources(), depot.spec])
    first, cursor = _land(platform, depot, hours_ago=3, cursor=cursor)
    assert _published(platform, first)
    connection.executescript("DROP TABLE old")
    connection.close()
    held, cursor = _land(platform, depot, hours_ago=2, cursor=cursor)
    report = _published(platform, held)
    assert report.state.held
    assert report.state.plan_digest
    return held, report.state.plan_digest, cursor


def publish_letters(platform: Platform, types: int, cursor: str) -> str:
    """Leave an open dead letter of each of some types of relationships, whose other end has come by now."""
    names = [f"feeds_{number}" for number in range(types)]

    def early(extract: Extract) -> Iterator[Entity | Relationship]:
        yield Entity(entity_type="feed", entity_key="feeds/a", attributes={})
        for name in names:
            yield Relationship(
                relationship_type=name,
                from_key="feeds/a",
                to_key="feeds/b",
                attributes={"owner": "nobody"},
            )

    def late(extract: Extract) -> Iterator[Entity | Relationship]:
        yield Entity(entity_type="feed", entity_key="feeds/b", attributes={})

    feeds = SourceDefinition(
        spec=SourceSpec(source_id=SourceId("feeds")),
        extractor=early,
        mode=Mode.DELTA,
        relationship_types=tuple(RelationshipType(name=name) for name in names),
    )
    platform.control.sync_sources([*platform.control.list_sources(), feeds.spec])
    for hours_ago, extractor in ((3, early), (2, late)):
        source = replace(feeds, extractor=extractor)
        batch, cursor = _land(platform, source, hours_ago=hours_ago, cursor=cursor)
        assert _published(platform, batch)
    return cursor


def _published(platform: Platform, batch: BatchId) -> PublishReport:
    report = publish_next(platform, "worker", only=[(batch, TargetId("registry"))])
    assert report is not None
    return report


def _land(
    platform: Platform, source: SourceDefinition, *, hours_ago: int, cursor: str
) -> tuple[BatchId, str]:
    at = platform.clock.now() - timedelta(hours=hours_ago)
    extract_source(platform, source, at)
    land_batch(platform, source, at)
    found = discover_batches(platform, cursor)
    (batch,) = found.admitted
    return batch, found.cursor
