"""Where two indexes can differ: stretches of keys whose digests differ, cut into pieces to merge.

The two directories are compared between the fences that both have. Leaves are cut by content, so nearly every fence
of one is a fence of the other, and what is equal is passed over without a look at its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from penstock.batch.index import FAULT_BYTES, I64, Fences, KeyedRows, LeafTree, holding
from penstock.diff.places import places
from penstock.identity.digest import U64

GROUP_PIECES = 16
"""The leaves of this many pieces of rows are compared at once: some 4096 leaves, 160 KiB a side."""
_BUCKETS = 64
_REACH = 2
"""A piece's rows may lie scattered over this many times its size: of a mapped file all of it may become resident."""

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Ranges of rows, in order."""

    lo: I64
    hi: I64

    def __len__(self) -> int:
        return int((self.hi - self.lo).sum())

    @classmethod
    def one(cls, lo: int, hi: int) -> Runs:
        """Return one range."""
        return cls(lo=np.array([lo]), hi=np.array([hi]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretches:
    """Stretches of keys, in order: row bounds on both sides, and by how much the sums of hashes differ.

    Arrays of one length; sums are of ``after`` less those of ``before``, modulo 2**64.
    """

    before_lo: I64
    before_hi: I64
    after_lo: I64
    after_hi: I64
    moved_hi: U64
    moved_lo: U64
    apart: Flags
    """Whether a stretch is read apart from the one before it, and not across the gap between them."""

    def __len__(self) -> int:
        return len(self.before_lo)

    def part(self, lo: int, hi: int) -> Piece:
        """Return some stretches as one piece."""
        apart = self.apart[lo + 1 : hi]
        begins, ends = np.append(True, apart), np.append(apart, True)
        before = Runs(lo=self.before_lo[lo:hi][begins], hi=self.before_hi[lo:hi][ends])
        after = Runs(lo=self.after_lo[lo:hi][begins], hi=self.after_hi[lo:hi][ends])
        return Piece(
            before=before,
            after=after,
            moved_hi=int(np.add.reduce(self.moved_hi[lo:hi], dtype=np.uint64)),
            moved_lo=int(np.add.reduce(self.moved_lo[lo:hi], dtype=np.uint64)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Runs of rows on both sides that hold the same stretches of keys, few enough to merge at once."""

    before: Runs
    after: Runs
    moved_hi: int
    moved_lo: int
    whole: bool = True
    """False for all but the last part of a stretch too long for one piece: its sums are not known
    part by part, and the last one's are those of the whole stretch."""
    last: bool = True


def touched(before: LeafTree, after: LeafTree, piece_rows: int) -> Iterator[Stretches]:
    """Return the stretches between common fences whose counts or sums differ, some joined across gaps.

    Buckets first, then the leaves of those buckets that differ, by the group of some thousand leaves. What has no
    bucket in common for longer than that is one stretch, without a look at its leaves.
    """
    top, group_rows = _differing(before.buckets, after.buckets), GROUP_PIECES * piece_rows
    for lo, hi in _grouped(top.longest(), group_rows):
        group = top.part(lo, hi)
        if hi == lo + 1 and int(group.longest()[0]) > group_rows:
            yield _stretches(group)
        else:
            leaves_b = before.leaves(group.before, group.before_end)
            leaves_a = after.leaves(group.after, group.after_end)
            yield _stretches(_differing(leaves_b, leaves_a))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Differing:
    """Ranges of fences of both sides, from one that both have to the next, whose digests differ."""

    before: I64
    before_end: I64
    after: I64
    after_end: I64
    rows: tuple[I64, I64, I64, I64]
    """Bounds of the rows: low and high before, low and high after."""
    moved: tuple[U64, U64]

    def longest(self) -> I64:
        """Return the rows of the longer side of each."""
        lo_b, hi_b, lo_a, hi_a = self.rows
        longest: I64 = np.maximum(hi_b - lo_b, hi_a - lo_a)
        return longest

    def part(self, lo: int, hi: int) -> _Differing:
        """Return some of them."""
        b_lo, b_hi, a_lo, a_hi = (rows[lo:hi] for rows in self.rows)
        return _Differing(
            before=self.before[lo:hi],
            before_end=self.before_end[lo:hi],
            after=self.after[lo:hi],
            after_end=self.after_end[lo:hi],
            rows=(b_lo, b_hi, a_lo, a_hi),
            moved=(self.moved[0][lo:hi], self.moved[1][lo:hi]),
        )


def _differing(before: Fences, after: Fences) -> _Differing:
    at_b, at_a = _common_fences(before, after)
    end_b, lo_b, hi_b, sums_b = _between(before, at_b)
    end_a, lo_a, hi_a, sums_a = _between(after, at_a)
    moved_hi, moved_lo = sums_a[0] - sums_b[0], sums_a[1] - sums_b[1]
    same_count = (hi_b - lo_b) == (hi_a - lo_a)
    at = np.flatnonzero(((moved_hi | moved_lo) != 0) | ~same_count)
    return _Differing(
        before=at_b[at],
        before_end=end_b[at],
        after=at_a[at],
        after_end=end_a[at],
        rows=(lo_b[at], hi_b[at], lo_a[at], hi_a[at]),
        moved=(moved_hi[at], moved_lo[at]),
    )


def _stretches(found: _Differing) -> Stretches:
    lo_b, hi_b, lo_a, hi_a = found.rows
    return Stretches(
        before_lo=lo_b,
        before_hi=hi_b,
        after_lo=lo_a,
        after_hi=hi_a,
        moved_hi=found.moved[0],
        moved_lo=found.moved[1],
        apart=_apart(lo_b[1:] - hi_b[:-1], found.longest()),
    )


def _grouped(rows: I64, group_rows: int) -> Iterator[tuple[int, int]]:
    """Cut sizes into groups of at most ``group_rows``, or of one."""
    ends = np.cumsum(rows)
    start, done = 0, 0
    while start < len(rows):
        stop = max(int(np.searchsorted(ends, done + group_rows, "right")), start + 1)
        yield start, stop
        start, done = stop, int(ends[stop - 1])


def _apart(gap: I64, size: I64) -> Flags:
    """Choose the shortest gaps between stretches to read across, together three quarters of the stretches.

    Rows of a gap are equal on both sides and do no harm; one long read is cheaper than two short ones, and no
    more than twice what was touched is ever read.
    """
    apart = np.ones(len(size), bool)
    order = np.argsort(gap, kind="stable")
    apart[order[4 * np.cumsum(gap[order]) <= 3 * size.sum()] + 1] = False
    return apart


def _common_fences(before: Fences, after: Fences) -> tuple[I64, I64]:
    """Return the fences of both that are the same key; those that a range begins with always are.

    Where two fences of one side share ``key_hi``, one may be overlooked: the stretch is only longer for it.
    """
    n = len(before)
    if (
        n == len(after)
        and _same(before.key_hi, after.key_hi)
        and _same(before.key_lo, after.key_lo)
    ):
        every = np.arange(n)
        return every, every
    at = places(after.key_hi, before.key_hi)
    there = np.maximum(at, 0)
    begins = np.zeros(len(after), bool)
    begins[after.starts] = True
    common = (at >= 0) & (after.key_lo[there] == before.key_lo) & ~begins[there]
    common[before.starts] = True
    there[before.starts] = after.starts
    fences = np.flatnonzero(common)
    return fences, there[fences]


def _same(one: U64, other: U64) -> bool:
    return bool((one == other).all())


def _between(fences: Fences, at: I64) -> tuple[I64, I64, I64, tuple[U64, U64]]:
    """Return where each range from one position to the next ends, its rows, and its sums."""
    end = np.append(at[1:], len(fences))
    lo, hi = fences.lo[at], fences.hi[end - 1]
    if len(at) == len(fences):
        return end, lo, hi, (fences.sum_hi, fences.sum_lo)
    return end, lo, hi, (_sums(fences.sum_hi, at), _sums(fences.sum_lo, at))


def _sums(sums: U64, at: I64) -> U64:
    return np.add.reduceat(sums, at, dtype=np.uint64)


def pieces(
    before: KeyedRows, after: KeyedRows, stretches: Stretches, piece_rows: int
) -> Iterator[Piece]:
    """Cut stretches into pieces of about ``piece_rows`` rows on the longer side."""
    rows = np.maximum(
        stretches.before_hi - stretches.before_lo, stretches.after_hi - stretches.after_lo
    )
    gap = np.append(stretches.before_lo[:1], stretches.before_lo[1:] - stretches.before_hi[:-1])
    reach = (rows + np.minimum(gap, FAULT_BYTES // 8)) // _REACH
    for start, stop in _grouped(np.maximum(rows, reach), piece_rows):
        piece = stretches.part(start, stop)
        if int(rows[start]) > piece_rows:
            yield from _cut(before, after, piece, piece_rows)
        else:
            yield piece


def _cut(before: KeyedRows, after: KeyedRows, piece: Piece, piece_rows: int) -> Iterator[Piece]:
    """Cut one long stretch at fences of its longer side, which are looked up in the other."""
    b, b_hi = int(piece.before.lo[0]), int(piece.before.hi[0])
    a, a_hi = int(piece.after.lo[0]), int(piece.after.hi[0])
    if b_hi - b >= a_hi - a:
        cuts = _cuts(before, (b, b_hi), after, (a, a_hi), piece_rows)
    else:
        cuts = ((o, r) for r, o in _cuts(after, (a, a_hi), before, (b, b_hi), piece_rows))
    part = partial(Piece, moved_hi=piece.moved_hi, moved_lo=piece.moved_lo)
    whole = True
    for b_cut, a_cut in cuts:
        whole = False
        yield part(before=Runs.one(b, b_cut), after=Runs.one(a, a_cut), whole=False, last=False)
        b, a = b_cut, a_cut
    yield part(before=Runs.one(b, b_hi), after=Runs.one(a, a_hi), whole=whole)


def _cuts(
    rows: KeyedRows,
    own: tuple[int, int],
    other: KeyedRows,
    bounds: tuple[int, int],
    piece_rows: int,
) -> Iterator[tuple[int, int]]:
    """Return where to cut both sides: fences of ``rows`` some ``piece_rows`` apart, and their places in ``other``."""
    (lo, hi), (o_lo, o_hi) = own, bounds
    for leaves in _leaves_over(rows.tree(), lo, hi):
        slot = (leaves.lo - lo) // piece_rows
        before = np.append((int(leaves.lo[0]) - 1 - lo) // piece_rows, slot[:-1])
        at = np.flatnonzero((leaves.lo > lo) & (leaves.lo < hi) & (slot > before))
        places_in_other = _lower_bounds(other, leaves.key_hi[at], leaves.key_lo[at], o_lo, o_hi)
        for cut, found in zip(leaves.lo[at].tolist(), places_in_other, strict=True):
            o_lo = max(found, o_lo)
            yield cut, o_lo


def _leaves_over(tree: LeafTree, lo: int, hi: int) -> Iterator[Fences]:
    """Return the leaves of the buckets that hold rows ``lo`` to ``hi``, some buckets at a time."""
    buckets = tree.buckets
    first = int(np.searchsorted(buckets.lo, lo, "right")) - 1
    stop = int(np.searchsorted(buckets.lo, hi, "left"))
    for at in range(first, stop, _BUCKETS):
        yield tree.leaves(np.array([at]), np.array([min(at + _BUCKETS, stop)]))


def _lower_bounds(rows: KeyedRows, key_hi: U64, key_lo: U64, lo: int, hi: int) -> list[int]:
    """Return the first row from ``lo`` to ``hi`` that is not below each key; reads a leaf for each key."""
    if lo == hi or not len(key_hi):
        return [lo] * len(key_hi)
    bounds = []
    leaves, leaf = holding(rows.tree(), key_hi, key_lo)
    for n, wanted_hi, wanted_lo in zip(leaf.tolist(), key_hi, key_lo, strict=True):
        first, stop = int(leaves.lo[n]), int(leaves.hi[n])
        have_hi, have_lo = rows.read(("key_hi", "key_lo"), first, stop)
        below = (have_hi < wanted_hi) | ((have_hi == wanted_hi) & (have_lo < wanted_lo))
        bounds.append(min(max(first + int(below.sum()), lo), hi))
    return bounds


def named(before: LeafTree, after: KeyedRows, piece_rows: int) -> Iterator[Stretches]:
    """Return the leaves of ``before`` that could hold the keys of ``after``, some thousand keys at a time.

    For an ``after`` that is small and whose absences mean nothing: all else of ``before`` need not be read.
    """
    for lo in range(0, after.rows, piece_rows):
        key_hi, key_lo = after.read(("key_hi", "key_lo"), lo, min(lo + piece_rows, after.rows))
        leaves, leaf = holding(before, key_hi, key_lo)
        begins = np.flatnonzero(np.append(True, leaf[1:] != leaf[:-1]))
        leaf = leaf[begins]
        zeros = np.zeros(len(leaf), np.uint64)
        low, high = leaves.lo[leaf], leaves.hi[leaf]
        yield Stretches(
            before_lo=low,
            before_hi=high,
            after_lo=begins + lo,
            after_hi=np.append(begins[1:], len(key_hi)) + lo,
            moved_hi=zeros - leaves.sum_hi[leaf],
            moved_lo=zeros - leaves.sum_lo[leaf],
            apart=np.append(True, low[1:] != high[:-1]),
        )
