"""Batches that others landed: read if they keep the contract, refused with a name and an advice if not."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.batch.manifest import Manifest, read_manifest
from penstock.batch.rows import Entity, Kind
from penstock.batch.source import Extract, source
from penstock.errors import BadFile, BadManifest, BadRow, IndexCorrupt
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from resources.object_store.local import LocalObjectStore
from resources.row_cache import RowCache
from tests.fixtures.landing import landing_platform

FOLDER = "batches/shop/2026-01-01T00-00-00.000000Z/"
AT = datetime(2026, 1, 1, tzinfo=UTC)
PART = "entities/part-0.parquet"


def entities(**columns: Any) -> pa.Table:
    """Three entities as Spark might write them; columns replace or, if None, leave out those that are here."""
    whole: dict[str, Any] = {
        "entity_type": ["table"] * 3,
        "entity_key": ["k/2", "k/1", "k/3"],
        "attributes": ['{"b": 1,\n "a": "\\u00e9"}', None, '{"a":"é","b":1}'],
        "tombstone": [False] * 3,
    } | columns
    return pa.table({name: values for name, values in whole.items() if values is not None})


@pytest.fixture
def land(local_store: LocalObjectStore) -> Callable[..., Manifest]:
    """A function that writes a Parquet file and the manifest that goes with it, changed as asked."""

    def put(table: pa.Table, *, mode: str = "full", change: Any = None, **options: Any) -> Manifest:
        sink = BytesIO()
        pq.write_table(table, sink, **options)
        data = sink.getvalue()
        local_store.put(FOLDER + PART, data)
        part = {"path": PART, "rows": len(table), "size_bytes": len(data), "sha256": _sha256(data)}
        types = table["entity_type"].to_pylist() if "entity_type" in table.column_names else []
        counts = dict(Counter(map(str, types))) or {"table": len(table)}
        manifest = {
            "source_id": "shop",
            "source_timestamp": "2026-01-01T00:00:00Z",
            "processing_timestamp": "2026-01-01T00:00:01Z",
            "mode": mode,
            "entities": {"parts": [part], "counts": counts},
        }
        if change is not None:
            change(manifest, part)
        return read_manifest(json.dumps(manifest).encode(), where=FOLDER + "_manifest.json")

    return put


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def cache(local_store: LocalObjectStore, tmp_path: Path) -> RowCache:
    return RowCache(local_store, tmp_path / "cache")


def rows_of(cache: RowCache, manifest: Manifest) -> list[dict[str, Any]]:
    rows = cache.rows(manifest, Kind.ENTITY)
    return rows.take(np.arange(rows.index.rows)).to_pylist()  # type: ignore[no-any-return]


def test_a_plain_batch_of_others_is_what_ours_would_be(
    land: Callable[..., Manifest], cache: RowCache, local_store: LocalObjectStore, tmp_path: Path
) -> None:
    """Any key order, any row order and no index: canonical text, sorted rows and the same digests come of it."""

    @source("shop")
    def shop(extract: Extract) -> Any:
        for key, attributes in [
            ("k/1", {}),
            ("k/2", {"a": "é", "b": 1}),
            ("k/3", {"a": "é", "b": 1}),
        ]:
            yield Entity(entity_type="table", entity_key=key, attributes=attributes)

    platform = landing_platform(LocalObjectStore(tmp_path / "ours"), tmp_path)
    extract_source(platform, shop, AT)
    ours = platform.batches.rows(land_batch(platform, shop, AT).manifest, Kind.ENTITY)
    theirs = cache.rows(land(entities()), Kind.ENTITY)
    everything = np.arange(3)
    assert theirs.take(everything).equals(ours.take(everything))
    assert theirs.index.sections["table"].totals == ours.index.sections["table"].totals


@pytest.mark.parametrize(
    "table",
    [
        entities(tombstone=None),
        entities(extra=[1, 2, 3]),
        entities(tombstone=[None, False, None]),
        entities(entity_type=pa.array(["table"] * 3).dictionary_encode()),
        entities(entity_key=pa.array(["k/2", "k/1", "k/3"], pa.large_string())),
    ],
)
def test_what_other_writers_do_is_taken(
    land: Callable[..., Manifest], cache: RowCache, table: pa.Table
) -> None:
    """Columns that are left out, more of them, and other types of text are no error."""
    assert len(rows_of(cache, land(table))) == 3


def test_tombstones_of_a_delta_have_no_digest(
    land: Callable[..., Manifest], cache: RowCache
) -> None:
    """A tombstone's attributes do not count, and its digest is zero."""
    manifest = land(entities(tombstone=[True, False, False]), mode="delta")
    dead = [row for row in rows_of(cache, manifest) if row["tombstone"]]
    assert [(row["entity_key"], row["attributes"]) for row in dead] == [("k/2", None)]
    section = cache.rows(manifest, Kind.ENTITY).index.sections["table"]
    hash_hi, hash_lo = section.read(("hash_hi", "hash_lo"), 0, 3)
    assert ((hash_hi == 0) & (hash_lo == 0)).sum() == 1


@pytest.mark.parametrize(
    ("columns", "error", "problem"),
    [
        ({"attributes": ["{}", "[1]", "{}"]}, BadRow, "row 1: attributes: .*not a JSON object"),
        ({"attributes": ["{}", "{}", "{oops"]}, BadRow, r"row 2: attributes: .*\{oops"),
        ({"attributes": ['{"x":NaN}', "{}", "{}"]}, BadRow, "row 0: attributes"),
        ({"attributes": [1, 2, 3]}, BadFile, "attributes is int64, not string"),
        ({"attributes": None}, BadFile, "has no column attributes"),
        ({"entity_key": None}, BadFile, "has no column entity_key"),
        ({"entity_type": None}, BadFile, "has no column entity_type"),
        ({"entity_key": ["a", None, "b"]}, BadRow, "row 1 has no entity_key"),
        ({"entity_key": ["a", "b", ""]}, BadRow, "row 2 has an empty entity_key"),
        ({"entity_key": ["a", "b", "c" * 4097]}, BadRow, "row 2 has a entity_key of 4,097 bytes"),
        (
            {"entity_key": ["a", "b", "a"]},
            BadRow,
            "entity_key 'a' appears twice, in .*row 0 and .*row 2",
        ),
        ({"entity_key": [1, 2, 3]}, BadFile, "entity_key is int64, not string"),
        ({"tombstone": ["no"] * 3}, BadFile, "tombstone is .*string.*, not bool"),
        ({"tombstone": [False, True, False]}, BadRow, "row 1 is a tombstone"),
    ],
)
def test_a_bad_row_is_named(
    land: Callable[..., Manifest], cache: RowCache, columns: Any, error: Any, problem: str
) -> None:
    """The error names file, row and field."""
    with pytest.raises(error, match=problem) as raised:
        cache.rows(land(entities(**columns)), Kind.ENTITY)
    assert "entit" in str(raised.value)
    if "row" in problem:
        assert PART in str(raised.value)


def test_a_type_that_names_nothing_is_refused(
    land: Callable[..., Manifest], cache: RowCache
) -> None:
    """A type name is checked in the rows, whatever the manifest says."""

    def counts(manifest: Any, part: Any) -> None:
        manifest["entities"]["counts"] = {"table": 3}

    with pytest.raises(BadRow, match=r"row 1: entity type '\.\./x' is not a valid name"):
        cache.rows(
            land(entities(entity_type=["table", "../x", "table"]), change=counts), Kind.ENTITY
        )


def _shift(name: str, by: int) -> Any:
    def change(manifest: Any, part: Any) -> None:
        part[name] += by
        manifest["entities"]["counts"] = {"table": part["rows"]}

    return change


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        (lambda m, p: p.update(sha256="0" * 64), BadFile, "the manifest says 0000"),
        (_shift("size_bytes", 1), BadFile, "bytes that the manifest says: it was cut short"),
        (_shift("size_bytes", -1), BadFile, "more than the"),
        (lambda m, p: p.update(path="entities/part-9.parquet"), BadFile, "is not there"),
        (_shift("rows", 1), BadFile, "holds 3 rows and the manifest says 4"),
        (
            lambda m, p: m["entities"].update(counts={"tabel": 3}),
            BadManifest,
            "tabel: 0 rows, 3 declared",
        ),
    ],
)
def test_a_file_that_is_not_as_declared_is_named(
    land: Callable[..., Manifest], cache: RowCache, change: Any, error: Any, problem: str
) -> None:
    """Digest, size, path, rows and counts are all believed only when they agree."""
    with pytest.raises(error, match=problem):
        cache.rows(land(entities(), change=change), Kind.ENTITY)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda m, p: p.update(path="../../other/part-0.parquet"), "entities.parts.0.path: .*plain path"),
        (lambda m, p: p.update(path="/etc/passwd"), "entities.parts.0.path"),
        (lambda m, p: p.update(path="entities\\part"), "entities.parts.0.path"),
        (lambda m, p: m.update(source_id="../shop"), "source_id: .*not a valid id"),
        (lambda m, p: m.update(schema_version=2), "schema_version: Input should be 1"),
        (lambda m, p: m.update(scopes=[{"type_name": "a/b", "completeness": "complete"}]), "scopes.0.type_name"),
        (lambda m, p: m.update(source_timestamp="2026-01-01T00:00:00"), "source_timestamp: .*timezone"),
        (lambda m, p: m.update(surprise=1), "surprise: Extra inputs"),
        (lambda m, p: m["entities"].update(counts={"table": 2}), "counts add up to 2 rows"),
        (lambda m, p: m["entities"].update(counts={"../x": 3}), "counts"),
    ],
)  # fmt: skip
def test_a_bad_manifest_names_its_field(
    land: Callable[..., Manifest], change: Any, problem: str
) -> None:
    """No path leaves the batch's folder, and no field is guessed at."""
    with pytest.raises(BadManifest, match=problem):
        land(entities(), change=change)


@pytest.mark.parametrize("keep", [0, 3, 4, 100, -1])
def test_a_truncated_file_is_named(
    land: Callable[..., Manifest], cache: RowCache, local_store: LocalObjectStore, keep: int
) -> None:
    """A file that was cut short before its digest was taken is no Parquet file."""

    def cut(manifest: Any, part: Any) -> None:
        data = local_store.get(FOLDER + PART)[:keep]
        local_store.put(FOLDER + PART, data)
        part.update(size_bytes=len(data), sha256=_sha256(data))

    with pytest.raises(BadFile, match=r"cannot be read as Parquet.*truncated or damaged"):
        cache.rows(land(entities(), change=cut), Kind.ENTITY)


def test_a_damaged_page_is_named(
    land: Callable[..., Manifest], cache: RowCache, local_store: LocalObjectStore
) -> None:
    """A file whose footer is whole and whose pages are not is found out."""

    def damage(manifest: Any, part: Any) -> None:
        data = bytearray(local_store.get(FOLDER + PART))
        data[4:60] = b"\xff" * 56
        local_store.put(FOLDER + PART, bytes(data))
        part.update(sha256=_sha256(bytes(data)))

    with pytest.raises(BadFile, match="cannot be read as Parquet"):
        cache.rows(land(entities(), change=damage), Kind.ENTITY)


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_an_attribute_of_200_mb_is_refused(
    land: Callable[..., Manifest], cache: RowCache, use_dictionary: bool
) -> None:
    """A row over the limit is named before anything parses it."""
    huge = '{"x":"' + "x" * (200 * 1024 * 1024) + '"}'
    table = entities(attributes=["{}", huge, "{}"])
    manifest = land(table, compression="zstd", use_dictionary=use_dictionary)
    with pytest.raises(BadRow, match="row 1 has attributes of 209,715,208 bytes, over the limit"):
        cache.rows(manifest, Kind.ENTITY)


def test_a_value_that_is_repeated_a_million_times_costs_no_more_than_once(
    land: Callable[..., Manifest], cache: RowCache
) -> None:
    """What a dictionary makes small stays small until it is refused."""
    huge = '{"x":"' + "x" * (17 * 1024 * 1024) + '"}'
    n = 100_000
    table = pa.table(
        {
            "entity_type": ["table"] * n,
            "entity_key": [f"k/{i}" for i in range(n)],
            "attributes": pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [huge]),
        }
    )
    manifest = land(
        table, compression="zstd", write_statistics=False, dictionary_pagesize_limit=2**30
    )
    assert manifest.entities.parts[0].size_bytes < 2**20
    with pytest.raises(BadRow, match="row 0 has attributes of 17,825,800 bytes"):
        cache.rows(manifest, Kind.ENTITY)


def test_an_index_of_other_rows_is_refused(
    land: Callable[..., Manifest], cache: RowCache, local_store: LocalObjectStore, tmp_path: Path
) -> None:
    """A batch whose index says other than its rows is not believed."""

    @source("shop")
    def shop(extract: Extract) -> Any:
        yield Entity(entity_type="table", entity_key="another")

    platform = landing_platform(local_store, tmp_path / "ours")
    extract_source(platform, shop, AT)
    index = land_batch(platform, shop, AT).manifest.entities.index
    assert index is not None

    def add(manifest: Any, part: Any) -> None:
        manifest["entities"]["index"] = index.model_dump(mode="json")

    rows = entities(attributes=["{}", "{}", "{}"])
    with pytest.raises(BadFile, match="does not index the rows of the batch"):
        cache.rows(land(rows, change=add), Kind.ENTITY)


def test_an_index_that_is_none_is_refused(
    land: Callable[..., Manifest], cache: RowCache, local_store: LocalObjectStore
) -> None:
    """A file of nonsense under the index's name is found out, by name."""
    local_store.put(FOLDER + "entities.index", b"nonsense")
    entry = {"path": "entities.index", "size_bytes": 8, "sha256": _sha256(b"nonsense")}

    def add(manifest: Any, part: Any) -> None:
        manifest["entities"]["index"] = entry

    with pytest.raises(IndexCorrupt, match=r"entities\.index is not an index file"):
        cache.rows(land(entities(attributes=["{}"] * 3), change=add), Kind.ENTITY)


def test_a_batch_that_was_refused_leaves_nothing_in_the_cache(
    land: Callable[..., Manifest], cache: RowCache, tmp_path: Path
) -> None:
    """What could not be built takes no room, and the next batch is none the worse."""
    with pytest.raises(BadRow):
        cache.rows(land(entities(entity_key=["a", "a", "b"])), Kind.ENTITY)
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(rows_of(cache, land(entities()))) == 3
