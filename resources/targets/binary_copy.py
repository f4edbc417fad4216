"""PostgreSQL's binary COPY, built from Arrow columns without a Python object per value.

The format is the server's own (PostgreSQL documentation, "COPY", Binary Format): a header, per row the number of fields
and each field as its length and bytes, all big-endian, and a trailer.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Constant = str | int | datetime | None
"""For text, bigint and timestamptz columns; aware where it is a moment; None for nothing."""

_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_LARGE = pa.large_binary()


def binary_copy(
    columns: Sequence[pa.Array | pa.ChunkedArray | Constant],
) -> list[bytes | memoryview]:
    """Return the stream for rows of text, bytea and bigint columns, in pieces to write one after another.

    A constant is the same in every row; at least one column has to be an array.
    """
    n = next(len(column) for column in columns if not isinstance(column, Constant))
    if not n:
        return [_HEADER + _TRAILER]
    parts: list[bytes | pa.Array] = [struct.pack(">h", len(columns))]
    for column in columns:
        parts += [_constant(column)] if isinstance(column, Constant) else _fields(column)
    rows = pc.binary_join_element_wise(*_joined(parts), pa.scalar(b"", _LARGE))
    offsets = np.frombuffer(rows.buffers()[1], np.int64)
    start, stop = int(offsets[rows.offset]), int(offsets[rows.offset + n])
    return [_HEADER, memoryview(rows.buffers()[2])[start:stop], _TRAILER]


def _joined(parts: list[bytes | pa.Array]) -> list[pa.Scalar | pa.Array]:
    """Join constants that stand side by side: the fewer parts a row has, the faster it is put together."""
    joined: list[pa.Scalar | pa.Array] = []
    constant = b""
    for part in [*parts, None]:
        if isinstance(part, bytes):
            constant += part
            continue
        if constant:
            joined.append(pa.scalar(constant, _LARGE))
        constant = b""
        if part is not None:
            joined.append(part)
    return joined


def _constant(value: Constant) -> bytes:
    if value is None:
        return struct.pack(">i", -1)
    if isinstance(value, str):
        data = value.encode()
    elif isinstance(value, int):
        data = struct.pack(">q", value)
    else:
        since = value - _EPOCH
        data = struct.pack(">q", (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds)
    return struct.pack(">i", len(data)) + data


def _fields(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_integer(column.type):
        values = column.to_numpy(zero_copy_only=False).astype(">i8")
        return [_fixed(np.full(len(column), 8, ">i4")), _fixed(values)]
    data = pc.cast(column, _LARGE)
    lengths = pc.fill_null(pc.binary_length(data), -1).to_numpy(zero_copy_only=False)
    return [_fixed(lengths.astype(">i4")), pc.fill_null(data, b"")]


def _fixed(values: np.ndarray) -> pa.Array:
    """Return fixed-width values as one binary array over their own bytes."""
    stops = np.arange(len(values) + 1, dtype=np.int64) * values.dtype.itemsize
    return pa.LargeBinaryArray.from_buffers(
        _LARGE,
        len(values),
        [None, pa.py_buffer(stops), pa.py_buffer(np.ascontiguousarray(values))],
    )
