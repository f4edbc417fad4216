"""Rows of one type as a base and the changes over it, read as if they were one sorted index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from penstock.batch.index import (
    I64,
    LOCATOR_ROW_BITS,
    NOTHING,
    Column,
    Columns,
    Directory,
    KeyedRows,
    LeafTree,
    MemoryTree,
    SectionRows,
    Totals,
    joined,
    leaf_of,
    positions_of,
    sort_order,
    wrapping_sum,
)
from penstock.errors import IndexCorrupt
from penstock.identity.digest import U64

DELTA_COLUMNS: tuple[Column, ...] = (
    "key_hi",
    "key_lo",
    "hash_hi",
    "hash_lo",
    "locator",
    "before_hi",
    "before_lo",
)
_WORD = 2**64


@dataclass(frozen=True, eq=False)
class LocatedRows:
    """A batch's section as part of a snapshot: its locators carry the batch's ordinal."""

    section: KeyedRows
    ordinal: int

    @property
    def type_name(self) -> str:
        """The type of every row."""
        return self.section.type_name

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.section.rows

    @property
    def totals(self) -> Totals:
        """The digest of all rows."""
        return self.section.totals

    @property
    def first_locator(self) -> int | None:
        """The locator of the first row, where those of the others follow it by ones."""
        first = self.section.first_locator
        return None if first is None else first + (self.ordinal << LOCATOR_ROW_BITS)

    def directory(self) -> Directory:
        """Return all leaves."""
        return self.section.directory()

    def tree(self) -> LeafTree:
        """Return the leaves by the bucket."""
        return self.section.tree()

    def read(self, columns: Sequence[Column], lo: int, hi: int) -> tuple[U64, ...]:
        """Return some columns of the rows ``lo`` to ``hi``."""
        found = self.section.read(columns, lo, hi)
        if not self.ordinal or "locator" not in columns:
            return found
        high = np.uint64(self.ordinal << LOCATOR_ROW_BITS)
        return tuple(c | high if n == "locator" else c for n, c in zip(columns, found, strict=True))

    def gather(self, column: Column, lo: I64, hi: I64) -> U64:
        """Return one column of several ranges of rows, one after the other."""
        found = self.section.gather(column, lo, hi)
        return found | np.uint64(self.ordinal << LOCATOR_ROW_BITS) if column == "locator" else found

    def pick(self, column: Column, at: I64) -> U64 | None:
        """Return one column of some rows, or None where reading all between them is as fast."""
        return None if column == "locator" else self.section.pick(column, at)

    def columns(self) -> Columns | None:
        """Return all rows as arrays, or None where they have to be read to be had."""
        found = self.section.columns()
        if found is None or found.locator is not None:
            return None
        return replace(found, first_locator=self.first_locator)


def no_rows(type_name: str) -> SectionRows:
    """Return a section without rows."""
    empty = np.empty(0, np.uint64)
    return SectionRows(type_name=type_name, **dict.fromkeys(DELTA_COLUMNS, empty))


def merged_deltas(type_name: str, deltas: Sequence[KeyedRows]) -> SectionRows:
    """Fold deltas, oldest first, into one: the newest state of each key, and what it was before the oldest."""
    columns = [d.read(DELTA_COLUMNS, 0, d.rows) for d in deltas]
    if len(columns) == 1:
        return SectionRows(type_name=type_name, **dict(zip(DELTA_COLUMNS, columns[0], strict=True)))
    whole = dict(zip(DELTA_COLUMNS, map(np.concatenate, zip(*columns, strict=True)), strict=True))
    order = sort_order(whole["key_hi"], whole["key_lo"])
    hi, lo = whole["key_hi"][order], whole["key_lo"][order]
    begins = np.ones(len(hi), bool)
    begins[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
    oldest = order[np.flatnonzero(begins)]
    newest = order[np.flatnonzero(np.append(begins[1:], np.ones(min(len(hi), 1), bool)))]
    return SectionRows(
        type_name=type_name,
        **{n: whole[n][oldest if n.startswith("before") else newest] for n in DELTA_COLUMNS},
    )


@dataclass(frozen=True, eq=False)
class OverlaySection:
    """A base with changes over it. Conforms to ``KeyedRows``; its leaves are the base's.

    Rows are read in whole leaves of the base, and the last stretch is kept, so that columns may be asked for one
    after the other.
    """

    base: KeyedRows
    changes: SectionRows
    _kept: dict[tuple[int, int], SectionRows] = field(default_factory=dict)

    @property
    def type_name(self) -> str:
        """The type of every row."""
        return self.changes.type_name

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.totals.rows

    @cached_property
    def totals(self) -> Totals:
        """The digest of all rows."""
        return added(self.base.totals, change_of(self.changes))

    @cached_property
    def _leaf(self) -> I64:
        return leaf_of(self._base_leaves, self.changes.key_hi, self.changes.key_lo)

    @cached_property
    def _base_leaves(self) -> Directory:
        leaves = self.base.directory()
        if len(leaves):
            return leaves
        zero = np.zeros(1, np.uint64)
        first = np.zeros(2, np.int64)
        return Directory(key_hi=zero, key_lo=zero, first=first, sum_hi=zero, sum_lo=zero)

    @property
    def first_locator(self) -> int | None:
        """None: locators do not follow one another."""
        return None

    def directory(self) -> Directory:
        """Return the base's leaves with the counts and sums that they have under the changes."""
        return self._directory

    def tree(self) -> LeafTree:
        """Return the same leaves by the bucket."""
        return self._tree

    @cached_property
    def _tree(self) -> MemoryTree:
        return MemoryTree(self._directory)

    @cached_property
    def _directory(self) -> Directory:
        base, changes = self._base_leaves, self.changes
        counts = np.diff(base.first)
        sum_hi, sum_lo = base.sum_hi.copy(), base.sum_lo.copy()
        stays, was = _present(changes)
        np.add.at(counts, self._leaf, stays.astype(np.int64) - was.astype(np.int64))
        np.add.at(sum_hi, self._leaf, changes.hash_hi - _given(changes.before_hi))
        np.add.at(sum_lo, self._leaf, changes.hash_lo - _given(changes.before_lo))
        if (counts < 0).any():
            raise IndexCorrupt(
                f"a snapshot's deltas take away rows of {self.type_name!r} it never had"
            )
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return Directory(
            key_hi=base.key_hi, key_lo=base.key_lo, first=first, sum_hi=sum_hi, sum_lo=sum_lo
        )

    def read(self, columns: Sequence[Column], lo: int, hi: int) -> tuple[U64, ...]:
        """Return some columns of the rows ``lo`` to ``hi``."""
        if lo >= hi:
            return tuple(np.empty(0, np.uint64) for _ in columns)
        first = self._directory.first
        leaf_lo = int(np.searchsorted(first, lo, "right")) - 1
        leaf_hi = int(np.searchsorted(first, hi, "left"))
        stretch = self._stretch(leaf_lo, leaf_hi)
        start = int(first[leaf_lo])
        if stretch.rows != int(first[leaf_hi]) - start:
            raise IndexCorrupt(
                f"a snapshot's deltas do not fit their base: rows of {self.type_name!r} near {lo}"
            )
        return stretch.read(columns, lo - start, hi - start)

    def gather(self, column: Column, lo: I64, hi: I64) -> U64:
        """Return one column of several ranges of rows, one after the other."""
        pairs = zip(lo.tolist(), hi.tolist(), strict=True)
        return joined(self.read((column,), a, b)[0] for a, b in pairs)

    def pick(self, column: Column, at: I64) -> U64 | None:  # noqa: ARG002
        """None: rows are merged in whole leaves."""
        return None

    def columns(self) -> Columns | None:
        """None: rows are merged in whole leaves."""
        return None

    def _stretch(self, leaf_lo: int, leaf_hi: int) -> SectionRows:
        kept = self._kept.get((leaf_lo, leaf_hi))
        if kept is None:
            kept = self._merge(leaf_lo, leaf_hi)
            self._kept.clear()
            self._kept[leaf_lo, leaf_hi] = kept
        return kept

    def _merge(self, leaf_lo: int, leaf_hi: int) -> SectionRows:
        names = DELTA_COLUMNS[:5]
        bounds = self._base_leaves.first
        base = self.base.read(names, int(bounds[leaf_lo]), int(bounds[leaf_hi]))
        a, b = np.searchsorted(self._leaf, (leaf_lo, leaf_hi))
        changes = _slice(self.changes, int(a), int(b))
        stays, _ = _present(changes)
        at = positions_of(base[0], base[1], changes.key_hi, changes.key_lo)
        keep = np.ones(len(base[0]), bool)
        keep[at[at >= 0]] = False
        new = np.flatnonzero(stays)
        over = changes.read(names, 0, changes.rows)
        merged = [np.concatenate([c[keep], o[new]]) for c, o in zip(base, over, strict=True)]
        order = sort_order(merged[0], merged[1])
        return SectionRows(
            type_name=self.type_name,
            **{name: column[order] for name, column in zip(names, merged, strict=True)},
        )


def _given(column: U64 | None) -> U64:
    assert column is not None
    return column


def _slice(rows: SectionRows, lo: int, hi: int) -> SectionRows:
    columns = rows.read(DELTA_COLUMNS, lo, hi)
    return SectionRows(type_name=rows.type_name, **dict(zip(DELTA_COLUMNS, columns, strict=True)))


def _present(changes: SectionRows) -> tuple[np.ndarray, np.ndarray]:
    """Say of each change whether the row is there after it, and whether it was before."""
    return (
        (changes.hash_hi | changes.hash_lo) != 0,
        (_given(changes.before_hi) | _given(changes.before_lo)) != 0,
    )


def change_of(changes: SectionRows) -> Totals:
    """Return by how much changes move the totals of what they lie over; sums are modulo 2**64."""
    stays, was = _present(changes)
    before_hi, before_lo = _given(changes.before_hi), _given(changes.before_lo)
    return Totals(
        rows=int(stays.sum()) - int(was.sum()),
        sum_hi=wrapping_sum(changes.hash_hi - before_hi),
        sum_lo=wrapping_sum(changes.hash_lo - before_lo),
    )


def added(one: Totals | None, other: Totals) -> Totals:
    """Return the totals of both."""
    one = one or NOTHING
    return Totals(
        rows=one.rows + other.rows,
        sum_hi=(one.sum_hi + other.sum_hi) % _WORD,
        sum_lo=(one.sum_lo + other.sum_lo) % _WORD,
    )
