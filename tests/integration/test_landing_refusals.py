"""What an extract and a landing refuse, count and leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.batch.manifest import Mode
from penstock.batch.rows import Entity, Kind, Relationship
from penstock.batch.scope import Completeness
from penstock.batch.source import Extract, Extracted, SourceDefinition, source
from penstock.errors import BadFile, BadRow, ObjectMissing
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.platform import Platform
from resources.object_store.local import LocalObjectStore
from tests.fixtures.landing import landing_platform

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def platform(local_store: LocalObjectStore, tmp_path: Path) -> Platform:
    return landing_platform(local_store, tmp_path)


def yielding(*items: Any, **declared: Any) -> SourceDefinition:
    @source("shop", **declared)
    def shop(extract: Extract) -> Iterator[Extracted]:
        with extract.scope("t"):
            yield from items

    return shop


def entity(key: Any, type_name: Any = "t", **attributes: Any) -> Entity:
    return Entity(entity_type=type_name, entity_key=key, attributes=attributes)


def fail(reason: str) -> None:
    raise OSError(reason)


def keys(platform: Platform) -> list[str]:
    return [found.key for found in platform.objects.list("")]


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (entity("k", x={1, 2}), r"entity_key 'k': \$\.x is a set"),
        (entity("k", x="\ud800"), "entity_key 'k': .*lone surrogate"),
        (entity(""), "row 1 has an empty entity_key"),
        (entity(None), "row 1 has no entity_key"),
        (entity(7), "entity_key 7 is not text"),
        (entity("\udfff"), "is not text that UTF-8 can carry"),
        (entity("k" * 4097), "row 1 has a entity_key of 4,097 bytes"),
        (entity("k", "../t"), r"row 1: entity type '\.\./t' is not a valid name"),
        (entity("k", x="x" * 2**24), "the field 'x' alone takes 16,777,218"),
        (Entity(entity_type="t", entity_key="k", deleted=True), "row 1 is a tombstone"),
        (Relationship(from_key="a", relationship_type="r", to_key=""), "row 0 has an empty to_key"),
        ({"entity_key": "k"}, "yielded a dict"),
        (pa.table({"key": ["k"]}), "needs entity_type and entity_key"),
        (pa.table({"entity_key": ["k"], "n": [1]}), "no column entity_type"),
        (pa.table({"entity_type": ["t"], "entity_key": [1], "n": [1]}), "entity_key is int64, not text"),
        (pa.table({"entity_type": ["t"], "entity_key": ["k"], "attributes": ["[]"]}), "not a JSON object"),
        (
            pa.table({"entity_type": ["t"], "entity_key": ["k"], "attributes": ["{}"], "n": [1]}),
            "both attributes and the columns",
        ),
        (
            pa.table({"entity_type": ["t"], "entity_key": ["k"], "took": pa.array([1], pa.duration("s"))}),
            "column 'took': type duration",
        ),
    ],
)  # fmt: skip
def test_a_row_that_no_batch_can_hold_fails_its_extract(
    platform: Platform, item: Any, problem: str
) -> None:
    """The error names row and field, and nothing is kept."""
    with pytest.raises(BadRow, match=problem):
        extract_source(platform, yielding(entity("first"), item), AT)
    assert keys(platform) == []


def test_a_duplicate_key_names_both_rows(platform: Platform) -> None:
    """Two rows of one type and key fail the batch, and its files are taken away again."""
    definition = yielding(entity("a"), entity("b"), entity("c"), entity("b", x=1))
    extract_source(platform, definition, AT)
    with pytest.raises(BadRow, match="entity_key 'b' appears twice, in row 1 and row 3"):
        land_batch(platform, definition, AT)
    assert not [key for key in keys(platform) if key.startswith("batches/")]


def test_one_key_may_be_of_two_types(platform: Platform) -> None:
    """A key is unique within its type."""
    definition = yielding(entity("a"), entity("a", "u"))
    extract_source(platform, definition, AT)
    assert land_batch(platform, definition, AT).manifest.entities.counts == {"t": 1, "u": 1}


def test_without_an_extract_nothing_lands(platform: Platform) -> None:
    """The error says what to do first."""
    with pytest.raises(ObjectMissing, match="extract the source at this timestamp"):
        land_batch(platform, yielding(), AT)


def test_a_failed_scope_costs_itself_alone(platform: Platform) -> None:
    """What was seen of it lands; it is declared failed, with the reason, and the others complete."""

    @source("shop")
    def shop(extract: Extract) -> Iterator[Extracted]:
        with extract.scope("t"):
            yield entity("a")
            fail("page 2 is gone")
        with extract.scope("u"):
            yield entity("b", "u")

    report = extract_source(platform, shop, AT)
    assert report.failed_scopes == ("t: OSError: page 2 is gone",)
    manifest = land_batch(platform, shop, AT).manifest
    assert [(s.type_name, s.completeness) for s in manifest.scopes] == [
        ("t", Completeness.FAILED),
        ("u", Completeness.COMPLETE),
    ]
    assert manifest.entities.counts == {"t": 1, "u": 1}


def test_an_extractor_that_raises_outside_its_scopes_keeps_nothing(platform: Platform) -> None:
    """The exception is the caller's, and the next attempt begins anew."""

    @source("shop")
    def broken(extract: Extract) -> Iterator[Extracted]:
        yield entity("a")
        fail("cannot connect")

    with pytest.raises(OSError, match="cannot connect"):
        extract_source(platform, broken, AT)
    assert keys(platform) == []
    assert not extract_source(platform, yielding(entity("a")), AT).already_there


def test_a_transform_maps_drops_and_adds(platform: Platform) -> None:
    """Rows may become none, one or several of either kind; what is dropped is counted by its type."""

    def transform(row: Entity | Relationship) -> Iterator[Entity | Relationship]:
        assert isinstance(row, Entity)
        if row.attributes["n"] == 1:
            return
        yield replace(row, attributes={"n": row.attributes["n"] * 10})
        yield Relationship(from_key="root", relationship_type="has", to_key=row.entity_key)

    definition = yielding(*(entity(f"k{n}", n=n) for n in range(4)), transform=transform)
    extract_source(platform, definition, AT)
    manifest = land_batch(platform, definition, AT).manifest
    assert (manifest.entities.counts, manifest.entities.filtered) == ({"t": 3}, {"t": 1})
    assert manifest.relationships.counts == {"has": 3}
    rows = platform.batches.rows(manifest, Kind.ENTITY).take(np.arange(3)).to_pylist()
    assert {row["entity_key"]: row["attributes"] for row in rows} == {
        "k0": '{"n":0}',
        "k2": '{"n":20}',
        "k3": '{"n":30}',
    }


def test_what_an_extractor_filters_is_counted(platform: Platform) -> None:
    """The counts of the extractor and of the transform add up."""

    @source("shop", transform=lambda _: [])
    def shop(extract: Extract) -> Iterator[Extracted]:
        with extract.scope("t"):
            extract.filter("t", 5)
            yield entity("a")

    extract_source(platform, shop, AT)
    manifest = land_batch(platform, shop, AT).manifest
    assert (manifest.entities.counts, manifest.entities.filtered) == ({}, {"t": 6})


def test_tombstones_land_in_a_delta(platform: Platform) -> None:
    """A delta batch says outright what is gone."""
    gone = Entity(entity_type="t", entity_key="a", deleted=True)
    definition = yielding(gone, entity("b"), mode=Mode.DELTA)
    extract_source(platform, definition, AT)
    manifest = land_batch(platform, definition, AT).manifest
    assert manifest.mode is Mode.DELTA
    rows = platform.batches.rows(manifest, Kind.ENTITY).take(np.arange(2)).to_pylist()
    assert {r["entity_key"]: (r["attributes"], r["tombstone"]) for r in rows} == {
        "a": (None, True),
        "b": ("{}", False),
    }


def test_racing_attempts_land_one_batch(platform: Platform) -> None:
    """Of four attempts at once one commits; the others find its batch and leave none of their files."""
    definition = yielding(*(entity(f"k{n}") for n in range(100)))

    def attempt(_: int) -> bool:
        extract_source(platform, definition, AT)
        return land_batch(platform, definition, AT).already_landed

    with ThreadPoolExecutor(4) as pool:
        already = list(pool.map(attempt, range(4)))
    assert already.count(False) == 1
    batch = [key for key in keys(platform) if key.startswith("batches/")]
    manifest = land_batch(platform, definition, AT).manifest
    assert manifest.entities.index is not None
    named = {part.path for part in manifest.entities.parts} | {manifest.entities.index.path}
    assert {key.split("/", 3)[3] for key in batch} == named | {"_manifest.json"}
    assert len([key for key in keys(platform) if key.startswith("extracts/")]) == 2


def test_a_put_whose_answer_was_lost_is_still_ours(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that reached the store, though the store then said it was taken, keeps its files."""
    definition = yielding(entity("a"))
    extract_source(platform, definition, AT)
    put = platform.objects.put_if_absent
    monkeypatch.setattr(
        platform.objects, "put_if_absent", lambda key, data: put(key, data) and False
    )
    report = land_batch(platform, definition, AT)
    assert not report.already_landed
    cold = landing_platform(platform.objects, Path(platform.objects.url("")[7:]).parent / "cold")
    assert cold.batches.rows(report.manifest, Kind.ENTITY).index.rows == 1


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_extract_is_named(platform: Platform, damage: bytes | None) -> None:
    """An extract is believed only when it is what was written."""
    definition = yielding(*(entity(f"k{n}", n=n) for n in range(10)))
    extract_source(platform, definition, AT)
    (key,) = [key for key in keys(platform) if key.endswith(".arrows")]
    whole = platform.objects.get(key)
    platform.objects.put(key, whole[:-9] + b"\x01" + whole[-8:] if damage is None else damage)
    with pytest.raises(BadFile, match="extract again"):
        land_batch(platform, definition, AT)
    assert not [key for key in keys(platform) if key.startswith("batches/")]
