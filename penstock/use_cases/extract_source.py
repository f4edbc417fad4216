"""Extract a source at one source timestamp: rows as they come, kept before anything is made of them."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from datetime import datetime
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.encode import encode
from penstock.batch.extract_record import (
    RECORD_NAME,
    ExtractFile,
    ExtractRecord,
    extract_prefix,
    read_extract_record,
)
from penstock.batch.manifest import Mode
from penstock.batch.rows import SCHEMAS, TYPE_COLUMN, Kind
from penstock.batch.source import Extract, SourceDefinition
from penstock.batch.validate import check_rows
from penstock.identity import ids
from penstock.identity.ids import BatchId
from penstock.ports.object_store import ObjectStore
from penstock.ports.tracing import trace_parent_of
from penstock.use_cases.platform import Platform
from penstock.use_cases.reports import ExtractReport
from penstock.use_cases.written_file import WrittenFile, written_file

_IPC_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def extract_source(
    platform: Platform,
    definition: SourceDefinition,
    source_timestamp: datetime,
    *,
    run_id: str | None = None,
    trace_parent: str | None = None,
) -> ExtractReport:
    """Run a source's extractor and keep its rows at ``extracts/<source>/<timestamp>/``, in bounded memory.

    An extract that is there already is left as it is. ``trace_parent`` is the trace that it belongs to; without one
    that follows from the batch's id. Raises what the extractor raises outside its scopes, and ``BadRow`` for what it
    yields and no batch can hold; nothing is kept then.
    """
    batch = ids.batch_id(definition.spec.source_id, source_timestamp)
    with platform.tracer.span(
        "penstock.extract",
        parent=trace_parent or trace_parent_of(batch),
        batch=batch,
        source=definition.spec.source_id,
        tenant=definition.spec.tenant_id,
    ) as span:
        report = _extract(platform, definition, batch, run_id)
        rows, failed = sum(report.rows.values()), len(report.failed_scopes)
        span.note(rows=rows, failed_scopes=failed, already_there=report.already_there)
        return report


def _extract(
    platform: Platform, definition: SourceDefinition, batch: BatchId, run_id: str | None
) -> ExtractReport:
    start = platform.clock.monotonic_s()
    record = find_extract(platform.objects, batch)
    already_there = record is not None
    if record is None:
        record, already_there = _extracted(platform, definition, batch, run_id)
    return ExtractReport(
        batch_id=batch,
        path=extract_prefix(batch),
        rows={
            (kind, name): n
            for kind, file in record.files.items()
            for name, n in file.counts.items()
        },
        failed_scopes=record.failed_scopes,
        already_there=already_there,
        duration_ms=round(1000 * (platform.clock.monotonic_s() - start)),
    )


def find_extract(objects: ObjectStore, batch: BatchId) -> ExtractRecord | None:
    """Return the record of an extract, or None if there is none (or only a part of one)."""
    key = extract_prefix(batch) + RECORD_NAME
    if objects.stat(key) is None:
        return None
    return read_extract_record(objects.get(key), where=objects.url(key))


def _extracted(
    platform: Platform, definition: SourceDefinition, batch: BatchId, run_id: str | None
) -> tuple[ExtractRecord, bool]:
    """Return the record that stands at the end, and whether another run had put it there."""
    _, source_timestamp = ids.split_batch_id(batch)
    extract = Extract(source_timestamp=source_timestamp, settings=definition.settings)
    # Of two runs at once each has files of its own names, and one of them puts the record.
    attempt = uuid4().hex[:8]
    files = _write_rows(platform.objects, definition, extract, extract_prefix(batch), attempt)
    filtered: dict[Kind, dict[str, int]] = {}
    for (kind, type_name), count in sorted(extract.filtered.items()):
        filtered.setdefault(kind, {})[type_name] = count
    record = ExtractRecord(
        source_id=definition.spec.source_id,
        source_timestamp=source_timestamp,
        extracted_at=platform.clock.now(),
        run_id=run_id,
        files=files,
        filtered=filtered,
        scopes=tuple(extract.scopes),
    )
    objects, prefix = platform.objects, extract_prefix(batch)
    if objects.put_if_absent(prefix + RECORD_NAME, record.to_json()):
        return record, False
    standing = read_extract_record(objects.get(prefix + RECORD_NAME), where=prefix)
    if standing != record:  # it is ours if the answer to our put was lost on the way
        objects.delete(prefix + file.path for file in files.values())
    return standing, standing != record


def _write_rows(
    objects: ObjectStore, definition: SourceDefinition, extract: Extract, folder: str, attempt: str
) -> dict[Kind, ExtractFile]:
    streams: dict[Kind, _RowStream] = {}
    with ExitStack() as uploads:
        for kind, rows in encode(definition.extractor(extract)):
            if kind not in streams:
                file = written_file(objects, folder, f"{kind}-{attempt}.arrows")
                streams[kind] = _RowStream(kind, uploads.enter_context(file), definition.mode)
            streams[kind].append(rows)
        for stream in streams.values():
            stream.finish()
    return {kind: stream.entry() for kind, stream in streams.items()}


class _RowStream:
    def __init__(self, kind: Kind, file: WrittenFile, mode: Mode) -> None:
        self._kind = kind
        self._file = file
        self._mode = mode
        self._rows = 0
        self._counts: Counter[str] = Counter()
        sink = pa.PythonFile(file, "w")
        self._writer = pa.ipc.new_stream(sink, SCHEMAS[kind], options=_IPC_OPTIONS)

    def append(self, rows: pa.Table) -> None:
        check_rows(self._kind, rows, self._mode, self._name)
        for count in pc.value_counts(rows[TYPE_COLUMN[self._kind]]).to_pylist():
            self._counts[count["values"]] += count["counts"]
        self._writer.write_table(rows)
        self._rows += len(rows)

    def _name(self, row: int) -> str:
        return f"extracted {self._kind}, row {self._rows + row}"

    def finish(self) -> None:
        self._writer.close()

    def entry(self) -> ExtractFile:
        return ExtractFile(
            path=self._file.path,
            rows=self._rows,
            size_bytes=self._file.size_bytes,
            sha256=self._file.sha256,
            counts=dict(sorted(self._counts.items())),
        )
