"""Committing a snapshot after 1 % of its entities changed, as a part of ``bench execute``.

One operation of the plan is left out, as if the target had refused it: otherwise the snapshot would equal the
batch, refer to its index, and write nothing at all. The peer writes what a snapshot stands for in full, keys, digests
and attributes, as Parquet; the other peer only the index of all rows, which is what this project's own base holds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.diff import Case, indexes
from benchmarks.harness import Result, at_most, result
from penstock.batch.index import BytesReader, IndexFile, SectionRows, write_index
from penstock.batch.rows import Kind
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.snapshot.commit import AppliedRows, NewSnapshot, advance
from penstock.snapshot.view import SnapshotView
from resources.object_store.local import LocalObjectStore

_CHANGED = Case(name="1 % updated", rate=0.01)
_BATCH = BatchId("bench@2026-01-02T00-00-00.000000Z")


def snapshot_commit(rows: int, rounds: int) -> list[Result]:
    """Measure both ways, turn about, into a folder on disk that syncs what it is given."""
    before, after = indexes(rows, _CHANGED)
    with tempfile.TemporaryDirectory() as folder:
        store = LocalObjectStore(Path(folder))
        view, batch = _published(before, store), _index(after)
        applied = _updates(before, after)
        table = _whole(after)
        sides: list[Callable[[], int]] = [
            lambda: _commit(store, view, batch, applied),
            lambda: _rewrite_rows(store, table),
            lambda: _rewrite_index(store, after),
        ]
        seconds: list[list[float]] = [[] for _ in sides]
        sizes = [0] * len(sides)
        for _ in range(rounds):
            for n, side in enumerate(sides):
                start = perf_counter()
                sizes[n] = side()
                seconds[n].append(perf_counter() - start)
    return _results(rows, [median(times) for times in seconds], sizes)


def _results(rows: int, seconds: list[float], sizes: list[int]) -> list[Result]:
    name = f"snapshot commit, {rows:,} entities, 1 % changed"
    rewrite, index = "rewrite of rows as Parquet", "rewrite of the index alone"
    return [
        result(f"{name}: time", seconds[0] * 1e3, "ms"),
        result(
            f"{name}: time", 100 * seconds[0] / seconds[1], "%", peer=rewrite, goal=at_most(3, "%")
        ),
        result(
            f"{name}: bytes", 100 * sizes[0] / sizes[1], "%", peer=rewrite, goal=at_most(2, "%")
        ),
        result(f"{name}: time", 100 * seconds[0] / seconds[2], "%", peer=index),
        result(f"{name}: bytes", 100 * sizes[0] / sizes[2], "%", peer=index),
    ]


def _index(rows: SectionRows) -> IndexFile:
    sink = pa.BufferOutputStream()
    write_index(sink, [rows])
    return IndexFile.open(BytesReader(sink.getvalue().to_pybytes()))


def _published(rows: SectionRows, store: LocalObjectStore) -> SnapshotView:
    """Return the snapshot that publishing all rows of a first batch gave."""
    nothing = np.zeros(rows.rows, np.uint64)
    first = _index(rows)
    applied = AppliedRows(
        type_name=rows.type_name,
        key_hi=rows.key_hi,
        key_lo=rows.key_lo,
        before_hi=nothing,
        before_lo=nothing,
        hash_hi=rows.hash_hi,
        hash_lo=rows.hash_lo,
        row=np.arange(rows.rows),
    )
    view = SnapshotView(None, {kind: {} for kind in Kind})
    new = _advance(view, first, applied, BatchId("bench@2026-01-01T00-00-00.000000Z"))
    return SnapshotView.open(store, new.manifest, lambda _batch, _kind: first)


def _updates(before: SectionRows, after: SectionRows) -> AppliedRows:
    """Return all updates but one; creates and deletes of the case are left out, which changes nothing to measure."""
    old = {key: n for n, key in enumerate(zip(before.key_hi, before.key_lo, strict=True))}
    pairs = [
        (old[key], n)
        for n, key in enumerate(zip(after.key_hi, after.key_lo, strict=True))
        if key in old
    ]
    was, now = (np.array(column) for column in zip(*pairs, strict=True))
    changed = before.hash_hi[was] != after.hash_hi[now]
    was, now = was[changed][1:], now[changed][1:]
    return AppliedRows(
        type_name=before.type_name,
        key_hi=before.key_hi[was],
        key_lo=before.key_lo[was],
        before_hi=before.hash_hi[was],
        before_lo=before.hash_lo[was],
        hash_hi=after.hash_hi[now],
        hash_lo=after.hash_lo[now],
        row=now,
    )


def _advance(
    view: SnapshotView, batch: IndexFile, applied: AppliedRows, batch_id: BatchId
) -> NewSnapshot:
    return advance(
        view,
        source_id=SourceId("bench"),
        target_id=TargetId("registry"),
        batch_id=batch_id,
        batch={Kind.ENTITY: batch},
        applied={Kind.ENTITY: [applied]},
    )


def _commit(
    store: LocalObjectStore, view: SnapshotView, batch: IndexFile, applied: AppliedRows
) -> int:
    size = 0
    for file in _advance(view, batch, applied, _BATCH).files:
        with store.upload(file.key) as sink:
            file.write(sink)
        stat = store.stat(file.key)
        assert stat is not None
        size += stat.size_bytes
    return size


def _whole(rows: SectionRows) -> pa.Table:
    """Return keys, digests and attributes of some 160 bytes for every row."""
    n = rows.rows
    random = np.random.default_rng(1)
    words = np.array(
        [f"column_{word:x} varchar(64) not null" for word in random.integers(0, 2**40, 4096)]
    )
    picked = [pa.array(words).take(pa.array(random.integers(0, 4096, n))) for _ in range(4)]
    joined = picked[0].to_pylist()
    texts = [
        "|".join(parts) for parts in zip(joined, *(p.to_pylist() for p in picked[1:]), strict=True)
    ]
    halves = {name: getattr(rows, name) for name in ("key_hi", "key_lo", "hash_hi", "hash_lo")}
    keys = [f"server/database/schema/{high:016x}" for high in rows.key_hi.tolist()]
    return pa.table({**halves, "key": keys, "attributes": texts})


def _rewrite_rows(store: LocalObjectStore, table: pa.Table) -> int:
    with store.upload("snapshots/whole.parquet") as sink:
        pq.write_table(table, sink)
    return _size(store, "snapshots/whole.parquet")


def _rewrite_index(store: LocalObjectStore, rows: SectionRows) -> int:
    with store.upload("snapshots/whole.index") as sink:
        write_index(sink, [rows])
    return _size(store, "snapshots/whole.index")


def _size(store: LocalObjectStore, key: str) -> int:
    stat = store.stat(key)
    assert stat is not None
    return stat.size_bytes
