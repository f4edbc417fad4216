"""Landing: rows of a source to a committed batch with its index, and the share of it that hashing takes.

``docs/adr/0005-row-layout.md`` rests on the second half: fetching 1 % of a batch's rows at random from several layouts.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import Result, at_most, result, timed
from penstock.batch.manifest import batch_prefix
from penstock.batch.rows import Entity, Kind
from penstock.batch.source import Extract, Extracted, SourceDefinition, source
from penstock.ports.control import ControlStore
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.platform import Platform
from resources.clock import SystemClock
from resources.object_store.local import LocalObjectStore
from resources.row_cache import RowCache
from resources.row_cache.row_file import RowFile
from resources.row_cache.scratch import LocalScratch

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_CHUNK = 50_000


def run(*, quick: bool = False) -> list[Result]:
    """Land 1M entities (20k if quick) from Arrow columns and from Python values, and fetch rows of what landed."""
    rows = 20_000 if quick else 1_000_000
    found: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        platform = _platform(Path(folder))
        arrow = _landed(platform, _arrow_source(rows), rows, "Arrow columns", found)
        _landed(platform, _python_source(rows), rows, "Python entities", found)
        _parquet_alone(platform, arrow, rows, found)
        found += _fetching(platform, arrow, rows, Path(folder))
    return found


def _platform(folder: Path) -> Platform:
    objects = LocalObjectStore(folder / "objects")
    return Platform(
        objects=objects,
        control=cast("ControlStore", None),
        batches=RowCache(objects, folder / "cache"),
        targets={},
        clock=SystemClock(),
        scratch=LocalScratch(folder / "scratch"),
    )


def _columns(start: int, stop: int) -> dict[str, Any]:
    """Columns of about 0.4 KB a row, as a catalog has them."""
    n = np.arange(start, stop)
    tables = [f"warehouse/sales/t{i // 50:06d}" for i in n]
    names = [f"column_{i % 50}" for i in n]
    return {
        "entity_key": [f"{table}/{name}" for table, name in zip(tables, names, strict=True)],
        "name": names,
        "data_type": [("bigint", "varchar(255)", "timestamp", "numeric(18,4)")[i % 4] for i in n],
        "nullable": n % 3 == 0,
        "ordinal": n % 50,
        "mean_bytes": n * 0.25,
        "created": [_AT + timedelta(seconds=int(i)) for i in n],
        "comment": [f"The column {i} of the sales table; " + "it says so. " * 12 for i in n],
    }


def _arrow_source(rows: int) -> SourceDefinition:
    tables = []
    for start in range(0, rows, _CHUNK):
        columns = _columns(start, min(start + _CHUNK, rows))
        kinds = ["column"] * len(columns["name"])
        tables.append(pa.table({"entity_type": kinds, **columns}))

    @source("arrow")
    def declared(extract: Extract) -> Iterator[Extracted]:
        with extract.scope("column"):
            yield from tables

    return declared


def _python_source(rows: int) -> SourceDefinition:
    @source("python")
    def declared(extract: Extract) -> Iterator[Extracted]:
        with extract.scope("column"):
            for start in range(0, rows, _CHUNK):
                columns = {
                    name: values.tolist() if isinstance(values, np.ndarray) else values
                    for name, values in _columns(start, min(start + _CHUNK, rows)).items()
                }
                keys = columns.pop("entity_key")
                for key, *row in zip(keys, *columns.values(), strict=True):
                    attributes = dict(zip(columns, row, strict=True))
                    yield Entity(entity_type="column", entity_key=key, attributes=attributes)

    return declared


def _landed(
    platform: Platform, definition: SourceDefinition, rows: int, name: str, found: list[Result]
) -> Any:
    start = perf_counter()
    for _ in definition.extractor(Extract(source_timestamp=_AT)):
        pass
    source_s = perf_counter() - start
    start = perf_counter()
    extract_source(platform, definition, _AT)
    extract_s = perf_counter() - start - source_s  # what the source itself takes is not ours
    with _own_memory() as grown_bytes:
        report = land_batch(platform, definition, _AT)
    land_s, hash_s = report.duration_ms / 1000, report.hashing_ms / 1000
    found += [
        result(f"{name}: extract", rows / extract_s, "rows/s"),
        result(f"{name}: land", rows / land_s, "rows/s"),
        result(f"{name}: rows to committed batch", rows / (extract_s + land_s), "rows/s"),
        result(f"{name}: landing takes, mapped files apart", max(grown_bytes) / 2**20, "MiB"),
        result(f"{name}: hashing", 1e6 * hash_s / rows, "us/row"),
        result(
            f"{name}: hashing",
            100 * hash_s / (extract_s + land_s),
            "%",
            peer="rows to committed batch",
            goal=at_most(25, "%"),
        ),
        result(f"{name}: hashing", 100 * hash_s / land_s, "%", peer="land_batch alone"),
    ]
    return report.manifest


@contextmanager
def _own_memory() -> Iterator[list[int]]:
    """Sample by how much this process's own memory grows; pages of mapped files are the system's to take back."""
    grown, done = [0], threading.Event()
    before = _anonymous_bytes()

    def sample() -> None:
        while not done.wait(0.02):
            grown.append(_anonymous_bytes() - before)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield grown
    finally:
        done.set()
        sampler.join()


def _anonymous_bytes() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024


def _parquet_alone(platform: Platform, manifest: Any, rows: int, found: list[Result]) -> None:
    table = platform.batches.rows(manifest, Kind.ENTITY).take(np.arange(rows))
    sink = Path(tempfile.gettempdir()) / "penstock-bench.parquet"
    seconds, _ = timed(
        lambda: pq.write_table(table, sink, compression="zstd", row_group_size=65_536), repeat=1
    )
    sink.unlink()
    found.append(result("peer: the same rows to Parquet alone", rows / seconds, "rows/s"))


def _fetching(platform: Platform, manifest: Any, rows: int, folder: Path) -> list[Result]:
    """Fetch 1 % of the rows, spread evenly at random, from each layout."""
    cached = platform.batches.rows(manifest, Kind.ENTITY)
    assert isinstance(cached, RowFile)
    positions = np.sort(np.random.default_rng(7).choice(rows, max(rows // 100, 1), replace=False))
    landed = folder / "objects" / batch_prefix(manifest.batch_id) / manifest.entities.parts[0].path
    small = folder / "small.parquet"
    whole = cached.take(np.arange(rows))
    pq.write_table(whole, small, compression="zstd", row_group_size=1_024)
    ipc = next((folder / "cache").glob("arrow@*entities*/rows.arrow"))
    del whole
    layouts: list[tuple[str, Path, Callable[[], object]]] = [
        ("Parquet, all decoded", landed, lambda: pq.read_table(landed).take(positions)),
        ("Parquet, row groups of 1,024", small, lambda: _by_groups(small, positions)),
        ("mapped Arrow IPC", ipc, lambda: cached.take(positions)),
    ]
    found = []
    for name, path, fetch in layouts:
        seconds, _ = timed(fetch)
        found += [
            result(f"1 % of rows, {name}", 1000 * seconds, "ms"),
            result(f"size, {name}", path.stat().st_size / 2**20, "MiB"),
        ]
    return found


def _by_groups(path: Path, positions: np.ndarray) -> pa.Table:
    file = pq.ParquetFile(path)
    groups = np.unique(positions // 1_024)
    first = np.searchsorted(groups, positions // 1_024) * 1_024
    return file.read_row_groups(groups.tolist()).take(first + positions % 1_024)
