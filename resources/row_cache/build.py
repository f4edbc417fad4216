"""An entry of the row cache, built from a batch in the object store that anyone may have written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from penstock.batch.index import BytesReader, Column, IndexFile, KeyedRows, write_index
from penstock.batch.keyed import RowKeys, SortedRows, check_unique
from penstock.batch.manifest import Manifest
from penstock.batch.rows import SCHEMAS, Kind
from penstock.errors import BadFile, BadManifest
from penstock.ports.object_store import ObjectStore
from resources.row_cache.download import download, read_part
from resources.row_cache.entries import INDEX, ROWS
from resources.row_cache.row_file import RowFile, RowFileWriter


def build(objects: ObjectStore, manifest: Manifest, kind: Kind, folder: Path) -> None:
    """Write ``rows.arrow`` and ``rows.index`` of one kind of a batch into an empty folder.

    Memory is bounded by the chunk and 48 bytes a row. Raises what :meth:`BatchReader.rows` raises.
    """
    unsorted = folder / "unsorted.arrow"
    keys, parts = _spool(objects, manifest, kind, unsorted)
    ordered = keys.sort()
    _check_counts(manifest, kind, ordered)
    rows = RowFile(unsorted)
    check_unique(kind, ordered, rows.take, parts.name)
    if np.array_equal(ordered.order, np.arange(len(ordered.order))):
        unsorted.rename(folder / ROWS)
    else:
        with RowFileWriter(folder / ROWS, SCHEMAS[kind]) as sink:
            for chunk in ordered.chunks(rows.take):
                sink.append(chunk)
        unsorted.unlink()
    with (folder / INDEX).open("wb") as index:
        write_index(index, ordered.sections)
    _check_index(objects, manifest, kind, ordered, folder)


class _Parts:
    """Where the rows of each file begin in the spool."""

    def __init__(self) -> None:
        self._starts: list[tuple[int, str]] = []

    def begin(self, row: int, where: str) -> None:
        self._starts.append((row, where))

    def name(self, row: int) -> str:
        start, where = max(s for s in self._starts if s[0] <= row)
        return f"{where}, row {row - start}"


def _spool(
    objects: ObjectStore, manifest: Manifest, kind: Kind, to: Path
) -> tuple[RowKeys, _Parts]:
    keys, parts, row = RowKeys(kind), _Parts(), 0
    local = to.with_name("part.parquet")
    with RowFileWriter(to, SCHEMAS[kind]) as sink:
        for part in manifest.files(kind).parts:
            where = download(objects, manifest, part, local)
            parts.begin(row, where)
            for chunk in read_part(local, where, manifest, kind, part):
                sink.append(chunk)
                keys.add(chunk)
            row += part.rows
            local.unlink()
    return keys, parts


def _check_counts(manifest: Manifest, kind: Kind, ordered: SortedRows) -> None:
    declared = {name: n for name, n in manifest.files(kind).counts.items() if n}
    if ordered.counts != declared:
        names = sorted({*declared, *ordered.counts})
        differ = [n for n in names if declared.get(n, 0) != ordered.counts.get(n, 0)]
        shown = ", ".join(
            f"{n}: {ordered.counts.get(n, 0):,} rows, {declared.get(n, 0):,} declared"
            for n in differ[:5]
        )
        raise BadManifest(
            f"{manifest.batch_id}: {kind}.counts do not agree with the files ({shown}): correct them and land "
            "the batch again, under a new timestamp"
        )


def _check_index(
    objects: ObjectStore, manifest: Manifest, kind: Kind, ordered: SortedRows, folder: Path
) -> None:
    """Refuse a batch whose own index says other than its rows."""
    entry = manifest.files(kind).index
    if entry is None:
        return
    local = folder / "theirs.index"
    where = download(objects, manifest, entry, local)
    data = local.read_bytes()
    local.unlink()
    if data == (folder / INDEX).read_bytes():
        return
    theirs = IndexFile.open(BytesReader(data), where=where)
    ours = {section.type_name: section for section in ordered.sections}
    bad = sorted(set(theirs.sections) ^ set(ours))
    bad += [
        name
        for name in ours
        if name in theirs.sections and _differ(ours[name], theirs.sections[name])
    ]
    if bad:
        raise BadFile(
            f"{where} does not index the rows of the batch (type {bad[0]!r} differs): leave the index out of the "
            "manifest, and Penstock makes one; land the batch again, under a new timestamp"
        )


def _differ(ours: KeyedRows, theirs: KeyedRows) -> bool:
    if ours.rows != theirs.rows or ours.totals != theirs.totals:
        return True
    columns: tuple[Column, ...] = ("key_hi", "key_lo", "hash_hi", "hash_lo")
    pairs = zip(ours.read(columns, 0, ours.rows), theirs.read(columns, 0, ours.rows), strict=True)
    return not all(np.array_equal(a, b) for a, b in pairs)
