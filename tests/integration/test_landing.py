"""From a declared source to a committed, readable batch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.batch.manifest import Manifest
from penstock.batch.rows import SCHEMAS, Entity, Kind, Relationship
from penstock.batch.source import Extract, Extracted, SourceDefinition, source
from penstock.ports.object_store import ObjectStore
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.platform import Platform
from resources.row_cache import RowCache
from tests.fixtures.landing import landing_platform

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@source("shop")
def shop(extract: Extract) -> Iterator[Extracted]:
    """Two tables and what is between them."""
    with extract.scope("table"):
        for n in range(3):
            yield Entity(
                entity_type="table", entity_key=f"shop/t{n}", attributes={"n": n, "a": 1.5}
            )
    with extract.scopes_of([(Kind.ENTITY, "column"), (Kind.RELATIONSHIP, "has")]):
        for n in range(3):
            yield Entity(entity_type="column", entity_key=f"shop/t{n}/c", attributes={"é": None})
            yield Relationship(
                from_key=f"shop/t{n}", relationship_type="has", to_key=f"shop/t{n}/c"
            )


@pytest.fixture
def platform(object_store: ObjectStore, tmp_path: Path) -> Platform:
    return landing_platform(object_store, tmp_path)


def landed(platform: Platform, definition: SourceDefinition = shop) -> Manifest:
    extract_source(platform, definition, AT)
    return land_batch(platform, definition, AT).manifest


def all_rows(platform: Platform, manifest: Manifest, kind: Kind) -> list[dict[str, Any]]:
    rows = platform.batches.rows(manifest, kind)
    found: list[dict[str, Any]] = rows.take(np.arange(rows.index.rows)).to_pylist()
    return found


def test_what_a_source_yields_is_read_back(platform: Platform) -> None:
    """Rows come back grouped by type, with canonical attributes, in the order of their index."""
    manifest = landed(platform)
    assert manifest.entities.counts == {"column": 3, "table": 3}
    rows = all_rows(platform, manifest, Kind.ENTITY)
    assert [row["entity_type"] for row in rows] == ["column"] * 3 + ["table"] * 3
    assert sorted(row["attributes"] for row in rows if row["entity_key"].startswith("shop/t1")) == [
        '{"a":1.5,"n":1}',
        '{"é":null}',
    ]
    edges = all_rows(platform, manifest, Kind.RELATIONSHIP)
    assert {row["from_key"] for row in edges} == {"shop/t0", "shop/t1", "shop/t2"}


def test_a_cache_that_was_lost_is_made_again(platform: Platform, tmp_path: Path) -> None:
    """Rows and index fetched from the store are those that landing had kept."""
    manifest = landed(platform)
    other = RowCache(platform.objects, tmp_path / "other")
    for kind in Kind:
        kept, fetched = platform.batches.rows(manifest, kind), other.rows(manifest, kind)
        everything = np.arange(kept.index.rows)
        assert kept.take(everything).equals(fetched.take(everything))
        for name, section in kept.index.sections.items():
            assert section.totals == fetched.index.sections[name].totals


def test_landing_again_changes_nothing(platform: Platform) -> None:
    """A second extract and a second landing of one timestamp find the first, whatever the source says now."""
    manifest = landed(platform)
    before = [(found.key, found.last_modified) for found in platform.objects.list("")]

    @source("shop")
    def changed(extract: Extract) -> Iterator[Extracted]:
        yield Entity(entity_type="other", entity_key="x")

    assert extract_source(platform, changed, AT).already_there
    report = land_batch(platform, changed, AT)
    assert report.already_landed
    assert report.manifest == manifest
    assert [(found.key, found.last_modified) for found in platform.objects.list("")] == before


def test_arrow_tables_and_values_land_alike(platform: Platform) -> None:
    """Typed columns become the attributes that the same values in Python are."""
    columns: dict[str, list[Any]] = {
        "n": [1, None],
        "name": ['a"b', "é"],
        "on": [datetime(2026, 1, 1, tzinfo=UTC)] * 2,
    }
    keys = {"entity_type": ["t", "t"], "entity_key": ["k/1", "k/2"]}

    @source("typed")
    def typed(extract: Extract) -> Iterator[Extracted]:
        yield pa.table({**keys, **columns})

    @source("plain")
    def plain(extract: Extract) -> Iterator[Extracted]:
        for n in range(2):
            attributes = {name: values[n] for name, values in columns.items()}
            yield Entity(entity_type="t", entity_key=f"k/{n + 1}", attributes=attributes)

    both = [all_rows(platform, landed(platform, d), Kind.ENTITY) for d in (typed, plain)]
    assert both[0] == both[1]


def test_an_empty_source_lands_an_empty_batch(platform: Platform) -> None:
    """Nothing extracted in a complete scope is a batch that says so."""

    @source("empty")
    def empty(extract: Extract) -> Iterator[Extracted]:
        with extract.scope("table"):
            yield from ()

    manifest = landed(platform, empty)
    assert manifest.entities.rows == 0
    assert [scope.type_name for scope in manifest.scopes] == ["table"]
    for kind in Kind:
        rows = platform.batches.rows(manifest, kind)
        assert rows.index.rows == 0
        assert rows.take(np.empty(0, np.int64)).equals(SCHEMAS[kind].empty_table())


def test_a_batch_keeps_the_trace_that_it_was_landed_in(platform: Platform) -> None:
    """Its manifest says so; one that was landed in none says nothing."""
    traced = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    extract_source(platform, shop, AT, trace_parent=traced)
    manifest = land_batch(platform, shop, AT, trace_parent=traced).manifest
    assert manifest.trace_parent == traced
    later = AT + timedelta(hours=1)
    extract_source(platform, shop, later)
    assert land_batch(platform, shop, later).manifest.trace_parent is None
