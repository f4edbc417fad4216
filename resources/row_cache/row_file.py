"""Rows in one uncompressed Arrow IPC file, memory-mapped, so that any of them are fetched at the price of those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.batch.encode import bounded_chunks

I64 = npt.NDArray[np.int64]


class RowFileWriter:
    """Writes rows in the order in which they come."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema)

    def append(self, rows: pa.Table) -> None:
        """Put rows down behind those that are there."""
        for chunk in bounded_chunks(rows):
            for batch in chunk.combine_chunks().to_batches():
                self._writer.write_batch(batch)

    def close(self) -> None:
        """Finish the file; again is no error."""
        if not self._sink.closed:
            self._writer.close()
            self._sink.close()

    def __enter__(self) -> RowFileWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RowFile:
    """The rows of a finished file. Safe under several threads; a file deleted meanwhile stays readable."""

    def __init__(self, path: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._schema = reader.schema
        self._batches = [reader.get_batch(n) for n in range(reader.num_record_batches)]
        sizes = [len(batch) for batch in self._batches]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self._starts[-1])

    def take(self, positions: I64) -> pa.Table:
        """Return rows by position, in the order asked for."""
        positions = np.asarray(positions, np.int64)
        if not len(positions):
            return self._schema.empty_table()
        batch = np.searchsorted(self._starts, positions, "right") - 1
        order = np.argsort(batch, kind="stable")
        cuts = np.flatnonzero(np.diff(batch[order])) + 1
        pieces = []
        for places in np.split(order, cuts):
            n = int(batch[places[0]])
            wanted = pa.array(positions[places] - self._starts[n])
            pieces.append(self._batches[n].take(wanted))
        table = pa.Table.from_batches(pieces)
        if len(pieces) == 1:
            return table
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return table.combine_chunks().take(pa.array(back))

    def scan(
        self, columns: Sequence[str], start: int, stop: int, *, chunk_rows: int = 65_536
    ) -> Iterator[pa.Table]:
        """Yield some columns of the rows ``start`` to ``stop``, at most ``chunk_rows`` at once."""
        first = max(int(np.searchsorted(self._starts, start, "right")) - 1, 0)
        for n in range(first, len(self._batches)):
            lo = max(start, int(self._starts[n]))
            end = min(stop, int(self._starts[n + 1]))
            if lo >= stop:
                return
            whole = pa.Table.from_batches([self._batches[n]]).select(list(columns))
            for at in range(lo, end, chunk_rows):
                yield whole.slice(at - int(self._starts[n]), min(chunk_rows, end - at))
