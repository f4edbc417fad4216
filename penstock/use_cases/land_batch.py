"""Land a batch: an extract, transformed, checked, hashed, sorted, indexed, and committed by its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from penstock.batch.encode import decoded, encode
from penstock.batch.extract_record import ExtractRecord, extract_prefix
from penstock.batch.manifest import (
    Files,
    Manifest,
    batch_prefix,
)
from penstock.batch.rows import Entity, Kind, Relationship
from penstock.batch.source import SourceDefinition, Transform
from penstock.batch.validate import check_rows
from penstock.errors import BadRow, ObjectMissing
from penstock.identity import ids
from penstock.identity.ids import BatchId
from penstock.ports.tracing import trace_parent_of
from penstock.use_cases.batch_writer import BatchWriter, find_manifest
from penstock.use_cases.extract_source import find_extract
from penstock.use_cases.platform import Platform
from penstock.use_cases.read_extract import read_extract
from penstock.use_cases.reports import LandReport

ROW_GROUP_ROWS = 65_536
PART_BYTES = 512 * 1024 * 1024
"""Arrow bytes after which a batch begins another file."""


def land_batch(
    platform: Platform,
    definition: SourceDefinition,
    source_timestamp: datetime,
    *,
    run_id: str | None = None,
    trace_parent: str | None = None,
) -> LandReport:
    """Make a batch of an extract and commit it at ``batches/<source>/<timestamp>/``.

    A batch that is there already is left as it is. Rows that the transform drops are counted as filtered; scopes
    stay as the extractor declared them, so that what is dropped from a complete scope is gone from the targets.
    ``trace_parent`` is the trace that it belongs to, and publishing it with it, as the manifest says; without one that
    follows from the batch's id. Memory is bounded by the chunk and 48 bytes a row. Raises ``ObjectMissing`` without an
    extract, ``BadFile`` for a damaged one and ``BadRow`` for a row that no batch can hold; nothing is committed then.
    """
    batch = ids.batch_id(definition.spec.source_id, source_timestamp)
    with platform.tracer.span(
        "penstock.land",
        parent=trace_parent or trace_parent_of(batch),
        batch=batch,
        source=definition.spec.source_id,
        tenant=definition.spec.tenant_id,
    ) as span:
        goes_on = None if trace_parent is None else span.trace_parent or trace_parent
        report = _land(platform, definition, batch, run_id, goes_on)
        rows = sum(report.manifest.files(kind).rows for kind in Kind)
        span.note(rows=rows, already_landed=report.already_landed)
        return report


def _land(
    platform: Platform,
    definition: SourceDefinition,
    batch: BatchId,
    run_id: str | None,
    trace_parent: str | None,
) -> LandReport:
    start = platform.clock.monotonic_s()
    manifest = find_manifest(platform, batch)
    already_landed, hashing_s = manifest is not None, 0.0
    if manifest is None:
        writer = BatchWriter(platform, batch)
        landing = _Landing(platform, definition, batch, run_id, trace_parent, writer)
        manifest, already_landed = landing.run()
        hashing_s = writer.hashing_s
    return LandReport(
        manifest=manifest,
        path=platform.objects.url(batch_prefix(batch)),
        already_landed=already_landed,
        size_bytes=_size_bytes(manifest),
        duration_ms=round(1000 * (platform.clock.monotonic_s() - start)),
        hashing_ms=round(1000 * hashing_s),
    )


def _size_bytes(manifest: Manifest) -> int:
    files = [manifest.files(kind) for kind in Kind]
    indexes = sum(f.index.size_bytes for f in files if f.index is not None)
    return indexes + sum(part.size_bytes for f in files for part in f.parts)


@dataclass
class _Landing:
    """One attempt to land one batch."""

    platform: Platform
    definition: SourceDefinition
    batch: BatchId
    run_id: str | None
    trace_parent: str | None
    writer: BatchWriter
    filtered: Counter[tuple[Kind, str]] = field(default_factory=Counter)

    def run(self) -> tuple[Manifest, bool]:
        """Return the manifest that stands at the end, and whether another attempt had put it there."""
        record = find_extract(self.platform.objects, self.batch)
        if record is None:
            raise ObjectMissing(
                f"{self.platform.objects.url(extract_prefix(self.batch))} holds no finished extract: extract the "
                f"source at this timestamp before landing batch {self.batch!r}"
            )
        manifest, committed = self.writer.write(
            self._rows(record), lambda files: self._manifest(record, files)
        )
        return manifest, not committed

    # Reading ------------------------------------------------------------------------------------------

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

    def _manifest(self, record: ExtractRecord, files: dict[Kind, Files]) -> Manifest:
        spec = self.definition.spec
        for kind in Kind:
            filtered = Counter(record.filtered.get(kind, {}))
            filtered.update({name: n for (k, name), n in self.filtered.items() if k is kind})
            files[kind] = files[kind].model_copy(
                update={"filtered": dict(sorted(filtered.items()))}
            )
        return Manifest(
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
            trace_parent=self.trace_parent,
        )


def _type_of(row: Entity | Relationship) -> str:
    return row.entity_type if isinstance(row, Entity) else row.relationship_type


__all__ = ["BadRow", "find_manifest", "land_batch"]
