"""Keys and digests of a batch's rows as they pass by, and the order in which its index wants them.

Memory is 48 bytes a row: key, digest, type and size. The rows themselves are elsewhere, in a spool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.encode import KEY_COLUMNS
from penstock.batch.index import I64, SectionRows, equal_neighbours, sort_order
from penstock.batch.rows import TYPE_COLUMN, Kind
from penstock.errors import BadRow
from penstock.identity.digest import (
    TAG_ENTITY,
    TAG_RELATIONSHIP,
    U64,
    column_digests,
    halves,
)
from penstock.identity.keys import entity_index_keys, relationship_index_keys

TAKE_ROWS = 65_536
TAKE_BYTES = 32 * 1024 * 1024
_TAGS = {Kind.ENTITY: TAG_ENTITY, Kind.RELATIONSHIP: TAG_RELATIONSHIP}

Take = Callable[[I64], pa.Table]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chunk:
    types: npt.NDArray[np.int32]
    key_hi: U64
    key_lo: U64
    hash_hi: U64
    hash_lo: U64
    size_bytes: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SortedRows:
    """All rows of one kind in the order of their index."""

    sections: tuple[SectionRows, ...]
    order: I64
    """Where each row stands in the spool."""
    size_bytes: npt.NDArray[np.int64]
    """About how large each row is."""

    @property
    def counts(self) -> dict[str, int]:
        """Rows by type."""
        return {section.type_name: section.rows for section in self.sections}

    def chunks(self, take: Take) -> Iterator[pa.Table]:
        """Yield the rows in order, in bounded memory."""
        ends = np.cumsum(self.size_bytes)
        start = 0
        while start < len(self.order):
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + TAKE_BYTES, "right"))
            stop = min(max(stop, start + 1), start + TAKE_ROWS, len(self.order))
            yield take(self.order[start:stop])
            start = stop


class RowKeys:
    """Collects the keys and digests of rows of one kind, and sorts them."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._codes: dict[str, int] = {}
        self._chunks: list[_Chunk] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows with the columns of ``SCHEMAS[kind]``, checked and canonical."""
        if not len(rows):
            return
        columns = {name: _whole(rows[name]) for name in rows.schema.names}
        keys = [columns[name] for name in KEY_COLUMNS[self._kind]]
        key_hi, key_lo = self._index_keys(keys)
        texts = pc.fill_null(columns["attributes"], "")
        hash_hi, hash_lo = halves(column_digests(_TAGS[self._kind], [*keys, texts]))
        dead = np.asarray(columns["tombstone"])
        hash_hi[dead] = 0
        hash_lo[dead] = 0
        sizes = sum(np.asarray(pc.binary_length(c)).astype(np.int64) for c in [*keys, texts])
        self._chunks.append(
            _Chunk(
                types=self._type_codes(columns[TYPE_COLUMN[self._kind]]),
                key_hi=key_hi,
                key_lo=key_lo,
                hash_hi=hash_hi,
                hash_lo=hash_lo,
                size_bytes=np.asarray(sizes),
            )
        )

    def _index_keys(self, keys: list[pa.Array]) -> tuple[U64, U64]:
        if self._kind is Kind.ENTITY:
            return entity_index_keys(keys[1])
        return relationship_index_keys(keys[1], keys[2])

    def _type_codes(self, types: pa.Array) -> npt.NDArray[np.int32]:
        encoded = pc.dictionary_encode(types)
        codes = [
            self._codes.setdefault(name, len(self._codes))
            for name in encoded.dictionary.to_pylist()
        ]
        indices: npt.NDArray[np.int32] = np.asarray(encoded.indices)
        return np.array(codes, np.int32)[indices]

    def sort(self) -> SortedRows:
        """Return all rows in the order of their index, and forget them here. Duplicates are not looked for."""
        chunks, self._chunks = self._chunks, []
        if not chunks:
            none = np.empty(0, np.int64)
            return SortedRows(sections=(), order=none, size_bytes=none)
        types = np.concatenate([c.types for c in chunks])
        key_hi = np.concatenate([c.key_hi for c in chunks])
        key_lo = np.concatenate([c.key_lo for c in chunks])
        hash_hi = np.concatenate([c.hash_hi for c in chunks])
        hash_lo = np.concatenate([c.hash_lo for c in chunks])
        size_bytes = np.concatenate([c.size_bytes for c in chunks])
        sections, orders = [], []
        for name in sorted(self._codes):
            rows = np.flatnonzero(types == self._codes[name])
            rows = rows[sort_order(key_hi[rows], key_lo[rows])]
            orders.append(rows)
            sections.append(
                SectionRows(
                    type_name=name,
                    key_hi=key_hi[rows],
                    key_lo=key_lo[rows],
                    hash_hi=hash_hi[rows],
                    hash_lo=hash_lo[rows],
                )
            )
        order = np.concatenate(orders)
        return SortedRows(sections=tuple(sections), order=order, size_bytes=size_bytes[order])


def check_unique(
    kind: Kind, ordered: SortedRows, take: Take, where: Callable[[int], str] = "row {}".format
) -> None:
    """Raise :class:`BadRow` if two rows have one key; ``where`` names a row by its place in the spool."""
    start = 0
    for section in ordered.sections:
        for at in equal_neighbours(section.key_hi, section.key_lo)[:1].tolist():
            places = ordered.order[start + at : start + at + 2]
            first, second = take(places).select(list(KEY_COLUMNS[kind])).to_pylist()
            a, b = sorted(places.tolist())
            if first != second:
                raise BadRow(
                    f"{kind}: the keys of {first} ({where(a)}) and {second} ({where(b)}) have the same "
                    "104-bit digest: rename one of the two"
                )
            named = ", ".join(f"{name} {value!r}" for name, value in first.items())
            raise BadRow(
                f"{kind}: {named} appears twice, in {where(a)} and {where(b)}: keep one of the two"
            )
        start += section.rows


def _whole(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
