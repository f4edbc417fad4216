"""PostgreSQL's binary COPY, built from Arrow columns without a Python object per value.

The format is the server's own (PostgreSQL documentation, "COPY", Binary Format): a header, per row the number of fields
and each field as its length and bytes, all big-endian, and a trailer.
"""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)


def binary_copy(columns: list[pa.Array | pa.ChunkedArray]) -> list[bytes | memoryview]:
    """Return the stream for rows of text, bytea and bigint columns, in pieces to write one after another."""
    n = len(columns[0]) if columns else 0
    if not n:
        return [_HEADER + _TRAILER]
    parts: list[pa.Array | pa.Scalar] = [
        pa.scalar(struct.pack(">h", len(columns)), pa.large_binary())
    ]
    for column in columns:
        parts += _field(column)
    rows = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))
    offsets = np.frombuffer(rows.buffers()[1], np.int64)
    start, stop = int(offsets[rows.offset]), int(offsets[rows.offset + n])
    return [_HEADER, memoryview(rows.buffers()[2])[start:stop], _TRAILER]


def _field(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_integer(column.type):
        values = column.to_numpy(zero_copy_only=False).astype(">i8")
        return [_fixed(np.full(len(column), 8, ">i4")), _fixed(values)]
    data = pc.cast(column, pa.large_binary())
    lengths = pc.fill_null(pc.binary_length(data), -1).to_numpy(zero_copy_only=False)
    return [_fixed(lengths.astype(">i4")), pc.fill_null(data, b"")]


def _fixed(values: np.ndarray) -> pa.Array:
    """Return fixed-width values as one binary array over their own bytes."""
    stops = np.arange(len(values) + 1, dtype=np.int64) * values.dtype.itemsize
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(),
        len(values),
        [None, pa.py_buffer(stops), pa.py_buffer(np.ascontiguousarray(values))],
    )
