"""Writing index files, and the footer that says what is in them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from penstock.batch.index_rows import I64, Column, KeyedRows, leaf_sums, wrapping_sum
from penstock.batch.index_tree import LEAF_MASK, Directory, MemoryTree
from penstock.errors import IndexCorrupt
from penstock.identity.digest import U64

MAGIC = b"PENSTIX1"
WRITE_CHUNK_ROWS = 65_536
TRAILER = struct.Struct("<Q16s8s")


class Sink(Protocol):
    """Where a file is written, front to back."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Take the next bytes."""
        ...


class SectionEntry(BaseModel):
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
    buckets: int = Field(ge=0)
    bucket_directory: int = Field(ge=0)


class Footer(BaseModel):
    """What stands at the end of an index file: where each section is, and what it adds up to."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal["penstock-index/1"] = "penstock-index/1"
    sections: tuple[SectionEntry, ...]


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
    entries: list[SectionEntry] = []
    for section in sections:
        if entries and section.type_name <= entries[-1].type_name:
            raise IndexCorrupt(
                f"section {section.type_name!r} comes after {entries[-1].type_name!r}: "
                "write sections once each, in order of their names"
            )
        start = entries[-1].start + entries[-1].rows if entries else 0
        entries.append(_write_section(out, section, start, extra))
    footer = Footer(sections=tuple(entries)).model_dump_json().encode()
    out.write(footer)
    out.write(TRAILER.pack(len(footer), hashlib.sha256(footer).digest()[:16], MAGIC))
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
) -> SectionEntry:
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
    first = np.append(starts, section.rows)
    leaves = Directory(key_hi=fence_hi, key_lo=fence_lo, first=first, sum_hi=sum_hi, sum_lo=sum_lo)
    tree = MemoryTree(leaves)
    _write_records(out, fence_hi, fence_lo, starts, sum_hi, sum_lo)
    bucket_directory, top = out.size_bytes, tree.buckets
    _write_records(out, top.key_hi, top.key_lo, top.lo, tree.first_leaf, top.sum_hi, top.sum_lo)
    return SectionEntry(
        type_name=section.type_name,
        start=start,
        rows=section.rows,
        sum_hi=wrapping_sum(sum_hi),
        sum_lo=wrapping_sum(sum_lo),
        columns=offsets,
        leaves=len(starts),
        directory=directory,
        buckets=len(top),
        bucket_directory=bucket_directory,
    )


def _write_records(out: _Out, *fields: U64 | I64) -> None:
    """Write one record after the other, so that a range of them is one range of bytes."""
    out.array(np.stack([field.astype(np.uint64, copy=False) for field in fields], axis=1).ravel())


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
        sums[leaf_lo:leaf_hi] += leaf_sums(values, cuts)
        row += len(values)
        out.array(values)
    return sums
