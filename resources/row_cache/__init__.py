"""The row cache: batches on local disk, in the order of their index, as :class:`penstock.ports.rows.BatchReader` asks.

A batch that this machine landed is fed to the cache as it is written. Any other is fetched, checked against its
manifest, made canonical, sorted and indexed, whoever wrote it. All of it can be lost and is made again: an entry is a
folder that appears by one rename, is named by the digests of the files behind it, and is never changed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from penstock.batch.index import IndexFile, KeyedRows, write_index
from penstock.batch.manifest import Manifest
from penstock.batch.rows import SCHEMAS, Kind
from penstock.ports.object_store import ObjectStore
from resources.row_cache.build import build
from resources.row_cache.entries import INDEX, ROWS, Entries, MappedFile
from resources.row_cache.row_file import RowFile, RowFileWriter

_OPEN_FILES = 64

__all__ = ["RowCache"]


class CachedRows(RowFile):
    """All rows of one kind of one batch, with their index. Conforms to :class:`penstock.ports.rows.BatchRows`."""

    def __init__(self, folder: Path, where: str) -> None:
        super().__init__(folder / ROWS)
        self._index = IndexFile.open(MappedFile(folder / INDEX), where=where)

    @property
    def index(self) -> IndexFile:
        """The index sidecar."""
        return self._index


class RowCache:
    """A folder of batches, no larger than ``max_bytes`` but for what is in use. Safe under threads and processes."""

    def __init__(self, objects: ObjectStore, folder: Path, *, max_bytes: int = 10 * 2**30) -> None:
        self._objects = objects
        self._entries = Entries(folder, max_bytes=max_bytes)
        self._open: OrderedDict[str, CachedRows] = OrderedDict()
        self._lock = threading.Lock()
        self._building: dict[str, threading.Lock] = {}

    def rows(self, manifest: Manifest, kind: Kind) -> CachedRows:
        """Return the rows of one kind, fetched and validated if they are not here."""
        name = self._entries.name(manifest, kind)
        rows = self._held(name)
        if rows is not None:
            return rows
        with self._lock:
            building = self._building.setdefault(name, threading.Lock())
        with building:
            rows = self._held(name) or self._opened(name, manifest, kind)
            with self._lock:
                self._open[name] = rows
                self._building.pop(name, None)
                while len(self._open) > _OPEN_FILES:
                    self._open.popitem(last=False)
        return rows

    def _held(self, name: str) -> CachedRows | None:
        with self._lock:
            if name in self._open:
                self._open.move_to_end(name)
            return self._open.get(name)

    def _opened(self, name: str, manifest: Manifest, kind: Kind) -> CachedRows:
        where = f"index of {manifest.batch_id} {kind}"
        while True:
            try:
                with self._entries.used(name) as folder:
                    return CachedRows(folder, where)
            except FileNotFoundError:  # not there, or just evicted by another process
                with self._entries.building() as folder:
                    build(self._objects, manifest, kind, folder)
                    rows = CachedRows(folder, where)
                    self._entries.add(name, folder)
                    return rows

    @contextmanager
    def keep(self, kind: Kind) -> Iterator[KeptRows]:
        """Take the rows of a batch while it is landed; they stay if ``commit`` is called before the block ends."""
        with self._entries.building() as folder:
            kept = KeptRows(self._entries, folder, kind)
            try:
                yield kept
            finally:
                kept.close()


class KeptRows:
    """Rows that come in the order of their index, and then the index."""

    def __init__(self, entries: Entries, folder: Path, kind: Kind) -> None:
        self._entries = entries
        self._folder = folder
        self._kind = kind
        self._writer = RowFileWriter(folder / ROWS, SCHEMAS[kind])

    def append(self, rows: pa.Table) -> None:
        """Put rows down behind those that are there."""
        self._writer.append(rows)

    def write_index(self, sections: tuple[KeyedRows, ...]) -> None:
        """Write the index of all rows."""
        with (self._folder / INDEX).open("wb") as sink:
            write_index(sink, sections)

    def commit(self, manifest: Manifest) -> None:
        """Make this the cache's entry for the batch that ``manifest`` commits."""
        self.close()
        self._entries.add(self._entries.name(manifest, self._kind), self._folder)

    def close(self) -> None:
        """Finish the file of rows; again is no error."""
        self._writer.close()
