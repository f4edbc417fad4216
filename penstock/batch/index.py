"""Index sidecars: the keys and digests of a batch's rows, sorted, in leaves that carry digests of their own.

The file format ``penstock-index/1`` is ``docs/reference/index_format.md``; why it is so is
``docs/adr/0003-index-and-snapshot.md``. In short, all words little-endian 64-bit::

    magic | per type: columns key_hi, key_lo, hash_hi, hash_lo[, locator], leaves, buckets | JSON footer | trailer

Rows of a type are sorted by ``(key_hi, key_lo)``. A row begins a leaf if it is the first of its section or the low
bits of its ``key_lo`` are all zero, so that the cuts depend on content only and an insertion moves no other leaf. A
leaf's digest is ``(rows, sum of hash_hi, sum of hash_lo)``, sums modulo 2**64: additive, so that the digest of any
run of leaves is a difference of two prefix sums, and a changed row changes a digest without a look at its leaf.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
from pydantic import ValidationError

from penstock.batch.index_rows import (
    I64,
    NOTHING,
    Column,
    Columns,
    KeyedRows,
    SectionRows,
    Totals,
    equal_neighbours,
    find_hashes,
    find_rows,
    joined,
    leaf_starts,
    positions_of,
    sort_order,
    wrapping_sum,
)
from penstock.batch.index_tree import (
    LEAF_MASK,
    Directory,
    Fences,
    LeafTree,
    MemoryTree,
    holding,
    leaf_of,
    ranges,
)
from penstock.batch.index_writing import MAGIC, TRAILER, Footer, SectionEntry, Sink, write_index
from penstock.errors import IndexCorrupt
from penstock.identity.digest import U64

FORMAT = "penstock-index/1"
LOCATOR_ROW_BITS = 40
RELEASE_BYTES = 1024 * 1024
"""A mapped file is told to let go of its pages whenever this much may have become resident."""
FAULT_BYTES = 64 * 1024
"""What one page fault maps, at the most, in a file that is cached."""
DENSE_ROWS = 2048
"""Ranges that begin closer than this to each other are read through the mapping, others past it."""


_COLUMNS: tuple[Column, ...] = ("key_hi", "key_lo", "hash_hi", "hash_lo")
_LEAF_WORDS = 5
_BUCKET_WORDS = 6
_MAX_FOOTER_BYTES = 64 * 1024 * 1024


class RangeReader(Protocol):
    """Random access to the bytes of one file.

    A reader of a local file should be a :class:`MappedReader`: then nothing is copied, and scattered rows are
    fetched in one call.
    """

    @property
    def size_bytes(self) -> int:
        """The length of the file."""
        ...

    def read(self, offset: int, length: int) -> bytes | bytearray | memoryview:
        """Return exactly ``length`` bytes from ``offset``."""
        ...


@runtime_checkable
class MappedReader(Protocol):
    """A file mapped into memory. The view has to outlive every array that was made of it."""

    @property
    def size_bytes(self) -> int:
        """The length of the file."""
        ...

    @property
    def view(self) -> memoryview:
        """The whole file."""
        ...

    def read(self, offset: int, length: int) -> bytes | bytearray | memoryview:
        """Return ``length`` bytes from ``offset``."""
        ...

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        """Fill a buffer, past the mapping: for short ranges, where a page fault costs more than a copy."""
        ...

    def release(self) -> None:
        """Let go of the pages that are resident, e.g. by ``madvise(MADV_DONTNEED)``; they can be read again."""
        ...


class BytesReader:
    """A file that is in memory; counts what is read of it."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data)
        self.bytes_read = 0

    @property
    def size_bytes(self) -> int:
        """The length of the file."""
        return len(self._data)

    def read(self, offset: int, length: int) -> memoryview:
        """Return ``length`` bytes from ``offset``."""
        self.bytes_read += length
        return self._data[offset : offset + length]


@dataclass(frozen=True, eq=False)
class IndexSection:
    """The rows of one type in an index file. Conforms to :class:`KeyedRows`."""

    entry: SectionEntry
    file: IndexFile

    @property
    def type_name(self) -> str:
        """The type of every row."""
        return self.entry.type_name

    @property
    def start(self) -> int:
        """Where this section's first row lies among all rows of the batch's kind."""
        return self.entry.start

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.entry.rows

    @property
    def totals(self) -> Totals:
        """The digest of all rows."""
        return Totals(rows=self.entry.rows, sum_hi=self.entry.sum_hi, sum_lo=self.entry.sum_lo)

    @property
    def first_locator(self) -> int | None:
        """The locator of the first row, where those of the others follow it by ones."""
        return None if "locator" in self.entry.columns else self.start

    def directory(self) -> Directory:
        """Return all leaves. Raises :class:`IndexCorrupt` if they do not add up to the section."""
        tree = self._tree
        n = len(tree.buckets)
        every = tree.leaves(np.zeros(min(n, 1), np.int64), np.full(min(n, 1), n))
        return Directory(
            key_hi=every.key_hi,
            key_lo=every.key_lo,
            first=np.append(every.lo, self.rows),
            sum_hi=every.sum_hi,
            sum_lo=every.sum_lo,
        )

    def tree(self) -> LeafTree:
        """Return the leaves by the bucket. Raises :class:`IndexCorrupt` if buckets do not add up to the section."""
        return self._tree

    @cached_property
    def _tree(self) -> FileTree:
        return FileTree(self)

    def read(self, columns: Sequence[Column], lo: int, hi: int) -> tuple[U64, ...]:
        """Return some columns of the rows ``lo`` to ``hi``, counted from the section's first."""
        return tuple(self._column(name, lo, hi) for name in columns)

    def gather(self, column: Column, lo: I64, hi: I64) -> U64:
        """Return one column of several ranges of rows, one after the other."""
        offset = self.entry.columns.get(column)
        if offset is None:
            pairs = zip(lo.tolist(), hi.tolist(), strict=True)
            return joined(self._column(column, a, b) for a, b in pairs)
        return self.file.scattered(offset, lo, hi)

    def pick(self, column: Column, at: I64) -> U64 | None:
        """Return one column of some rows, or None if the file is not mapped."""
        whole = self.file.mapped(self.entry.columns.get(column), self.rows)
        if whole is None:
            return None
        span = 8 * int(at[-1] - at[0]) if len(at) else 0
        self.file.count(8 * len(at), resident=min(FAULT_BYTES * len(at), span))
        picked: U64 = whole.take(at)
        return picked

    def columns(self) -> Columns | None:
        """Return all rows as views, or None if the file is not mapped."""
        at = self.entry.columns
        found = [self.file.mapped(at[name], self.rows) for name in _COLUMNS]
        key_hi, key_lo, hash_hi, hash_lo = found
        if key_hi is None or key_lo is None or hash_hi is None or hash_lo is None:
            return None
        return Columns(
            key_hi=key_hi,
            key_lo=key_lo,
            hash_hi=hash_hi,
            hash_lo=hash_lo,
            locator=self.file.mapped(at.get("locator"), self.rows),
            first_locator=self.first_locator,
            count=lambda size_bytes, resident: self.file.count(size_bytes, resident=resident),
        )

    def _column(self, name: Column, lo: int, hi: int) -> U64:
        offset = self.entry.columns.get(name)
        if offset is None and name != "locator":
            raise IndexCorrupt(f"{self.file.where} has no column {name}: fetch it again")
        if offset is None:
            return np.arange(self.start + lo, self.start + hi, dtype=np.uint64)
        return self.file.words(offset + 8 * lo, hi - lo)

    def find(self, key_hi: U64, key_lo: U64) -> I64:
        """Return where keys lie among all rows of the batch's kind (``start`` included), -1 where absent.

        Reads only the leaves that could hold them.
        """
        positions = find_rows(self, key_hi, key_lo)
        return np.where(positions < 0, positions, positions + self.start)


class FileTree:
    """The leaves of one section of a file: buckets are held, leaves read whenever they are asked for."""

    def __init__(self, section: IndexSection) -> None:
        entry = section.entry
        self._section = section
        words = section.file.copied(entry.bucket_directory, _BUCKET_WORDS * entry.buckets)
        key_hi, key_lo, first, leaf, sum_hi, sum_lo = words.reshape(-1, _BUCKET_WORDS).T.copy()
        lo = first.view(np.int64)
        self.buckets = Fences(
            key_hi=key_hi,
            key_lo=key_lo,
            lo=lo,
            hi=np.append(lo[1:], np.full(min(len(lo), 1), entry.rows)),
            sum_hi=sum_hi,
            sum_lo=sum_lo,
            starts=np.zeros(min(len(lo), 1), np.int64),
        )
        self._leaf = np.append(leaf.view(np.int64), entry.leaves)
        self._check_buckets()

    def leaves(self, lo: I64, hi: I64) -> Fences:
        """Return the leaves of several ranges of buckets. Raises :class:`IndexCorrupt` if they do not add up."""
        bounds, buckets, entry = self._leaf, self.buckets, self._section.entry
        low, high = bounds[lo], bounds[hi]
        reads = np.append(True, low[1:] != high[:-1])[: len(low)]
        words = self._section.file.scattered(
            entry.directory,
            _LEAF_WORDS * low[reads],
            _LEAF_WORDS * high[np.append(reads[1:], True)[: len(low)]],
        )
        key_hi, key_lo, first, sum_hi, sum_lo = words.reshape(-1, _LEAF_WORDS).T.copy()
        starts = np.cumsum(high - low) - (high - low)
        begins = first.view(np.int64)
        ends = np.append(begins[1:], begins[:1])
        if len(lo):
            ends[np.append(starts[1:], len(begins)) - 1] = buckets.hi[hi - 1]
        found = Fences(
            key_hi=key_hi,
            key_lo=key_lo,
            lo=begins,
            hi=ends,
            sum_hi=sum_hi,
            sum_lo=sum_lo,
            starts=starts,
        )
        self._check_leaves(found, ranges(lo, hi)[0])
        return found

    def _check_buckets(self) -> None:
        buckets, leaf, entry = self.buckets, self._leaf, self._section.entry
        adds_up = (wrapping_sum(buckets.sum_hi), wrapping_sum(buckets.sum_lo)) == (
            entry.sum_hi,
            entry.sum_lo,
        )
        begins = not len(buckets) or (buckets.lo[0] == 0 and leaf[0] == 0)
        fits = (not len(buckets)) == (not entry.rows) and bool((np.diff(leaf) > 0).all())
        if not (adds_up and begins and fits and buckets.rise()):
            raise self._corrupt("its section", entry.bucket_directory)

    def _check_leaves(self, leaves: Fences, bucket: I64) -> None:
        """Check what was read of some buckets against what these say of it."""
        if not len(bucket):
            return
        buckets = self.buckets
        sizes = self._leaf[bucket + 1] - self._leaf[bucket]
        at = np.cumsum(sizes) - sizes
        same = (
            (leaves.lo[at] == buckets.lo[bucket])
            & (leaves.key_hi[at] == buckets.key_hi[bucket])
            & (leaves.key_lo[at] == buckets.key_lo[bucket])
            & (np.add.reduceat(leaves.sum_hi, at) == buckets.sum_hi[bucket])
            & (np.add.reduceat(leaves.sum_lo, at) == buckets.sum_lo[bucket])
        )
        if not (same.all() and leaves.rise()):
            raise self._corrupt("its buckets", self._section.entry.directory)

    def _corrupt(self, whole: str, offset: int) -> IndexCorrupt:
        return IndexCorrupt(
            f"{self._section.file.where}: the leaf directory of type {self._section.type_name!r} (byte "
            f"{offset}) does not add up to {whole}: land the batch again"
        )


class IndexFile:
    """An open index file. Only the footer is read until a section is asked for more."""

    def __init__(self, reader: RangeReader, where: str, footer: Footer) -> None:
        self.where = where
        self.bytes_read = 0
        """Bytes read through this object, the footer included."""
        self._reader = reader
        self._map: MappedReader | None = reader if isinstance(reader, MappedReader) else None
        self._unreleased = 0
        self._lock = Lock()
        self.sections: Mapping[str, IndexSection] = {
            entry.type_name: IndexSection(entry, self) for entry in footer.sections
        }

    @classmethod
    def open(cls, reader: RangeReader, *, where: str = "index") -> IndexFile:
        """Read the footer. Raises :class:`IndexCorrupt`, naming ``where``, for anything but a whole file."""
        footer, size_bytes = _read_footer(reader, where)
        file = cls(reader, where, footer)
        file.bytes_read = size_bytes
        return file

    @property
    def rows(self) -> int:
        """All rows of all types."""
        return sum(section.rows for section in self.sections.values())

    def words(self, offset: int, count: int) -> U64:
        """Return ``count`` 64-bit words from a byte offset."""
        self.count(8 * count)
        data = self._reader.read(offset, 8 * count)
        if len(data) != 8 * count:
            raise self._truncated(offset, 8 * count)
        return np.frombuffer(data, "<u8")

    def copied(self, offset: int, count: int) -> U64:
        """Return ``count`` words from a byte offset, copied: for what is kept."""
        return self.scattered(offset, np.array([0]), np.array([count]))

    def scattered(self, offset: int, lo: I64, hi: I64) -> U64:
        """Return several ranges of words, counted from a byte offset, one after the other."""
        starts, sizes = (8 * lo + offset).tolist(), (8 * (hi - lo)).tolist()
        if self._map is None:
            return joined(self.words(a, n // 8) for a, n in zip(starts, sizes, strict=True))
        if not starts:
            return np.empty(0, np.uint64)
        span = int(hi[-1] - lo[0])
        if len(lo) > 1 and span < DENSE_ROWS * len(lo):
            self.count(sum(sizes), resident=8 * span)
            view = np.frombuffer(self._map.view, "<u8", span, offset + 8 * int(lo[0]))
            pairs = zip((lo - lo[0]).tolist(), (hi - lo[0]).tolist(), strict=True)
            return joined(view[a:b] for a, b in pairs)
        words = np.empty(sum(sizes) // 8, np.uint64)
        buffer, at, read_into = words.data.cast("B"), 0, self._map.read_into
        for start, size in zip(starts, sizes, strict=True):
            read_into(start, buffer[at : at + size])
            at += size
        self.count(at, resident=0)
        return words

    def mapped(self, offset: int | None, count: int) -> U64 | None:
        """Return the ``count`` words from a byte offset as a view, or None if the file is not mapped.

        What is then really read of it is for the caller to :meth:`count`.
        """
        if self._map is None or offset is None:
            return None
        return np.frombuffer(self._map.view, "<u8", count, offset)

    def count(self, size_bytes: int, *, resident: int | None = None) -> None:
        """Add to what has been read; lets go of mapped pages now and then."""
        with self._lock:
            self.bytes_read += size_bytes
            self._unreleased += max(size_bytes, FAULT_BYTES) if resident is None else resident
            full = self._unreleased > RELEASE_BYTES
            if full:
                self._unreleased = 0
        if full and self._map is not None:
            self._map.release()

    def _truncated(self, offset: int, length: int) -> IndexCorrupt:
        return IndexCorrupt(
            f"{self.where} ends before byte {offset + length}, inside a section: fetch it again"
        )


def _read_footer(reader: RangeReader, where: str) -> tuple[Footer, int]:
    size_bytes = reader.size_bytes
    smallest = len(MAGIC) + TRAILER.size
    if size_bytes < smallest or bytes(reader.read(0, len(MAGIC))) != MAGIC:
        raise IndexCorrupt(f"{where} is not an index file: it does not begin with {MAGIC.decode()}")
    trailer = bytes(reader.read(size_bytes - TRAILER.size, TRAILER.size))
    if len(trailer) != TRAILER.size or trailer[-len(MAGIC) :] != MAGIC:
        raise IndexCorrupt(
            f"{where} is truncated: byte {size_bytes} is not the end of an index file"
        )
    length, digest, _ = TRAILER.unpack(trailer)
    if length > min(size_bytes - smallest, _MAX_FOOTER_BYTES):
        raise IndexCorrupt(f"{where}: its trailer claims a footer of {length:,} bytes")
    text = bytes(reader.read(size_bytes - TRAILER.size - length, length))
    if hashlib.sha256(text).digest()[:16] != digest:
        raise IndexCorrupt(f"{where}: its footer does not have the digest that its trailer names")
    try:
        footer = Footer.model_validate_json(text)
    except ValidationError as error:
        raise IndexCorrupt(
            f"{where}: its footer is not of {FORMAT}: {error.errors()[0]['msg']}"
        ) from error
    _check_bounds(footer, size_bytes - TRAILER.size - length, where)
    return footer, len(MAGIC) + TRAILER.size + length


def _check_bounds(footer: Footer, end: int, where: str) -> None:
    for entry in footer.sections:
        stops = [offset + 8 * entry.rows for offset in entry.columns.values()]
        stops.append(entry.directory + 8 * _LEAF_WORDS * entry.leaves)
        stops.append(entry.bucket_directory + 8 * _BUCKET_WORDS * entry.buckets)
        if (
            not set(_COLUMNS) <= set(entry.columns)
            or max(stops) > end
            or min(entry.columns.values()) < 0
        ):
            raise IndexCorrupt(f"{where}: section {entry.type_name!r} reaches beyond the file")


__all__ = [
    "FAULT_BYTES",
    "FORMAT",
    "I64",
    "LEAF_MASK",
    "LOCATOR_ROW_BITS",
    "MAGIC",
    "NOTHING",
    "BytesReader",
    "Column",
    "Columns",
    "Directory",
    "Fences",
    "IndexFile",
    "IndexSection",
    "KeyedRows",
    "LeafTree",
    "MappedReader",
    "MemoryTree",
    "RangeReader",
    "SectionRows",
    "Sink",
    "Totals",
    "equal_neighbours",
    "find_hashes",
    "find_rows",
    "holding",
    "joined",
    "leaf_of",
    "leaf_starts",
    "positions_of",
    "sort_order",
    "wrapping_sum",
    "write_index",
]
