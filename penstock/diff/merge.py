"""Merging one piece: what was created, updated and deleted among some thousand sorted rows of both sides.

The fast way runs on ``key_hi`` and ``hash_lo`` alone, half of the bytes, and reads the other halves only of what
changed. It is exact unless two rows share ``key_hi`` or two digests share ``hash_lo``; both show, the first in the keys
of what changed, the second in the sums that the changes have to explain, and then :func:`exact` merges again on
all 128 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.batch.index import I64, Column, KeyedRows, positions_of
from penstock.diff.places import places
from penstock.diff.rows import NO_ROWS, RowRefs
from penstock.diff.stretches import Piece, Runs
from penstock.identity.digest import U64

FEW = 16
"""Rows are few among others if they are fewer than one in this many."""
_MASK = 2**64 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What became of the rows of one piece; tombstones are not told apart yet."""

    created: RowRefs
    updated_before: RowRefs
    updated_after: RowRefs
    deleted: RowRefs
    tombstones: int | None = None
    """How many rows of ``after`` are tombstones, where that was counted."""
    sums: tuple[int, int] | None = None
    """What :meth:`moved` is, where that was counted."""

    def explains(self, piece: Piece, rows: int) -> bool:
        """Say whether these changes account for the difference of the piece's sums and counts."""
        moved_hi, moved_lo = self.moved()
        return (
            len(self.created) - len(self.deleted) == rows
            and moved_hi == piece.moved_hi
            and moved_lo == piece.moved_lo
        )

    def moved(self) -> tuple[int, int]:
        """Return by how much these changes move the sums, modulo 2**64."""
        if self.sums is not None:
            return self.sums
        up = (self.created, self.updated_after)
        down = (self.updated_before, self.deleted)
        hi = sum(_sum(r.hash_hi) for r in up) - sum(_sum(r.hash_hi) for r in down)
        lo = sum(_sum(r.hash_lo) for r in up) - sum(_sum(r.hash_lo) for r in down)
        return hi & _MASK, lo & _MASK


def _sum(values: U64) -> int:
    return int(np.add.reduce(values))


class Side:
    """Some runs of rows of one side; columns are read when asked for, and once."""

    def __init__(self, rows: KeyedRows, where: Runs) -> None:
        self.rows, self.where = rows, where
        self.size = len(where)
        self._columns: dict[Column, U64] = {}

    def __len__(self) -> int:
        return self.size

    def column(self, name: Column) -> U64:
        """Return one column of all runs, one after the other."""
        found: U64 | None = self._columns.get(name)
        if found is None:
            lo, hi = self.where.lo, self.where.hi
            if len(lo) == 1:
                (found,) = self.rows.read((name,), int(lo[0]), int(hi[0]))
            else:
                found = self.rows.gather(name, lo, hi)
            self._columns[name] = found
        return found

    def refs(self, at: I64) -> RowRefs:
        """Return rows by their positions in the runs."""
        if not len(at):
            return NO_ROWS
        if len(at) == self.size:
            return self.every()
        rows = self._rows(at)
        return RowRefs(
            key_hi=self.column("key_hi").take(at),
            key_lo=self._some("key_lo", at, rows),
            hash_hi=self._some("hash_hi", at, rows),
            hash_lo=self.column("hash_lo").take(at),
            locator=self._locators(at, rows),
        )

    def _some(self, name: Column, at: I64, rows: I64) -> U64:
        """Return one column of some rows: those alone where they are few and can be had alone."""
        some = None
        if FEW * len(at) < self.size and name not in self._columns:
            some = self.rows.pick(name, rows)
        return self.column(name).take(at) if some is None else some

    def _rows(self, at: I64) -> I64:
        """Return where positions in the runs lie among all rows of the section."""
        lo = self.where.lo
        if len(lo) == 1:
            return at + int(lo[0])
        sizes = self.where.hi - lo
        ends = np.cumsum(sizes)
        return at + (lo - ends + sizes).take(np.searchsorted(ends, at, "right"))

    def every(self) -> RowRefs:
        """Return all rows, without a copy where there is one run."""
        every = np.arange(self.size)
        return RowRefs(
            key_hi=self.column("key_hi"),
            key_lo=self.column("key_lo"),
            hash_hi=self.column("hash_hi"),
            hash_lo=self.column("hash_lo"),
            locator=self._locators(every, self._rows(every)),
        )

    def _locators(self, at: I64, rows: I64) -> U64:
        first = self.rows.first_locator
        if first is not None:
            return (rows + first).view(np.uint64)
        return self.column("locator").take(at)


def fast(before: Side, after: Side, *, wide: bool = False) -> Merged | None:
    """Merge on one half of keys and digests; None where keys tie so that halves cannot tell them apart.

    ``wide`` compares both halves of digests, for pieces whose sums are not known.
    """
    if not len(before):
        return _only(created=after.every())
    if not len(after):
        return _only(deleted=before.every())
    have, want = before.column("key_hi"), after.column("key_hi")
    old, new = before.column("hash_lo"), after.column("hash_lo")
    if len(have) == len(want) and bool((have == want).all()):
        differs = old != new
        if wide:
            differs |= before.column("hash_hi") != after.column("hash_hi")
        at = _true(differs)
        return _updated(before, after, at, at)
    place = places(have, want)
    differs = old.take(place, mode="clip") != new
    if wide:
        differs |= before.column("hash_hi").take(place, mode="clip") != after.column("hash_hi")
        differs |= place < 0
    changed = _true(differs)
    origin = place.take(changed)
    fresh = origin < 0
    created, kept = changed.take(_true(fresh)), _true(~fresh)
    deleted = _unmatched(len(have), place, len(want) - len(created))
    if _tied(want, created) or _tied(have, deleted):
        return None
    merged = _updated(before, after, origin.take(kept), changed.take(kept))
    if merged is None:
        return None
    return Merged(
        created=after.refs(created),
        updated_before=merged.updated_before,
        updated_after=merged.updated_after,
        deleted=before.refs(deleted),
    )


def _only(*, created: RowRefs = NO_ROWS, deleted: RowRefs = NO_ROWS) -> Merged:
    return Merged(created=created, updated_before=NO_ROWS, updated_after=NO_ROWS, deleted=deleted)


def _updated(before: Side, after: Side, at_before: I64, at_after: I64) -> Merged | None:
    old, new = before.refs(at_before), after.refs(at_after)
    if (old.key_lo != new.key_lo).any():
        return None
    return Merged(created=NO_ROWS, updated_before=old, updated_after=new, deleted=NO_ROWS)


def _true(flags: np.ndarray[Any, np.dtype[np.bool_]]) -> I64:
    return np.flatnonzero(flags)


def _unmatched(n: int, place: I64, matched: int) -> I64:
    """Return the positions below ``n`` that no ``place`` names; a place of -1 names none."""
    if matched == n:
        return np.empty(0, np.int64)
    free = np.ones(n + 1, bool)
    free[place] = False
    return _true(free[:n])


def _tied(keys: U64, at: I64) -> bool:
    """Say whether a row at one of some positions shares its ``key_hi`` with a neighbour."""
    if not len(at):
        return False
    if FEW * len(at) > len(keys):
        return bool((keys[1:] == keys[:-1]).any())
    mine, last = keys.take(at), len(keys) - 1
    left = (keys.take(np.maximum(at - 1, 0)) == mine) & (at > 0)
    right = (keys.take(np.minimum(at + 1, last)) == mine) & (at < last)
    return bool((left | right).any())


def exact(before: Side, after: Side) -> Merged:
    """Merge on all 128 bits of keys and digests."""
    at = positions_of(
        before.column("key_hi"),
        before.column("key_lo"),
        after.column("key_hi"),
        after.column("key_lo"),
    )
    there = at >= 0
    both = _true(there)
    origin = at[both]
    same = (before.column("hash_hi")[origin] == after.column("hash_hi")[both]) & (
        before.column("hash_lo")[origin] == after.column("hash_lo")[both]
    )
    gone = np.ones(len(before), bool)
    gone[origin] = False
    return Merged(
        created=after.refs(_true(~there)),
        updated_before=before.refs(origin[~same]),
        updated_after=after.refs(both[~same]),
        deleted=before.refs(_true(gone)),
    )
