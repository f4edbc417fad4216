"""The digests of a section at two levels: leaves of some 128 rows, and buckets of some 64 leaves.

Buckets are few enough to be held; leaves are read by the bucket, so that comparing or searching a section takes
memory that hardly grows with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from penstock.identity.digest import U64

I64 = np.ndarray[Any, np.dtype[np.int64]]

LEAF_MASK = 127
BUCKET_MASK = 64 * (LEAF_MASK + 1) - 1
"""A leaf begins a bucket if these bits of its first ``key_lo`` are zero, or if it is the first of its section."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Fences:
    """Some leaves, or some buckets, in order: arrays of one length.

    Each holds rows ``lo`` to ``hi`` of its section, whose keys are not below ``(key_hi, key_lo)``.
    """

    key_hi: U64
    key_lo: U64
    lo: I64
    hi: I64
    sum_hi: U64
    sum_lo: U64
    starts: I64
    """Positions where a range begins that does not follow the one before it, or was asked for apart from it."""

    def __len__(self) -> int:
        return len(self.key_hi)

    def rise(self) -> bool:
        """Say whether keys rise, and no leaf or bucket is without rows."""
        hi, lo = self.key_hi, self.key_lo
        above = (hi[1:] > hi[:-1]) | ((hi[1:] == hi[:-1]) & (lo[1:] > lo[:-1]))
        return bool(above.all()) and bool((self.hi > self.lo).all())


class LeafTree(Protocol):
    """The leaves of one section and the buckets over them."""

    @property
    def buckets(self) -> Fences:
        """Return all buckets."""
        ...

    def leaves(self, lo: I64, hi: I64) -> Fences:
        """Return the leaves of several ranges of buckets, none of them empty, one after the other."""
        ...


class MemoryTree:
    """The tree over leaves in memory."""

    def __init__(self, leaves: Directory) -> None:
        self.first_leaf = bucket_starts(leaves.key_lo)
        first = leaves.first
        self._all = Fences(
            key_hi=leaves.key_hi,
            key_lo=leaves.key_lo,
            lo=first[:-1],
            hi=first[1:],
            sum_hi=leaves.sum_hi,
            sum_lo=leaves.sum_lo,
            starts=np.zeros(min(len(leaves), 1), np.int64),
        )
        self.buckets = self._bucketed(self.first_leaf)

    def _bucketed(self, at: I64) -> Fences:
        every = self._all
        if not len(at):
            return every
        return Fences(
            key_hi=every.key_hi[at],
            key_lo=every.key_lo[at],
            lo=every.lo[at],
            hi=every.hi[np.append(at[1:], len(every)) - 1],
            sum_hi=np.add.reduceat(every.sum_hi, at, dtype=np.uint64),
            sum_lo=np.add.reduceat(every.sum_lo, at, dtype=np.uint64),
            starts=every.starts,
        )

    def leaves(self, lo: I64, hi: I64) -> Fences:
        """Return the leaves of several ranges of buckets."""
        every, bounds = self._all, np.append(self.first_leaf, len(self._all))
        at, starts = ranges(bounds[lo], bounds[hi])
        return Fences(
            key_hi=every.key_hi[at],
            key_lo=every.key_lo[at],
            lo=every.lo[at],
            hi=every.hi[at],
            sum_hi=every.sum_hi[at],
            sum_lo=every.sum_lo[at],
            starts=starts,
        )


def bucket_starts(key_lo: U64) -> I64:
    """Return which leaves begin a bucket, by the low halves of their first keys."""
    starts = (key_lo & np.uint64(BUCKET_MASK)) == 0
    if len(starts):
        starts[0] = True
    return np.flatnonzero(starts)


def ranges(lo: I64, hi: I64) -> tuple[I64, I64]:
    """Return all numbers of several ranges, one after the other, and where each range begins among them."""
    sizes = hi - lo
    starts = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) + np.repeat(lo - starts, sizes), starts


def holding(tree: LeafTree, key_hi: U64, key_lo: U64) -> tuple[Fences, I64]:
    """Return the leaves of those buckets that could hold some sorted keys, and for each key which of these leaves."""
    bucket = leaf_of(tree.buckets, key_hi, key_lo)
    wanted = bucket[np.append(True, bucket[1:] != bucket[:-1])] if len(bucket) else bucket
    leaves = tree.leaves(wanted, wanted + 1)
    return leaves, leaf_of(leaves, key_hi, key_lo)


def leaf_of(leaves: Directory | Fences, key_hi: U64, key_lo: U64) -> I64:
    """Return the leaf that would hold each key; everything below the second fence lies in the first leaf."""
    leaf = np.searchsorted(leaves.key_hi, key_hi, "right") - 1
    while True:
        at = np.maximum(leaf, 0)
        past = (leaf > 0) & (leaves.key_hi[at] == key_hi) & (leaves.key_lo[at] > key_lo)
        if not past.any():
            return np.maximum(leaf, 0).astype(np.int64, copy=False)
        leaf = leaf - past
