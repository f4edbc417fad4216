"""Rows of one type, sorted by key: in memory, their leaves, and looking keys up among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from penstock.batch.index_tree import (
    LEAF_MASK,
    Directory,
    LeafTree,
    MemoryTree,
    holding,
)
from penstock.identity.digest import U64

Column = Literal["key_hi", "key_lo", "hash_hi", "hash_lo", "locator", "before_hi", "before_lo"]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """The digest of a set of rows: how many, and the sums of both halves of their hashes modulo 2**64."""

    rows: int
    sum_hi: int
    sum_lo: int


NOTHING = Totals(rows=0, sum_hi=0, sum_lo=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """All rows of a section as arrays that are at hand: in memory, or views of a mapped file."""

    key_hi: U64
    key_lo: U64
    hash_hi: U64
    hash_lo: U64
    locator: U64 | None
    """None where locators follow one another from ``first_locator``."""
    first_locator: int | None
    count: Callable[[int, int], None]
    """Has to be told how many bytes of the arrays were read, and how many may be resident for it."""


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
        """Return all leaves."""
        ...

    def tree(self) -> LeafTree:
        """Return the leaves by the bucket."""
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

    def columns(self) -> Columns | None:
        """Return all rows as arrays, or None where they have to be read to be had."""
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
        """Return all leaves."""
        first = np.append(leaf_starts(self.key_lo), self.rows)
        starts = first[:-1]
        return Directory(
            key_hi=self.key_hi[starts],
            key_lo=self.key_lo[starts],
            first=first,
            sum_hi=leaf_sums(self.hash_hi, starts),
            sum_lo=leaf_sums(self.hash_lo, starts),
        )

    def tree(self) -> LeafTree:
        """Return the leaves by the bucket."""
        return MemoryTree(self.directory())

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

    def columns(self) -> Columns:
        """Return all rows as arrays."""
        return Columns(
            key_hi=self.key_hi,
            key_lo=self.key_lo,
            hash_hi=self.hash_hi,
            hash_lo=self.hash_lo,
            locator=self.locator,
            first_locator=self.first_locator,
            count=lambda *_: None,
        )

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


def leaf_sums(values: U64, starts: I64) -> U64:
    """Return the sum of each leaf, modulo 2**64."""
    if not len(starts):
        return np.empty(0, np.uint64)
    return np.add.reduceat(values, starts, dtype=np.uint64)


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


def find_rows(section: KeyedRows, key_hi: U64, key_lo: U64, *, locators: bool = False) -> I64:
    """Return where keys, in any order, lie in a section: rows from its first, or their locators.

    What is absent is -1. Reads only the leaves that could hold a key.
    """
    found = np.full(len(key_hi), -1, np.int64)
    for ask, at, lo, hi in _places(section, key_hi, key_lo):
        if locators:
            (locator,) = section.read(("locator",), lo, hi)
            found[ask] = locator[at].astype(np.int64)
        else:
            found[ask] = at + lo
    return found


def find_hashes(section: KeyedRows, key_hi: U64, key_lo: U64) -> tuple[U64, U64]:
    """Return the digest halves of keys, in any order; what is absent is (0, 0), which no row's digest is.

    Reads only the leaves that could hold a key.
    """
    hash_hi, hash_lo = np.zeros(len(key_hi), np.uint64), np.zeros(len(key_hi), np.uint64)
    for ask, at, lo, hi in _places(section, key_hi, key_lo):
        have_hi, have_lo = section.read(("hash_hi", "hash_lo"), lo, hi)
        hash_hi[ask], hash_lo[ask] = have_hi[at], have_lo[at]
    return hash_hi, hash_lo


def _places(section: KeyedRows, key_hi: U64, key_lo: U64) -> Iterator[tuple[I64, I64, int, int]]:
    """Yield, per stretch of leaves, which keys are there, where from its first row on, and its bounds."""
    if not section.rows or not len(key_hi):
        return
    order = sort_order(key_hi, key_lo)
    leaves, leaf = holding(section.tree(), key_hi[order], key_lo[order])
    low, high = leaves.lo[leaf], leaves.hi[leaf]
    for first, stop in _runs(low, high):
        ask = order[first:stop]
        lo, hi = int(low[first]), int(high[stop - 1])
        have_hi, have_lo = section.read(("key_hi", "key_lo"), lo, hi)
        at = positions_of(have_hi, have_lo, key_hi[ask], key_lo[ask])
        there = at >= 0
        if there.any():
            yield ask[there], at[there], lo, hi


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


def _runs(low: I64, high: I64, *, max_rows: int = 65_536) -> Iterator[tuple[int, int]]:
    """Cut leaves, by the rows they hold, into runs of neighbouring ones, so that each run is one read."""
    apart = (low[1:] != low[:-1]) & (low[1:] != high[:-1])
    cuts = np.flatnonzero(apart | (np.diff(low // max_rows) > 0)) + 1
    yield from pairwise([0, *cuts.tolist(), len(low)])
