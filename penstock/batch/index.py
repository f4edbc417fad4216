"""Index sidecars: the keys and digests of a batch's rows, sorted, in leaves that carry digests of their own.

The file format ``penstock-index/1`` is ``docs/reference/index_format.md``; why it is so is
``docs/adr/0003-index-and-snapshot.md``. In short, all words little-endian 64-bit::

    magic | per type: columns key_hi, key_lo, hash_hi, hash_lo[, locator], leaf directory | JSON footer | trailer

Rows of a type are sorted by ``(key_hi, key_lo)``. A row begins a leaf if it is the first of its section or the low
bits of its ``key_lo`` are all zero, so that the cuts depend on content only and an insertion moves no other leaf. A
leaf's digest is ``(rows, sum of hash_hi, sum of hash_lo)``, sums modulo 2**64: additive, so that the digest of any
run of leaves is a difference of two prefix sums, and a changed row changes a digest without a look at its leaf.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from threading import Lock
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.errors import IndexCorrupt
from penstock.identity.digest import U64

FORMAT = "penstock-index/1"
LEAF_MASK = 127
MAGIC = b"PENSTIX1"
LOCATOR_ROW_BITS = 40
WRITE_CHUNK_ROWS = 65_536
RELEASE_BYTES = 4 * 1024 * 1024
"""A mapped file is told to let go of its pages whenever this much may have become resident."""
FAULT_BYTES = 64 * 1024
"""What one page fault maps, at the most, in a file that is cached."""
DENSE_ROWS = 2048
"""Ranges that begin closer than this to each other are read through the mapping, others past it."""

Column = Literal["key_hi", "key_lo", "hash_hi", "hash_lo", "locator", "before_hi", "before_lo"]
I64 = npt.NDArray[np.int64]

_COLUMNS: tuple[Column, ...] = ("key_hi", "key_lo", "hash_hi", "hash_lo")
_DIRECTORY_ARRAYS = 5
_TRAILER = struct.Struct("<Q16s8s")
_MAX_FOOTER_BYTES = 64 * 1024 * 1024
_ONE = np.uint64(1)


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


class Sink(Protocol):
    """Where a file is written, front to back."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Take the next bytes."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """The digest of a set of rows: how many, and the sums of both halves of their hashes modulo 2**64."""

    rows: int
    sum_hi: int
    sum_lo: int


NOTHING = Totals(rows=0, sum_hi=0, sum_lo=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """The leaves of one section: arrays of one length n, and ``first`` of length n + 1.

    Leaf i holds rows ``first[i]`` to ``first[i + 1]``, whose keys are at least ``(key_hi[i], key_lo[i])`` and below the
    next leaf's; the first leaf begins below every key, whatever its own first key is.
    """

    key_hi: U64
    key_lo: U64
    first: I64
    sum_hi: U64
    sum_lo: U64

    def __len__(self) -> int:
        return len(self.key_hi)


class KeyedRows(Protocol):
    """Rows of one type, sorted by key, readable by the range. What is written, looked up and compared."""

    @property
    def type_name(self) -> str:
        """The type of every row."""
        ...

    @property
    def rows(self) -> int:
        """How many rows there are."""
        ...

    @property
    def totals(self) -> Totals:
        """The digest of all rows."""
        ...

    @property
    def first_locator(self) -> int | None:
        """The locator of the first row, where those of the others follow it by ones; None where they do not."""
        ...

    def directory(self) -> Directory:
        """Return the leaves."""
        ...

    def read(self, columns: Sequence[Column], lo: int, hi: int) -> tuple[U64, ...]:
        """Return some columns of the rows ``lo`` to ``hi``, counted from the section's first."""
        ...

    def gather(self, column: Column, lo: I64, hi: I64) -> U64:
        """Return one column of several ranges of rows, one after the other."""
        ...

    def pick(self, column: Column, at: I64) -> U64 | None:
        """Return one column of some rows, or None where that takes as long as reading all between them."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SectionRows:
    """All rows of one type in memory, sorted by ``(key_hi, key_lo)`` without duplicates; tombstones hash to (0, 0)."""

    type_name: str
    key_hi: U64
    key_lo: U64
    hash_hi: U64
    hash_lo: U64
    locator: U64 | None = None
    """Where a row's attributes are, for files not in the order of their data: ordinal << 40 | row."""
    before_hi: U64 | None = None
    before_lo: U64 | None = None
    """In a snapshot's delta: the digest that the row had before, (0, 0) if it was not there."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.key_hi)

    @property
    def totals(self) -> Totals:
        """The digest of all rows."""
        return Totals(
            rows=self.rows, sum_hi=wrapping_sum(self.hash_hi), sum_lo=wrapping_sum(self.hash_lo)
        )

    @property
    def first_locator(self) -> int | None:
        """The locator of the first row, where those of the others follow it by ones."""
        return 0 if self.locator is None else None

    def directory(self) -> Directory:
        """Return the leaves."""
        first = np.append(leaf_starts(self.key_lo), self.rows)
        starts = first[:-1]
        return Directory(
            key_hi=self.key_hi[starts],
            key_lo=self.key_lo[starts],
            first=first,
            sum_hi=_sums(self.hash_hi, starts),
            sum_lo=_sums(self.hash_lo, starts),
        )

    def read(self, columns: Sequence[Column], lo: int, hi: int) -> tuple[U64, ...]:
        """Return some columns of the rows ``lo`` to ``hi``."""
        return tuple(self._column(name, lo, hi) for name in columns)

    def gather(self, column: Column, lo: I64, hi: I64) -> U64:
        """Return one column of several ranges of rows, one after the other."""
        whole = self._column(column, 0, self.rows)
        return joined(whole[a:b] for a, b in zip(lo.tolist(), hi.tolist(), strict=True))

    def pick(self, column: Column, at: I64) -> U64 | None:
        """Return one column of some rows."""
        picked: U64 = self._column(column, 0, self.rows).take(at)
        return picked

    def _column(self, name: Column, lo: int, hi: int) -> U64:
        if name == "locator" and self.locator is None:
            return np.arange(lo, hi, dtype=np.uint64)
        column: U64 | None = getattr(self, name)
        if column is None:
            raise ValueError(f"rows of type {self.type_name!r} have no column {name}")
        return column[lo:hi]


def joined(parts: Iterable[U64]) -> U64:
    """Return arrays one after the other."""
    whole: U64 = np.concatenate([np.empty(0, np.uint64), *parts])
    return whole


def wrapping_sum(values: U64) -> int:
    """Return the sum modulo 2**64."""
    return int(np.add.reduce(values, dtype=np.uint64)) if len(values) else 0


def leaf_starts(key_lo: U64, *, mask: int = LEAF_MASK) -> I64:
    """Return the positions of the rows that begin a leaf."""
    starts = (key_lo & np.uint64(mask)) == 0
    if len(starts):
        starts[0] = True
    return np.flatnonzero(starts)


def equal_neighbours(key_hi: U64, key_lo: U64) -> I64:
    """Return every position i of sorted keys where row i and row i + 1 have one key.

    Two rows of a batch share a key if they are duplicates, or if 104 bits of two digests collide; which of the two
    it is, their text tells.
    """
    return np.flatnonzero((key_hi[1:] == key_hi[:-1]) & (key_lo[1:] == key_lo[:-1]))


def sort_order(key_hi: U64, key_lo: U64) -> I64:
    """Return the stable order that sorts rows by ``(key_hi, key_lo)``."""
    order = np.argsort(key_hi, kind="stable")
    sorted_hi = key_hi[order]
    if (sorted_hi[1:] == sorted_hi[:-1]).any():
        order = np.lexsort((key_lo, key_hi))
    return order.astype(np.int64, copy=False)


# Writing ----------------------------------------------------------------------------------------------------


class _SectionEntry(BaseModel):
    """What the footer says of one section; offsets are in bytes from the file's beginning."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type_name: str
    start: int = Field(ge=0)
    rows: int = Field(ge=0)
    sum_hi: int = Field(ge=0, lt=2**64)
    sum_lo: int = Field(ge=0, lt=2**64)
    columns: dict[str, int]
    leaves: int = Field(ge=0)
    directory: int = Field(ge=0)


class _Footer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal["penstock-index/1"] = "penstock-index/1"
    sections: tuple[_SectionEntry, ...]


def write_index(
    sink: Sink, sections: Iterable[KeyedRows], *, extra: Sequence[Column] = ()
) -> tuple[int, str]:
    """Write an index file of sections in order of their type names; return its bytes and its SHA-256 in hex.

    Rows are streamed by the chunk, one column after the other, so that any section that can be read can be
    written in bounded memory. Raises :class:`IndexCorrupt`, naming type and row, for keys out of order or twice
    (``equal_neighbours`` finds those beforehand).
    """
    out = _Out(sink)
    out.write(MAGIC)
    entries: list[_SectionEntry] = []
    for section in sections:
        if entries and section.type_name <= entries[-1].type_name:
            raise IndexCorrupt(
                f"section {section.type_name!r} comes after {entries[-1].type_name!r}: "
                "write sections once each, in order of their names"
            )
        start = entries[-1].start + entries[-1].rows if entries else 0
        entries.append(_write_section(out, section, start, extra))
    footer = _Footer(sections=tuple(entries)).model_dump_json().encode()
    out.write(footer)
    out.write(_TRAILER.pack(len(footer), hashlib.sha256(footer).digest()[:16], MAGIC))
    return out.size_bytes, out.sha256.hexdigest()


class _Out:
    """A sink that knows how much it has taken, and the digest of it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.size_bytes = 0
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        self._sink.write(data)
        self.sha256.update(data)
        self.size_bytes += len(data)

    def array(self, values: npt.NDArray[np.generic]) -> None:
        words = np.ascontiguousarray(values, dtype="<u8")
        self.write(words.data.cast("B") if len(words) else b"")


def _write_section(
    out: _Out, section: KeyedRows, start: int, extra: Sequence[Column]
) -> _SectionEntry:
    offsets: dict[str, int] = {"key_hi": out.size_bytes}
    starts, fence_hi, fence_lo = _write_keys(out, section)
    offsets["key_lo"] = out.size_bytes
    for (values,) in _chunks(section, ("key_lo",)):
        out.array(values)
    offsets["hash_hi"] = out.size_bytes
    sum_hi = _write_hashes(out, section, "hash_hi", starts)
    offsets["hash_lo"] = out.size_bytes
    sum_lo = _write_hashes(out, section, "hash_lo", starts)
    for name in extra:
        offsets[name] = out.size_bytes
        for (values,) in _chunks(section, (name,)):
            out.array(values)
    directory = out.size_bytes
    for array in (fence_hi, fence_lo, starts.astype(np.uint64), sum_hi, sum_lo):
        out.array(array)
    return _SectionEntry(
        type_name=section.type_name,
        start=start,
        rows=section.rows,
        sum_hi=wrapping_sum(sum_hi),
        sum_lo=wrapping_sum(sum_lo),
        columns=offsets,
        leaves=len(starts),
        directory=directory,
    )


def _chunks(section: KeyedRows, columns: tuple[Column, ...]) -> Iterator[tuple[U64, ...]]:
    for lo in range(0, section.rows, WRITE_CHUNK_ROWS):
        yield section.read(columns, lo, min(lo + WRITE_CHUNK_ROWS, section.rows))


def _write_keys(out: _Out, section: KeyedRows) -> tuple[I64, U64, U64]:
    """Write ``key_hi``, check the order of the keys, and return the leaves' first rows and fences."""
    starts: list[I64] = [np.empty(0, np.int64)]
    fences_hi: list[U64] = [np.empty(0, np.uint64)]
    fences_lo: list[U64] = [np.empty(0, np.uint64)]
    last: tuple[int, int] | None = None
    row = 0
    for key_hi, key_lo in _chunks(section, ("key_hi", "key_lo")):
        _check_order(section.type_name, row, last, key_hi, key_lo)
        begins = (key_lo & np.uint64(LEAF_MASK)) == 0
        begins[0] |= row == 0
        at = np.flatnonzero(begins)
        starts.append(at + row)
        fences_hi.append(key_hi[at])
        fences_lo.append(key_lo[at])
        last = int(key_hi[-1]), int(key_lo[-1])
        row += len(key_hi)
        out.array(key_hi)
    return np.concatenate(starts), np.concatenate(fences_hi), np.concatenate(fences_lo)


def _check_order(
    type_name: str, row: int, last: tuple[int, int] | None, key_hi: U64, key_lo: U64
) -> None:
    rising = (key_hi[1:] > key_hi[:-1]) | ((key_hi[1:] == key_hi[:-1]) & (key_lo[1:] > key_lo[:-1]))
    bad = None if rising.all() else int(np.argmin(rising)) + 1
    if last is not None and last >= (int(key_hi[0]), int(key_lo[0])):
        bad = 0
    if bad is not None:
        raise IndexCorrupt(
            f"keys of type {type_name!r} do not rise at row {row + bad}: sort rows by (key_hi, key_lo) "
            "and leave out duplicates before writing their index"
        )


def _write_hashes(out: _Out, section: KeyedRows, name: Column, starts: I64) -> U64:
    """Write one hash column and return its sums by leaf."""
    sums = np.zeros(len(starts), np.uint64)
    row = 0
    for (values,) in _chunks(section, (name,)):
        leaf_lo = int(np.searchsorted(starts, row, "right")) - 1
        leaf_hi = int(np.searchsorted(starts, row + len(values), "left"))
        cuts = np.maximum(starts[leaf_lo:leaf_hi] - row, 0)
        sums[leaf_lo:leaf_hi] += _sums(values, cuts)
        row += len(values)
        out.array(values)
    return sums


def _sums(values: U64, starts: I64) -> U64:
    if not len(starts):
        return np.empty(0, np.uint64)
    return np.add.reduceat(values, starts, dtype=np.uint64)


# Reading ----------------------------------------------------------------------------------------------------


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

    entry: _SectionEntry
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
        """Return the leaves, read once. Raises :class:`IndexCorrupt` if they do not add up to the section."""
        return self._directory

    @cached_property
    def _directory(self) -> Directory:
        n = self.entry.leaves
        words = self.file.copied(self.entry.directory, _DIRECTORY_ARRAYS * n)
        key_hi, key_lo, starts, sum_hi, sum_lo = words.reshape(_DIRECTORY_ARRAYS, n)
        first = np.append(starts.astype(np.int64), self.rows)
        directory = Directory(
            key_hi=key_hi, key_lo=key_lo, first=first, sum_hi=sum_hi, sum_lo=sum_lo
        )
        self._check(directory)
        return directory

    def _check(self, leaves: Directory) -> None:
        adds_up = (wrapping_sum(leaves.sum_hi), wrapping_sum(leaves.sum_lo)) == (
            self.entry.sum_hi,
            self.entry.sum_lo,
        )
        rises = not len(leaves) or (
            leaves.first[0] == 0
            and bool((np.diff(leaves.first) > 0).all())
            and bool((leaves.key_hi[1:] >= leaves.key_hi[:-1]).all())
        )
        if not adds_up or not rises or (not len(leaves)) != (not self.rows):
            raise IndexCorrupt(
                f"{self.file.where}: the leaf directory of type {self.type_name!r} (byte "
                f"{self.entry.directory}) does not add up to its section: land the batch again"
            )

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


class IndexFile:
    """An open index file. Only the footer is read until a section is asked for more."""

    def __init__(self, reader: RangeReader, where: str, footer: _Footer) -> None:
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


def _read_footer(reader: RangeReader, where: str) -> tuple[_Footer, int]:
    size_bytes = reader.size_bytes
    smallest = len(MAGIC) + _TRAILER.size
    if size_bytes < smallest or bytes(reader.read(0, len(MAGIC))) != MAGIC:
        raise IndexCorrupt(f"{where} is not an index file: it does not begin with {MAGIC.decode()}")
    trailer = bytes(reader.read(size_bytes - _TRAILER.size, _TRAILER.size))
    if len(trailer) != _TRAILER.size or trailer[-len(MAGIC) :] != MAGIC:
        raise IndexCorrupt(
            f"{where} is truncated: byte {size_bytes} is not the end of an index file"
        )
    length, digest, _ = _TRAILER.unpack(trailer)
    if length > min(size_bytes - smallest, _MAX_FOOTER_BYTES):
        raise IndexCorrupt(f"{where}: its trailer claims a footer of {length:,} bytes")
    text = bytes(reader.read(size_bytes - _TRAILER.size - length, length))
    if hashlib.sha256(text).digest()[:16] != digest:
        raise IndexCorrupt(f"{where}: its footer does not have the digest that its trailer names")
    try:
        footer = _Footer.model_validate_json(text)
    except ValidationError as error:
        raise IndexCorrupt(
            f"{where}: its footer is not of {FORMAT}: {error.errors()[0]['msg']}"
        ) from error
    _check_bounds(footer, size_bytes - _TRAILER.size - length, where)
    return footer, len(MAGIC) + _TRAILER.size + length


def _check_bounds(footer: _Footer, end: int, where: str) -> None:
    for entry in footer.sections:
        stops = [offset + 8 * entry.rows for offset in entry.columns.values()]
        stops.append(entry.directory + 8 * _DIRECTORY_ARRAYS * entry.leaves)
        if (
            not set(_COLUMNS) <= set(entry.columns)
            or max(stops) > end
            or min(entry.columns.values()) < 0
        ):
            raise IndexCorrupt(f"{where}: section {entry.type_name!r} reaches beyond the file")


# Looking up -------------------------------------------------------------------------------------------------


def find_rows(section: KeyedRows, key_hi: U64, key_lo: U64, *, locators: bool = False) -> I64:
    """Return where keys, in any order, lie in a section: rows from its first, or their locators.

    What is absent is -1. Reads only the leaves that could hold a key.
    """
    found = np.full(len(key_hi), -1, np.int64)
    if not section.rows or not len(key_hi):
        return found
    leaves = section.directory()
    order = sort_order(key_hi, key_lo)
    leaf = leaf_of(leaves, key_hi[order], key_lo[order])
    for first, stop in _runs(leaf):
        ask = order[first:stop]
        lo, hi = int(leaves.first[leaf[first]]), int(leaves.first[leaf[stop - 1] + 1])
        have_hi, have_lo = section.read(("key_hi", "key_lo"), lo, hi)
        at = positions_of(have_hi, have_lo, key_hi[ask], key_lo[ask])
        there = at >= 0
        if locators and there.any():
            (locator,) = section.read(("locator",), lo, hi)
            found[ask[there]] = locator[at[there]].astype(np.int64)
        else:
            found[ask[there]] = at[there] + lo
    return found


def leaf_of(leaves: Directory, key_hi: U64, key_lo: U64) -> I64:
    """Return the leaf that would hold each key; everything below the second fence lies in the first leaf."""
    leaf = np.searchsorted(leaves.key_hi, key_hi, "right") - 1
    while True:
        at = np.maximum(leaf, 0)
        past = (leaf > 0) & (leaves.key_hi[at] == key_hi) & (leaves.key_lo[at] > key_lo)
        if not past.any():
            return np.maximum(leaf, 0).astype(np.int64, copy=False)
        leaf = leaf - past


def positions_of(have_hi: U64, have_lo: U64, key_hi: U64, key_lo: U64) -> I64:
    """Return where keys lie among sorted keys, -1 where absent."""
    at = np.searchsorted(have_hi, key_hi, "left").astype(np.int64)
    n = len(have_hi)
    while True:
        clipped = np.minimum(at, max(n - 1, 0))
        if not n:
            return np.full(len(key_hi), -1, np.int64)
        same = (at < n) & (have_hi[clipped] == key_hi)
        behind = same & (have_lo[clipped] < key_lo)
        if not behind.any():
            return np.where(same & (have_lo[clipped] == key_lo), at, -1)
        at = at + behind


def _runs(leaf: I64, *, max_leaves: int = 512) -> Iterator[tuple[int, int]]:
    """Cut sorted leaf numbers into runs of neighbouring leaves, so that each run is one read."""
    if not len(leaf):
        return
    cuts = np.flatnonzero((np.diff(leaf) > 1) | (np.diff(leaf // max_leaves) > 0)) + 1
    yield from pairwise([0, *cuts.tolist(), len(leaf)])
