"""What a target holds and nobody published: listed in rotation, and held against what is known.

Somebody entered it by hand under the source's name, or something that lost its snapshot wrote it. It is reported; it is
taken away by a repair only where the policy says so, and never more of it than the source's guards let go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import Kind
from penstock.identity.digest import U64
from penstock.identity.ids import SourceId, TargetId
from penstock.identity.keys import entity_index_keys, relationship_index_keys
from penstock.ports.drift import EXTRA, Drift, DriftStatus, ListingCursor
from penstock.ports.target import HeldName, ListingTarget
from penstock.use_cases.drift_findings import MOST_ROWS, drift_id_of, due_rows
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.platform import Platform


@dataclass(frozen=True, kw_only=True)
class ListingLook:
    """One page of what a target holds, looked at."""

    cursor: ListingCursor
    listed: int
    found: Sequence[Drift]


@dataclass(frozen=True, kw_only=True)
class ListingWork:
    """Listing what one target holds of one kind of one source."""

    platform: Platform
    known: KnownRows
    target: ListingTarget
    source_id: SourceId
    target_id: TargetId
    kind: Kind

    def looks(
        self, cursor: ListingCursor | None, period_s: float, *, everything: bool
    ) -> Iterator[ListingLook]:
        """Yield the pages that are due, each with the cursor behind it. Raises ``TargetDown``."""
        now = self.platform.clock.now()
        at = self._begin(now) if cursor is None or everything else cursor
        known = sum(totals.rows for totals in self.known.view.totals(self.kind).values())
        expected = max(known, 1, at.listed_last_turn, at.listed)
        looked_at = cursor.updated_at if cursor else None
        due = due_rows(expected, looked_at, period_s, now)
        while everything or due > 0:
            limit = MOST_ROWS if everything else min(MOST_ROWS, due)
            page = self.target.list_held(self.source_id, self.kind, after=at.after, limit=limit)
            whole = len(page) < limit
            at = self._moved(at, page, whole, now)
            yield ListingLook(cursor=at, listed=len(page), found=list(self._extras(page, now)))
            if whole:  # what is left of a look that is due is not worth a second turn
                return
            due -= len(page)

    def _begin(self, now: datetime) -> ListingCursor:
        return ListingCursor(
            source_id=self.source_id,
            target_id=self.target_id,
            kind=str(self.kind),
            after=None,
            listed=0,
            listed_last_turn=0,
            turn_started_at=now,
            turn_finished_at=None,
            updated_at=now,
        )

    def _moved(
        self, at: ListingCursor, page: pa.Table, whole: bool, now: datetime
    ) -> ListingCursor:
        listed = at.listed + len(page)
        last = page.select(["type_name", "key", "to_key"]).slice(max(0, len(page) - 1)).to_pylist()
        return ListingCursor(
            source_id=at.source_id,
            target_id=at.target_id,
            kind=at.kind,
            after=None if whole else HeldName(**last[0]),
            listed=0 if whole else listed,
            listed_last_turn=listed if whole else at.listed_last_turn,
            turn_started_at=now if whole else at.turn_started_at,
            turn_finished_at=at.turn_started_at if whole else at.turn_finished_at,
            updated_at=now,
        )

    def _extras(self, page: pa.Table, now: datetime) -> Iterator[Drift]:
        for type_name in pc.unique(page["type_name"]).to_pylist():
            rows = page.filter(pc.equal(page["type_name"], type_name))
            key_hi, key_lo = index_keys(self.kind, rows)
            unknown = self.known.view.find(self.kind, type_name, key_hi, key_lo) < 0
            for row in rows.take(pa.array(np.flatnonzero(unknown))).to_pylist():
                yield self._extra(row, now)

    def _extra(self, row: dict[str, object], now: datetime) -> Drift:
        digest = row["digest"]
        deletes = self.platform.delete_extras
        return Drift(
            drift_id=drift_id_of(self.source_id, self.target_id, self.kind, row),
            source_id=self.source_id,
            target_id=self.target_id,
            kind=str(self.kind),
            type_name=str(row["type_name"]),
            key=str(row["key"]),
            to_key=None if row["to_key"] is None else str(row["to_key"]),
            finding=EXTRA,
            expected_digest=None,
            found_digest=digest.hex() if isinstance(digest, bytes) else None,
            fields=[],
            status=DriftStatus.OPEN if deletes else DriftStatus.LEFT,
            found_at=now,
        )


def index_keys(kind: Kind, names: pa.Table) -> tuple[U64, U64]:
    """Return the index keys of names with ``key`` and, for relationships, ``to_key``."""
    if kind is Kind.ENTITY:
        return entity_index_keys(names["key"].combine_chunks())
    return relationship_index_keys(names["key"].combine_chunks(), names["to_key"].combine_chunks())


__all__ = ["ListingLook", "ListingWork", "index_keys"]
