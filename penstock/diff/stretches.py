"""Where two indexes can differ: stretches of keys whose digests differ, cut into pieces to merge.

The two directories are compared between the fences that both have. Leaves are cut by content, so nearly every fence
of one is a fence of the other, and what is equal is passed over without a look at its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from penstock.batch.index import I64, Directory, KeyedRows, leaf_of
from penstock.identity.digest import U64

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


def touched(before: Directory, after: Directory) -> Stretches:
    """Return the stretches between common fences whose counts or sums differ, some joined across gaps."""
    at_before, at_after = _common_fences(before, after)
    lo_b, hi_b, sums_b = _between(before, at_before)
    lo_a, hi_a, sums_a = _between(after, at_after)
    moved_hi, moved_lo = sums_a[0] - sums_b[0], sums_a[1] - sums_b[1]
    same_count = (hi_b - lo_b) == (hi_a - lo_a)
    at = np.flatnonzero(((moved_hi | moved_lo) != 0) | ~same_count)
    lo_b, hi_b, lo_a, hi_a = lo_b[at], hi_b[at], lo_a[at], hi_a[at]
    return Stretches(
        before_lo=lo_b,
        before_hi=hi_b,
        after_lo=lo_a,
        after_hi=hi_a,
        moved_hi=moved_hi[at],
        moved_lo=moved_lo[at],
        apart=_apart(lo_b[1:] - hi_b[:-1], np.maximum(hi_b - lo_b, hi_a - lo_a)),
    )


def _apart(gap: I64, size: I64) -> Flags:
    """Choose the shortest gaps between stretches to read across, together three quarters of the stretches.

    Rows of a gap are equal on both sides and do no harm; one long read is cheaper than two short ones, and no
    more than twice what was touched is ever read.
    """
    apart = np.ones(len(size), bool)
    order = np.argsort(gap, kind="stable")
    apart[order[4 * np.cumsum(gap[order]) <= 3 * size.sum()] + 1] = False
    return apart


def _common_fences(before: Directory, after: Directory) -> tuple[I64, I64]:
    """Return the leaves of both that begin at the same key; the first leaves always do: below every key.

    Where two fences of one side share ``key_hi``, one may be overlooked: the stretch is only longer for it.
    """
    n, m = len(before), len(after)
    if n == m and _same(before.key_hi, after.key_hi) and _same(before.key_lo, after.key_lo):
        every = np.arange(n)
        return every, every
    at = np.searchsorted(after.key_hi, before.key_hi)
    clipped = np.minimum(at, m - 1)
    common = (after.key_hi[clipped] == before.key_hi) & (after.key_lo[clipped] == before.key_lo)
    common &= at > 0
    common[0] = False
    leaves = np.flatnonzero(common)
    return np.append(0, leaves), np.append(0, at[leaves])


def _same(one: U64, other: U64) -> bool:
    return bool((one == other).all())


def _between(leaves: Directory, at: I64) -> tuple[I64, I64, tuple[U64, U64]]:
    lo = leaves.first[at]
    hi = np.append(lo[1:], leaves.first[-1])
    if len(at) == len(leaves):
        return lo, hi, (leaves.sum_hi, leaves.sum_lo)
    return lo, hi, (_sums_between(leaves.sum_hi, at), _sums_between(leaves.sum_lo, at))


def _sums_between(sums: U64, at: I64) -> U64:
    """Return the sums from each position to the next, as differences of prefix sums modulo 2**64."""
    through = np.cumsum(sums, dtype=np.uint64)
    before = np.append(through[at[1:] - 1], through[-1])
    before[1:] -= before[:-1].copy()
    return before


def pieces(
    before: KeyedRows, after: KeyedRows, stretches: Stretches, piece_rows: int
) -> Iterator[Piece]:
    """Cut stretches into pieces of about ``piece_rows`` rows on the longer side."""
    ends = np.cumsum(
        np.maximum(
            stretches.before_hi - stretches.before_lo, stretches.after_hi - stretches.after_lo
        )
    )
    start, done = 0, 0
    while start < len(stretches):
        stop = int(np.searchsorted(ends, done + piece_rows, "right"))
        if stop == start:
            yield from _cut(before, after, stretches.part(start, start + 1), piece_rows)
            stop = start + 1
        else:
            yield stretches.part(start, stop)
        start, done = stop, int(ends[stop - 1])


def _cut(before: KeyedRows, after: KeyedRows, piece: Piece, piece_rows: int) -> Iterator[Piece]:
    """Cut one long stretch at fences of its longer side, which are looked up in the other."""
    b_lo, b_hi = int(piece.before.lo[0]), int(piece.before.hi[0])
    a_lo, a_hi = int(piece.after.lo[0]), int(piece.after.hi[0])
    long_before = b_hi - b_lo >= a_hi - a_lo
    leaves = (before if long_before else after).directory()
    lo, hi = (b_lo, b_hi) if long_before else (a_lo, a_hi)
    cuts = _cut_leaves(leaves, lo, hi, piece_rows)
    own = [lo, *leaves.first[cuts].tolist(), hi]
    other, (o_lo, o_hi) = (after, (a_lo, a_hi)) if long_before else (before, (b_lo, b_hi))
    found = _lower_bounds(other, leaves.key_hi[cuts], leaves.key_lo[cuts], o_lo, o_hi)
    sides = (own, found) if long_before else (found, own)
    parts = list(zip(pairwise(sides[0]), pairwise(sides[1]), strict=True))
    for n, (b, a) in enumerate(parts):
        yield Piece(
            before=Runs.one(*b),
            after=Runs.one(*a),
            moved_hi=piece.moved_hi,
            moved_lo=piece.moved_lo,
            whole=len(parts) == 1,
            last=n == len(parts) - 1,
        )


def _cut_leaves(leaves: Directory, lo: int, hi: int, piece_rows: int) -> I64:
    """Return the leaves, none of them the first, at whose beginnings rows ``lo`` to ``hi`` are cut."""
    wanted = np.arange(lo + piece_rows, hi, piece_rows)
    at = np.unique(np.searchsorted(leaves.first, wanted))
    first = leaves.first[at]
    return at[(first > lo) & (first < hi) & (at > 0) & (at < len(leaves))]


def _lower_bounds(rows: KeyedRows, key_hi: U64, key_lo: U64, lo: int, hi: int) -> list[int]:
    """Return ``lo``, the first row not below each key, and ``hi``; reads a leaf for each key."""
    if lo == hi:
        return [lo] * (len(key_hi) + 2)
    leaves = rows.directory()
    bounds = [lo]
    leaf = leaf_of(leaves, key_hi, key_lo)
    for n, wanted_hi, wanted_lo in zip(leaf.tolist(), key_hi, key_lo, strict=True):
        first, stop = int(leaves.first[n]), int(leaves.first[n + 1])
        have_hi, have_lo = rows.read(("key_hi", "key_lo"), first, stop)
        below = (have_hi < wanted_hi) | ((have_hi == wanted_hi) & (have_lo < wanted_lo))
        bounds.append(min(max(first + int(below.sum()), bounds[-1]), hi))
    return [*bounds, hi]


def named(before: Directory, after: KeyedRows, piece_rows: int) -> Iterator[Stretches]:
    """Return the leaves of ``before`` that could hold the keys of ``after``, some thousand keys at a time.

    For an ``after`` that is small and whose absences mean nothing: all else of ``before`` need not be read.
    """
    for lo in range(0, after.rows, piece_rows):
        key_hi, key_lo = after.read(("key_hi", "key_lo"), lo, min(lo + piece_rows, after.rows))
        leaf = leaf_of(before, key_hi, key_lo)
        begins = np.flatnonzero(np.append(True, leaf[1:] != leaf[:-1]))
        leaf = leaf[begins]
        zeros = np.zeros(len(leaf), np.uint64)
        low, high = before.first[leaf], before.first[leaf + 1]
        yield Stretches(
            before_lo=low,
            before_hi=high,
            after_lo=begins + lo,
            after_hi=np.append(begins[1:], len(key_hi)) + lo,
            moved_hi=zeros - before.sum_hi[leaf],
            moved_lo=zeros - before.sum_lo[leaf],
            apart=np.append(True, low[1:] != high[:-1]),
        )
