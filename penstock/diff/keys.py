"""Which keys changed between two sorted indexes, found in bounded memory and with as few reads as can be.

1. Sections whose totals agree are equal: nothing else is read.
2. The leaf directories are compared between the fences that both have; only where the sums differ are rows read.
3. Rows of those stretches are merged by the piece of some 32k rows, and what was found must explain the difference
   of the sums, piece by piece; if it does not, the stretch is joined again on all 128 bits of its keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from penstock.batch.index import I64, LOCATOR_ROW_BITS, Column, KeyedRows, positions_of
from penstock.errors import IndexCorrupt
from penstock.identity.digest import U64

_ROW_MASK = np.uint64((1 << LOCATOR_ROW_BITS) - 1)
_ALL: tuple[Column, ...] = ("key_hi", "key_lo", "hash_hi", "hash_lo", "locator")


@dataclass(frozen=True, kw_only=True, slots=True)
class RowRefs:
    """Some rows of one type: their keys, their digests, and where their attributes are. Arrays of one length."""

    key_hi: U64
    key_lo: U64
    hash_hi: U64
    hash_lo: U64
    locator: U64
    """Ordinal of the file << 40 | row in it; for rows of a batch the ordinal is 0."""

    def __len__(self) -> int:
        return len(self.key_hi)

    @property
    def rows(self) -> I64:
        """Positions among all rows of the kind in the file that holds them."""
        return (self.locator & _ROW_MASK).astype(np.int64)

    @property
    def ordinals(self) -> I64:
        """Which file holds them: an index into ``SnapshotManifest.files``."""
        return (self.locator >> np.uint64(LOCATOR_ROW_BITS)).astype(np.int64)

    def take(self, at: I64) -> RowRefs:
        """Return some of them."""
        return RowRefs(
            key_hi=self.key_hi[at],
            key_lo=self.key_lo[at],
            hash_hi=self.hash_hi[at],
            hash_lo=self.hash_lo[at],
            locator=self.locator[at],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyChanges:
    """What changed in one stretch of keys of one type, each part in order of its keys."""

    type_name: str
    created: RowRefs
    """Rows of ``after``."""
    updated_before: RowRefs
    updated_after: RowRefs
    """The same entities as ``updated_before``, in the same order."""
    deleted: RowRefs
    """Rows of ``before``."""

    def __len__(self) -> int:
        return len(self.created) + len(self.updated_after) + len(self.deleted)


@dataclass(kw_only=True, slots=True)
class DiffCounts:
    """What a diff has come across so far; complete when it has been read to its end."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    """Rows of ``after`` that say nothing new; tombstones of what is not there are among them."""
    kept: int = 0
    """Rows of ``before`` that ``after`` does not have and that absence does not delete."""


class SectionDiff:
    """The changes from one section to another: iterate once, then look at ``counts``."""

    def __init__(self, before: KeyedRows | None, after: KeyedRows | None, *, absent: bool) -> None:
        if before is None and after is None:
            raise ValueError("a diff needs a side: before and after are both None")
        self.before, self.after, self.absent = before, after, absent
        self.counts = DiffCounts()
        self._changes = self._stream()

    @property
    def type_name(self) -> str:
        """The type of every row."""
        side = self.after if self.after is not None else self.before
        assert side is not None
        return side.type_name

    def __iter__(self) -> Iterator[KeyChanges]:
        return self._changes

    def _stream(self) -> Iterator[KeyChanges]:
        before, after = _whole(self.before), _whole(self.after)
        at = positions_of(before.key_hi, before.key_lo, after.key_hi, after.key_lo)
        gone = (after.hash_hi == 0) & (after.hash_lo == 0)
        there = at >= 0
        clipped = np.maximum(at, 0)
        same = there.copy()
        if len(before):
            same &= (before.hash_hi[clipped] == after.hash_hi) & (
                before.hash_lo[clipped] == after.hash_lo
            )
        updated = np.flatnonzero(there & ~same & ~gone)
        absent = np.ones(len(before), bool)
        absent[at[there]] = False
        deleted = np.flatnonzero(absent) if self.absent else np.empty(0, np.int64)
        deleted = np.sort(np.concatenate([deleted, at[there & gone]]))
        changes = KeyChanges(
            type_name=self.type_name,
            created=after.take(np.flatnonzero(~there & ~gone)),
            updated_before=before.take(at[updated]),
            updated_after=after.take(updated),
            deleted=before.take(deleted),
        )
        counts = self.counts
        counts.created, counts.updated = len(changes.created), len(changes.updated_after)
        counts.deleted = len(deleted)
        counts.unchanged = int((same | (gone & ~there)).sum())
        counts.kept = 0 if self.absent else int(absent.sum())
        if len(changes):
            yield changes


def _whole(side: KeyedRows | None) -> RowRefs:
    if side is None:
        return RowRefs(**dict.fromkeys(_ALL, np.empty(0, np.uint64)))
    return RowRefs(**dict(zip(_ALL, side.read(_ALL, 0, side.rows), strict=True)))


def diff_section(before: KeyedRows | None, after: KeyedRows | None, *, absent: bool) -> SectionDiff:
    """Return what takes ``before`` to ``after``, both of one type; None is no rows.

    ``absent`` says that what ``after`` does not have is deleted (a full batch). Tombstones delete either way. Raises
    :class:`IndexCorrupt` while it is read, if the rows are not what the digests of their leaves say.
    """
    return SectionDiff(before, after, absent=absent)


__all__ = ["DiffCounts", "IndexCorrupt", "KeyChanges", "RowRefs", "SectionDiff", "diff_section"]
