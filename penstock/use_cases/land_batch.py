"""Land a batch: an extract, transformed, checked, hashed, sorted, indexed, and committed by its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.batch.encode import decoded, encode
from penstock.batch.extract_record import ExtractRecord, extract_prefix
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
from penstock.batch.rows import SCHEMAS, TYPE_COLUMN, Entity, Kind, Relationship
from penstock.batch.source import SourceDefinition, Transform
from penstock.batch.validate import check_rows
from penstock.errors import BadRow, ObjectMissing
from penstock.identity import ids
from penstock.identity.ids import BatchId
from penstock.ports.rows import KeptRows
from penstock.ports.scratch import Spool
from penstock.use_cases.extract_source import find_extract
from penstock.use_cases.platform import Platform
from penstock.use_cases.read_extract import read_extract
from penstock.use_cases.reports import LandReport
from penstock.use_cases.written_file import WrittenFile, written_file

ROW_GROUP_ROWS = 65_536
PART_BYTES = 512 * 1024 * 1024
"""Arrow bytes after which a batch begins another file."""


def land_batch(
    platform: Platform,
    definition: SourceDefinition,
    source_timestamp: datetime,
    *,
    run_id: str | None = None,
) -> LandReport:
    """Make a batch of an extract and commit it at ``batches/<source>/<timestamp>/``.

    A batch that is there already is left as it is. Rows that the transform drops are counted as filtered; scopes
    stay as the extractor declared them, so that what is dropped from a complete scope is gone from the targets.
    Memory is bounded by the chunk and 48 bytes a row. Raises ``ObjectMissing`` without an extract, ``BadFile`` for a
    damaged one and ``BadRow`` for a row that no batch can hold; nothing is committed then.
    """
    start = platform.clock.monotonic_s()
    batch = ids.batch_id(definition.spec.source_id, source_timestamp)
    manifest = find_manifest(platform, batch)
    already_landed, hashing_s = manifest is not None, 0.0
    if manifest is None:
        landing = _Landing(platform, definition, batch, run_id)
        manifest, already_landed = landing.run()
        hashing_s = landing.hashing_s
    return LandReport(
        manifest=manifest,
        path=platform.objects.url(batch_prefix(batch)),
        already_landed=already_landed,
        size_bytes=_size_bytes(manifest),
        duration_ms=round(1000 * (platform.clock.monotonic_s() - start)),
        hashing_ms=round(1000 * hashing_s),
    )


def find_manifest(platform: Platform, batch: BatchId) -> Manifest | None:
    """Return the manifest of a landed batch, or None if it is not committed."""
    key = manifest_key(batch)
    if platform.objects.stat(key) is None:
        return None
    return read_manifest(platform.objects.get(key), where=platform.objects.url(key))


def _size_bytes(manifest: Manifest) -> int:
    files = [manifest.files(kind) for kind in Kind]
    indexes = sum(f.index.size_bytes for f in files if f.index is not None)
    return indexes + sum(part.size_bytes for f in files for part in f.parts)


@dataclass(kw_only=True)
class _Sorted:
    """One kind of the batch, ready to be written."""

    kind: Kind
    spool: Spool
    rows: SortedRows


@dataclass
class _Landing:
    """One attempt to land one batch. Its files have names of their own, so that attempts never share one."""

    platform: Platform
    definition: SourceDefinition
    batch: BatchId
    run_id: str | None
    hashing_s: float = 0.0
    attempt: str = field(default_factory=lambda: uuid4().hex[:8])
    filtered: Counter[tuple[Kind, str]] = field(default_factory=Counter)
    written: list[str] = field(default_factory=list)

    def run(self) -> tuple[Manifest, bool]:
        """Return the manifest that stands at the end, and whether another attempt had put it there."""
        record = find_extract(self.platform.objects, self.batch)
        if record is None:
            raise ObjectMissing(
                f"{self.platform.objects.url(extract_prefix(self.batch))} holds no finished extract: extract the "
                f"source at this timestamp before landing batch {self.batch!r}"
            )
        committed = False
        try:
            with ExitStack() as stack:
                kinds = self._spool(record, stack)
                files, kept = {}, {}
                for rows in kinds:
                    kept[rows.kind] = stack.enter_context(self.platform.batches.keep(rows.kind))
                    files[rows.kind] = self._write(rows, kept[rows.kind])
                manifest, committed = self._commit(record, files)
                if committed:
                    for keeping in kept.values():
                        keeping.commit(manifest)
            return manifest, not committed
        finally:
            if not committed:
                self.platform.objects.delete(self.written)

    # Reading ------------------------------------------------------------------------------------------

    def _spool(self, record: ExtractRecord, stack: ExitStack) -> list[_Sorted]:
        """Put all rows of both kinds down in the order in which they come, with their keys and digests in memory."""
        scratch = self.platform.scratch
        spools = {kind: stack.enter_context(scratch.spool(SCHEMAS[kind])) for kind in Kind}
        keys = {kind: RowKeys(kind) for kind in Kind}
        for kind, rows in self._rows(record):
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

    def _rows(self, record: ExtractRecord) -> Iterator[tuple[Kind, pa.Table]]:
        objects, folder = self.platform.objects, extract_prefix(self.batch)
        for kind, file in record.files.items():
            chunks = read_extract(objects, folder, file)
            if self.definition.transform is None:
                yield from ((kind, rows) for rows in chunks)
            else:
                yield from self._transformed(self.definition.transform, kind, chunks)

    def _transformed(
        self, transform: Transform, kind: Kind, chunks: Iterator[pa.Table]
    ) -> Iterator[tuple[Kind, pa.Table]]:
        row = Counter[Kind]()
        for made, rows in encode(self._made(transform, kind, chunks)):
            first = row[made]
            check_rows(
                made,
                rows,
                self.definition.mode,
                lambda n, made=made, first=first: f"transformed {made}, row {first + n}",  # type: ignore[misc]
            )
            row[made] += len(rows)
            yield made, rows

    def _made(
        self, transform: Transform, kind: Kind, chunks: Iterator[pa.Table]
    ) -> Iterator[Entity | Relationship]:
        for chunk in chunks:
            for row in decoded(kind, chunk):
                made = list(transform(row))
                if not made:
                    self.filtered[kind, _type_of(row)] += 1
                yield from made

    # Writing ------------------------------------------------------------------------------------------

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

    def _commit(self, record: ExtractRecord, files: dict[Kind, Files]) -> tuple[Manifest, bool]:
        """Put the manifest; return the one that stands, and whether it is ours."""
        spec = self.definition.spec
        for kind in Kind:
            filtered = Counter(record.filtered.get(kind, {}))
            filtered.update({name: n for (k, name), n in self.filtered.items() if k is kind})
            files[kind] = files[kind].model_copy(
                update={"filtered": dict(sorted(filtered.items()))}
            )
        manifest = Manifest(
            source_id=spec.source_id,
            tenant_id=spec.tenant_id,
            source_timestamp=record.source_timestamp,
            processing_timestamp=self.platform.clock.now(),
            mode=self.definition.mode,
            run_id=self.run_id,
            entities=files[Kind.ENTITY],
            relationships=files[Kind.RELATIONSHIP],
            scopes=record.scopes,
            relationship_types=self.definition.relationship_types,
        )
        key = manifest_key(self.batch)
        if self.platform.objects.put_if_absent(key, manifest.to_json()):
            return manifest, True
        standing = find_manifest(self.platform, self.batch)
        assert standing is not None
        # It is ours after all if the answer to our put was lost on the way and the put repeated.
        return standing, standing == manifest


def _type_of(row: Entity | Relationship) -> str:
    return row.entity_type if isinstance(row, Entity) else row.relationship_type


class _Parts:
    """The Parquet files of one kind: the next one begins when one is large enough."""

    def __init__(self, landing: _Landing, kind: Kind) -> None:
        self.entries: list[DataFile] = []
        self._landing = landing
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
        path = f"{self._kind}/part-{len(self.entries):05d}-{self._landing.attempt}.parquet"
        self._file = self._stack.enter_context(self._landing.file(path))
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


__all__ = ["BadRow", "find_manifest", "land_batch"]
