"""A plan's operation files: written in bounded memory, read back only if they are what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.errors import PlanChanged
from penstock.plan.document import WaveFile
from penstock.plan.operations import OPERATION_SCHEMA

CHUNKS_PER_FILE = 20
"""Caps a file at some tens of megabytes, so that writer and reader hold one file, not one wave."""

_DICTIONARY = ["action", "kind", "type_name", "verdict", "reason", "guard", "wave"]


class PlanWriter:
    """Sorts operations into waves and chunks; ``put`` stores one finished file under its relative path."""

    def __init__(self, put: Callable[[str, bytes], None], *, chunk_operations: int) -> None:
        self._put = put
        self._chunk_operations = chunk_operations
        self._waves: dict[int, _Wave] = {}

    def add(self, operations: pa.Table) -> None:
        """Take operations of any waves, in the order in which they shall stand."""
        wave_column = operations.column("wave")
        for wave in sorted(pc.unique(wave_column).to_pylist()):
            rows = operations.filter(pc.equal(wave_column, wave))
            if wave not in self._waves:
                self._waves[wave] = _Wave(wave, self._put, self._chunk_operations)
            self._waves[wave].add(rows)

    def finish(self) -> tuple[WaveFile, ...]:
        """Store what is left and return every file, in the order of execution."""
        return tuple(file for wave in sorted(self._waves) for file in self._waves[wave].finish())


class _Wave:
    def __init__(self, wave: int, put: Callable[[str, bytes], None], chunk_operations: int) -> None:
        self._wave = wave
        self._put = put
        self._chunk_operations = chunk_operations
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._files: list[WaveFile] = []
        self._sink: BytesIO | None = None
        self._writer: pq.ParquetWriter | None = None
        self._chunks: list[int] = []

    def add(self, rows: pa.Table) -> None:
        self._pending.append(rows)
        self._pending_rows += len(rows)
        if self._pending_rows >= self._chunk_operations:
            self._write_chunks(whole_only=True)

    def finish(self) -> list[WaveFile]:
        self._write_chunks(whole_only=False)
        self._close_file()
        return self._files

    def _write_chunks(self, *, whole_only: bool) -> None:
        if not self._pending:
            return
        rows = pa.concat_tables(self._pending).combine_chunks()
        size = self._chunk_operations
        stop = len(rows) - len(rows) % size if whole_only else len(rows)
        for start in range(0, stop, size):
            self._write_chunk(rows.slice(start, min(size, stop - start)))
        rest = rows.slice(stop)
        self._pending = [rest] if len(rest) else []
        self._pending_rows = len(rest)

    def _write_chunk(self, chunk: pa.Table) -> None:
        if self._writer is None:
            self._sink = BytesIO()
            self._writer = pq.ParquetWriter(
                self._sink,
                OPERATION_SCHEMA,
                compression="zstd",
                compression_level=1,
                use_dictionary=_DICTIONARY,
                write_statistics=False,
            )
        self._writer.write_table(chunk, row_group_size=len(chunk))
        self._chunks.append(len(chunk))
        if len(self._chunks) >= CHUNKS_PER_FILE:
            self._close_file()

    def _close_file(self) -> None:
        if self._writer is None or self._sink is None:
            return
        self._writer.close()
        data = self._sink.getvalue()
        path = f"wave-{self._wave:03d}-{len(self._files):05d}.parquet"
        self._put(path, data)
        self._files.append(
            WaveFile(
                wave=self._wave,
                path=path,
                chunks=tuple(self._chunks),
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
            )
        )
        self._sink = self._writer = None
        self._chunks = []


def read_chunks(
    file: WaveFile, data: bytes, *, where: str, columns: list[str] | None = None
) -> Iterator[pa.Table]:
    """Yield a file's chunks; raises :class:`PlanChanged` if its bytes are not those that were planned."""
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise PlanChanged(
            f"{where} does not have the SHA-256 that its plan recorded: the stored plan was changed after it "
            "was made. Requeue the batch to plan it again"
        )
    parquet = pq.ParquetFile(pa.BufferReader(data))
    for group in range(parquet.num_row_groups):
        yield parquet.read_row_group(group, columns=columns)
