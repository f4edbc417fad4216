"""Writing a batch: rows in any order become sorted, indexed files, committed by the manifest that is put last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.batch.index import write_index
from penstock.batch.keyed import RowKeys, SortedRows, check_unique
from penstock.batch.manifest import (
    DataFile,
    Files,
    IndexFileEntry,
    Manifest,
    batch_prefix,
    manifest_key,
    read_manifest,
)
from penstock.batch.rows import SCHEMAS, TYPE_COLUMN, Kind
from penstock.identity.ids import BatchId
from penstock.ports.rows import KeptRows
from penstock.ports.scratch import Spool
from penstock.use_cases.platform import Platform
from penstock.use_cases.written_file import WrittenFile, written_file

ROW_GROUP_ROWS = 65_536
PART_BYTES = 512 * 1024 * 1024
"""Arrow bytes after which a batch begins another file."""
KindRows = tuple[Kind, pa.Table]


def find_manifest(platform: Platform, batch: BatchId) -> Manifest | None:
    """Return the manifest of a landed batch, or None if it is not committed."""
    key = manifest_key(batch)
    if platform.objects.stat(key) is None:
        return None
    return read_manifest(platform.objects.get(key), where=platform.objects.url(key))


@dataclass(kw_only=True)
class _Sorted:
    """One kind of the batch, ready to be written."""

    kind: Kind
    spool: Spool
    rows: SortedRows


@dataclass
class BatchWriter:
    """One attempt to write one batch. Its files have names of their own, so that attempts never share one."""

    platform: Platform
    batch: BatchId
    hashing_s: float = 0.0
    """Seconds that hashing took."""
    attempt: str = field(default_factory=lambda: uuid4().hex[:8])
    written: list[str] = field(default_factory=list)

    def write(
        self, rows: Iterable[KindRows], manifest_of: Callable[[dict[Kind, Files]], Manifest]
    ) -> tuple[Manifest, bool]:
        """Write rows (canonical, of ``SCHEMAS``) and commit them with the manifest that ``manifest_of`` makes.

        Returns the manifest that stands at the end, and whether it is this one: another attempt may have been first.
        Memory is bounded by the chunk and 48 bytes a row. What was written is taken away if it is not committed.
        """
        committed = False
        try:
            with ExitStack() as stack:
                files, kept = {}, {}
                for ordered in self._spool(rows, stack):
                    keeping = stack.enter_context(self.platform.batches.keep(ordered.kind))
                    kept[ordered.kind] = keeping
                    files[ordered.kind] = self._write(ordered, keeping)
                manifest, committed = self._commit(manifest_of(files))
                if committed:
                    for keeping in kept.values():
                        keeping.commit(manifest)
            return manifest, committed
        finally:
            if not committed:
                self.platform.objects.delete(self.written)

    def _spool(self, chunks: Iterable[KindRows], stack: ExitStack) -> list[_Sorted]:
        """Put all rows of both kinds down in the order in which they come, with their keys and digests in memory."""
        scratch = self.platform.scratch
        spools = {kind: stack.enter_context(scratch.spool(SCHEMAS[kind])) for kind in Kind}
        keys = {kind: RowKeys(kind) for kind in Kind}
        for kind, rows in chunks:
            with self._hashing():
                keys[kind].add(rows)
            spools[kind].append(rows)
        kinds = []
        for kind in Kind:
            ordered = keys[kind].sort()
            check_unique(kind, ordered, spools[kind].take)
            kinds.append(_Sorted(kind=kind, spool=spools[kind], rows=ordered))
        return kinds

    @contextmanager
    def _hashing(self) -> Iterator[None]:
        start = self.platform.clock.monotonic_s()
        yield
        self.hashing_s += self.platform.clock.monotonic_s() - start

    def _write(self, rows: _Sorted, kept: KeptRows) -> Files:
        parts = _Parts(self, rows.kind)
        with parts:
            for chunk in rows.rows.chunks(rows.spool.take):
                parts.append(chunk)
                kept.append(chunk)
        kept.write_index(rows.rows.sections)
        return Files(
            parts=tuple(parts.entries),
            index=self._write_index(rows) if rows.rows.sections else None,
            counts=rows.rows.counts,
        )

    def _write_index(self, rows: _Sorted) -> IndexFileEntry:
        path = f"{rows.kind}-{self.attempt}.index"
        with self.file(path) as file:
            write_index(file, rows.rows.sections)
        return IndexFileEntry(path=path, size_bytes=file.size_bytes, sha256=file.sha256)

    @contextmanager
    def file(self, path: str) -> Iterator[WrittenFile]:
        """Write one file of the batch, to be taken away again if the batch is not committed."""
        folder = batch_prefix(self.batch)
        with written_file(self.platform.objects, folder, path) as file:
            yield file
        self.written.append(folder + path)

    def _commit(self, manifest: Manifest) -> tuple[Manifest, bool]:
        """Put the manifest; return the one that stands, and whether it is ours."""
        key = manifest_key(self.batch)
        if self.platform.objects.put_if_absent(key, manifest.to_json()):
            return manifest, True
        standing = find_manifest(self.platform, self.batch)
        assert standing is not None
        # It is ours after all if the answer to our put was lost on the way and the put repeated.
        return standing, standing == manifest


class _Parts:
    """The Parquet files of one kind: the next one begins when one is large enough."""

    def __init__(self, writer: BatchWriter, kind: Kind) -> None:
        self.entries: list[DataFile] = []
        self._owner = writer
        self._kind = kind
        self._stack = ExitStack()
        self._file: WrittenFile | None = None
        self._rows = 0
        self._arrow_bytes = 0

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *raised: object) -> None:
        if raised[0] is None:
            self._finish()
        else:
            self._stack.__exit__(*raised)  # type: ignore[arg-type]

    def append(self, rows: pa.Table) -> None:
        if self._file is None:
            self._begin()
        self._writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
        self._rows += len(rows)
        self._arrow_bytes += rows.nbytes
        if self._arrow_bytes >= PART_BYTES:
            self._finish()

    def _begin(self) -> None:
        path = f"{self._kind}/part-{len(self.entries):05d}-{self._owner.attempt}.parquet"
        self._file = self._stack.enter_context(self._owner.file(path))
        self._rows = self._arrow_bytes = 0
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._file, "w"),
            SCHEMAS[self._kind],
            compression="zstd",
            use_dictionary=[TYPE_COLUMN[self._kind]],
            write_statistics=[n for n in SCHEMAS[self._kind].names if n != "attributes"],
        )

    def _finish(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        self._writer.close()
        self._stack.close()
        self.entries.append(
            DataFile(
                path=file.path, rows=self._rows, size_bytes=file.size_bytes, sha256=file.sha256
            )
        )
