"""The row cache: bounded, shared by threads and processes, and never needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from penstock.batch.manifest import Manifest
from penstock.batch.rows import Entity, Kind
from penstock.batch.source import Extract, Extracted, source
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from resources.object_store.local import LocalObjectStore
from resources.row_cache import RowCache
from tests.fixtures.landing import landing_platform

AT = datetime(2026, 1, 1, tzinfo=UTC)


@source("shop")
def shop(extract: Extract) -> Iterator[Extracted]:
    """A thousand rows that compress badly."""
    for n in range(1000):
        yield Entity(entity_type="t", entity_key=f"k/{n}", attributes={"n": n, "x": str(n) * 50})


@pytest.fixture
def manifests(local_store: LocalObjectStore, tmp_path: Path) -> list[Manifest]:
    platform = landing_platform(local_store, tmp_path / "lander")
    found = []
    for n in range(4):
        extract_source(platform, shop, AT + timedelta(days=n))
        found.append(land_batch(platform, shop, AT + timedelta(days=n)).manifest)
    return found


def test_the_least_recently_used_goes_first(
    local_store: LocalObjectStore, tmp_path: Path, manifests: list[Manifest]
) -> None:
    """Beyond its limit the cache drops what was not used for longest, and makes it again when asked."""
    folder = tmp_path / "cache"
    one = RowCache(local_store, folder)
    one.rows(manifests[0], Kind.ENTITY)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    small = RowCache(local_store, folder, max_bytes=int(2.5 * size))
    for manifest in manifests:
        assert small.rows(manifest, Kind.ENTITY).index.rows == 1000
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 2
    assert all(
        m.source_timestamp.strftime("%Y-%m-%d") in n
        for m, n in zip(manifests[2:], names, strict=True)
    )
    again = RowCache(local_store, folder).rows(manifests[0], Kind.ENTITY)
    assert again.take(np.array([5])).num_rows == 1


def test_what_is_open_survives_its_eviction(
    local_store: LocalObjectStore, tmp_path: Path, manifests: list[Manifest]
) -> None:
    """Rows that somebody holds stay readable when their entry is dropped."""
    cache = RowCache(local_store, tmp_path / "cache", max_bytes=0)
    held = cache.rows(manifests[0], Kind.ENTITY)
    cache.rows(manifests[1], Kind.ENTITY)
    assert held.take(np.arange(1000)).num_rows == 1000
    assert held.index.sections["t"].totals.rows == 1000


def test_threads_build_an_entry_once(
    local_store: LocalObjectStore,
    tmp_path: Path,
    manifests: list[Manifest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight threads that want one batch at once fetch it once."""
    opened: list[str] = []
    open_ = local_store.open

    def watched(key: str) -> AbstractContextManager[BinaryIO]:
        opened.append(key)
        return open_(key)

    monkeypatch.setattr(local_store, "open", watched)
    cache = RowCache(local_store, tmp_path / "cache")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cache.rows(manifests[0], Kind.ENTITY), range(8)))
    assert len({id(rows) for rows in found}) == 1
    assert len([key for key in opened if key.endswith(".parquet")]) == 1


_READ = """
import sys
from pathlib import Path
from penstock.batch.manifest import read_manifest
from penstock.batch.rows import Kind
from resources.object_store.local import LocalObjectStore
from resources.row_cache import RowCache

store, cache, *keys = sys.argv[1:]
objects = LocalObjectStore(Path(store))
rows = RowCache(objects, Path(cache), max_bytes=300_000)
for _ in range(3):
    for key in keys:
        manifest = read_manifest(objects.get(key), where=key)
        assert rows.rows(manifest, Kind.ENTITY).index.rows == 1000
    rows = RowCache(objects, Path(cache), max_bytes=300_000)
"""


def test_processes_share_a_cache_that_is_too_small_for_them(
    local_store: LocalObjectStore, tmp_path: Path, manifests: list[Manifest]
) -> None:
    """Processes that evict each other's entries all read every batch, and leave nothing half built."""
    keys = [
        found.key for found in local_store.list("batches/") if found.key.endswith("_manifest.json")
    ]
    command = [
        sys.executable,
        "-c",
        _READ,
        str(tmp_path / "objects"),
        str(tmp_path / "cache"),
        *keys,
    ]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    # All of them first: one that fails must not leave the others behind.
    said = [process.communicate(timeout=120)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], "\n".join(said)
    assert not [
        path for path in (tmp_path / "cache").iterdir() if path.name.startswith("building-")
    ]


def test_what_a_dead_process_was_building_is_removed(
    local_store: LocalObjectStore, tmp_path: Path, manifests: list[Manifest]
) -> None:
    """A folder whose maker holds its lock no more goes with the next eviction."""
    folder = tmp_path / "cache"
    cache = RowCache(local_store, folder)
    (folder / "building-dead").mkdir()
    (folder / "building-dead" / "lock").touch()
    (folder / "building-dead" / "rows.arrow").write_bytes(b"half")
    cache.rows(manifests[0], Kind.ENTITY)
    assert not (folder / "building-dead").exists()
