"""What a key diff yields: references to rows, by what became of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penstock.batch.index import I64, LOCATOR_ROW_BITS
from penstock.identity.digest import U64

_ROW_MASK = np.uint64((1 << LOCATOR_ROW_BITS) - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class RowRefs:
    """Some rows of one type: their keys, their digests, and where their attributes are.

    Arrays of one length, in order of the keys.
    """

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


_EMPTY = np.empty(0, np.uint64)
NO_ROWS = RowRefs(key_hi=_EMPTY, key_lo=_EMPTY, hash_hi=_EMPTY, hash_lo=_EMPTY, locator=_EMPTY)


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
    """What a diff has come across; complete when it has been read to its end."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    """Rows of ``after`` that say nothing new; tombstones of what is not there are among them."""
    kept: int = 0
    """Rows of ``before`` that ``after`` does not have and that absence does not delete."""
