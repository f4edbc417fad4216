"""What every row of a batch has to be, checked a chunk at a time, before anything is written or hashed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.encode import KEY_COLUMNS, Where
from penstock.batch.manifest import Mode
from penstock.batch.rows import TYPE_COLUMN, Kind
from penstock.errors import BadRow, InvalidIdentifier
from penstock.identity import ids
from penstock.identity.canonical import MAX_TEXT_BYTES


def check_rows(kind: Kind, rows: pa.Table, mode: Mode, where: Where) -> None:
    """Check a chunk with the columns of ``SCHEMAS[kind]``; raise :class:`BadRow`, which names row and field."""
    for name in KEY_COLUMNS[kind]:
        _check_key(rows[name], name, where)
    for type_name in pc.unique(rows[TYPE_COLUMN[kind]]).to_pylist():
        try:
            ids.type_name(type_name, what=TYPE_COLUMN[kind].replace("_", " "))
        except InvalidIdentifier as error:
            at = pc.index(rows[TYPE_COLUMN[kind]], pa.scalar(type_name)).as_py()
            raise BadRow(f"{where(at)}: {error}") from error
    check_sizes(rows["attributes"], where)
    if mode is Mode.FULL:
        _refuse(
            rows["tombstone"],
            "is a tombstone, which only a delta batch may have: leave the row out, or declare mode='delta'",
            where,
        )


def check_sizes(texts: pa.ChunkedArray, where: Where) -> None:
    """Refuse attributes over the limit before anything parses them."""
    sizes = pc.fill_null(pc.binary_length(texts), 0)
    most = pc.max(sizes).as_py() or 0
    if most > MAX_TEXT_BYTES:
        _refuse(
            pc.greater(sizes, MAX_TEXT_BYTES),
            f"has attributes of {most:,} bytes, over the limit of {MAX_TEXT_BYTES:,}: store the "
            "largest field elsewhere and keep a reference",
            where,
        )


def _check_key(column: pa.ChunkedArray, name: str, where: Where) -> None:
    if column.null_count:
        _refuse(column.is_null(), f"has no {name} (null): every row needs one", where)
    sizes = pc.binary_length(column)
    limits = pc.min_max(sizes).as_py()
    if limits["min"] == 0:
        _refuse(pc.equal(sizes, 0), f"has an empty {name}: every row needs one", where)
    if (limits["max"] or 0) > ids.MAX_KEY_BYTES:
        _refuse(
            pc.greater(sizes, ids.MAX_KEY_BYTES),
            f"has a {name} of {limits['max']:,} bytes, over the limit of {ids.MAX_KEY_BYTES:,}: shorten it",
            where,
        )


def _refuse(bad: pa.ChunkedArray, problem: str, where: Where) -> None:
    mask = np.asarray(bad)
    if mask.any():
        raise BadRow(f"{where(int(np.argmax(mask)))} {problem}")
