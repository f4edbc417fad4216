"""Which keys changed between two sorted indexes, found in bounded memory and with as few reads as can be.

1. Sections whose totals agree are equal: nothing else is read.
2. Buckets, and the leaves of buckets that differ, are compared between the fences that both have (``stretches``);
   only where the sums differ are rows read.
3. Rows of those stretches are merged by the piece of some 16k rows (``merge``), and what was found must explain
   the difference of the sums; if it does not, the piece is merged again on all 128 bits, and if that does not
   explain it either, a file is corrupt.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from penstock.batch.index import KeyedRows
from penstock.diff.compiled import PIECE_ROWS as COMPILED_PIECE_ROWS
from penstock.diff.compiled import CompiledMerge, compiled_merge
from penstock.diff.merge import Merged, Side, exact, fast
from penstock.diff.rows import DiffCounts, KeyChanges, RowRefs
from penstock.diff.stretches import Piece, Runs, named, pieces, touched
from penstock.errors import IndexCorrupt

PIECE_ROWS = 32_768
SPARSE = 8
"""A batch whose absences mean nothing is looked up row by row if it has this many times fewer rows."""


def diff_section(
    before: KeyedRows | None,
    after: KeyedRows | None,
    *,
    absent: bool,
    piece_rows: int | None = None,
    compiled: bool | None = None,
) -> SectionDiff:
    """Return what takes ``before`` to ``after``, both of one type; None is no rows.

    ``absent`` says that what ``after`` does not have is deleted (a full batch). Tombstones delete either way. While
    it is read it raises :class:`IndexCorrupt` if rows are not what the digests of their leaves say. ``compiled`` asks
    for the compiled merge at any size, or for none; by itself a diff uses it where that pays.
    """
    return SectionDiff(before, after, absent=absent, piece_rows=piece_rows, compiled=compiled)


class SectionDiff:
    """The changes from one section to another: iterate once, then look at ``counts``."""

    def __init__(
        self,
        before: KeyedRows | None,
        after: KeyedRows | None,
        *,
        absent: bool,
        piece_rows: int | None = None,
        compiled: bool | None = None,
    ) -> None:
        side = after if after is not None else before
        if side is None:
            raise ValueError("a diff needs a side: before and after are both None")
        self.type_name = side.type_name
        self.absent = absent
        self.counts = DiffCounts()
        self.before = before if before is not None and before.rows else None
        self.after = after if after is not None and after.rows else None
        self.compiled = None
        if self.before is not None and self.after is not None:
            self.compiled = compiled_merge(self.before, self.after, wanted=compiled)
        self.piece_rows = piece_rows or (COMPILED_PIECE_ROWS if self.compiled else PIECE_ROWS)
        self._idle = 0
        self._changes = self._stream()

    def __iter__(self) -> Iterator[KeyChanges]:
        return self._changes

    def _stream(self) -> Iterator[KeyChanges]:
        for merged in self._merges():
            changes = self._classified(merged)
            if len(changes):
                yield changes
        self._finish()

    def _merges(self) -> Iterator[Merged]:
        before, after = self.before, self.after
        if before is None or after is None:
            yield from self._one_sided()
        elif before.totals == after.totals:
            return
        elif not self.absent and after.rows * SPARSE < before.rows:
            yield from self._looked_up(before, after)
        else:
            yield from self._compared(before, after)

    def _one_sided(self) -> Iterator[Merged]:
        rows = self.after or (self.before if self.absent else None)
        if rows is None:
            return
        for lo in range(0, rows.rows, self.piece_rows):
            side = Side(rows, Runs.one(lo, min(lo + self.piece_rows, rows.rows)))
            none = Side(rows, Runs.one(lo, lo))
            merged = fast(none, side) if rows is self.after else fast(side, none)
            assert merged is not None
            yield merged

    def _compared(self, before: KeyedRows, after: KeyedRows) -> Iterator[Merged]:
        moved_hi, moved_lo = 0, 0
        for piece in self._pieces(before, after):
            merged = self._merged(before, after, piece)
            yield merged
            if piece.whole:
                continue
            hi, lo = merged.moved()
            moved_hi, moved_lo = (moved_hi + hi) % 2**64, (moved_lo + lo) % 2**64
            if piece.last:
                if (moved_hi, moved_lo) != (piece.moved_hi, piece.moved_lo):
                    raise self._corrupt(piece)
                moved_hi, moved_lo = 0, 0

    def _pieces(self, before: KeyedRows, after: KeyedRows) -> Iterator[Piece]:
        for stretches in touched(before.tree(), after.tree(), self.piece_rows):
            yield from pieces(before, after, stretches, self.piece_rows)

    def _merged(self, before: KeyedRows, after: KeyedRows, piece: Piece) -> Merged:
        if self.compiled is not None:
            return self._merged_at_once(self.compiled, piece)
        sides = Side(before, piece.before), Side(after, piece.after)
        if not piece.whole:
            return fast(*sides, wide=True) or exact(*sides)
        more = len(sides[1]) - len(sides[0])
        merged = fast(*sides)
        if merged is None or not merged.explains(piece, more):
            merged = exact(*sides)
            if not merged.explains(piece, more):
                raise self._corrupt(piece)
        return merged

    def _merged_at_once(self, compiled: CompiledMerge, piece: Piece) -> Merged:
        merged = compiled.merged(piece)
        more = len(piece.after) - len(piece.before)
        if piece.whole and not merged.explains(piece, more):
            merged = compiled.exact(piece)
            if not merged.explains(piece, more):
                raise self._corrupt(piece)
        return merged

    def _looked_up(self, before: KeyedRows, after: KeyedRows) -> Iterator[Merged]:
        for stretches in named(before.tree(), after, self.piece_rows):
            for piece in pieces(before, after, stretches, self.piece_rows):
                old = Side(before, piece.before)
                sums = (_sum(old, "hash_hi"), _sum(old, "hash_lo"))
                if sums != (-piece.moved_hi % 2**64, -piece.moved_lo % 2**64):
                    raise self._corrupt(piece)
                merged = exact(old, Side(after, piece.after))
                yield merged

    def _corrupt(self, piece: Piece) -> IndexCorrupt:
        return IndexCorrupt(
            f"rows of type {self.type_name!r} do not add up to the digests of their leaves (before: "
            f"rows {piece.before.lo[0]} to {piece.before.hi[-1]}, after: rows {piece.after.lo[0]} to "
            f"{piece.after.hi[-1]}): fetch both index files again, and "
            "land the batch again if that does not mend it"
        )

    def _classified(self, merged: Merged) -> KeyChanges:
        """Tell tombstones apart, count, and leave out what absence does not delete."""
        created, old, new = merged.created, merged.updated_before, merged.updated_after
        deleted = merged.deleted if self.absent else merged.deleted.take(_NONE)
        buried = 0
        if merged.tombstones != 0:
            created, idle = _without_tombstones(created)
            self._idle += idle
            gone = _tombstones(new)
            buried = int(gone.sum())
        if buried:
            kept, dead = np.flatnonzero(~gone), np.flatnonzero(gone)
            deleted = _both(deleted, old.take(dead))
            old, new = old.take(kept), new.take(kept)
        counts = self.counts
        counts.created += len(created)
        counts.updated += len(new)
        counts.deleted += len(deleted)
        self._buried += buried
        return KeyChanges(
            type_name=self.type_name,
            created=created,
            updated_before=old,
            updated_after=new,
            deleted=deleted,
        )

    _buried = 0

    def _finish(self) -> None:
        counts = self.counts
        before = self.before.rows if self.before else 0
        after = self.after.rows if self.after else 0
        counts.unchanged = after - counts.created - counts.updated - self._buried
        matched = after - counts.created - self._idle
        counts.kept = 0 if self.absent else before - matched


_NONE = np.empty(0, np.int64)


def _sum(side: Side, name: str) -> int:
    return int(np.add.reduce(side.column(name)))  # type: ignore[arg-type]


def _tombstones(rows: RowRefs) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    gone: np.ndarray[tuple[int], np.dtype[np.bool_]] = (rows.hash_hi | rows.hash_lo) == 0
    return gone


def _without_tombstones(rows: RowRefs) -> tuple[RowRefs, int]:
    gone = _tombstones(rows)
    if not gone.any():
        return rows, 0
    return rows.take(np.flatnonzero(~gone)), int(gone.sum())


def _both(one: RowRefs, other: RowRefs) -> RowRefs:
    """Return two sets of rows without a key in common as one, in order of their keys."""
    if not len(one):
        return other
    names = ("key_hi", "key_lo", "hash_hi", "hash_lo", "locator")
    whole = RowRefs(**{n: np.concatenate([getattr(one, n), getattr(other, n)]) for n in names})
    return whole.take(np.lexsort((whole.key_lo, whole.key_hi)))


__all__ = ["DiffCounts", "KeyChanges", "RowRefs", "SectionDiff", "diff_section"]
