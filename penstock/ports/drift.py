"""Drift as kept: how far each lane has been looked at, and what was found to differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from penstock.identity.ids import SourceId, TargetId
from penstock.ports.target import HeldName

MISSING, DIFFERS, EXTRA = "missing", "differs", "extra"
"""What a finding is: not held, held otherwise, or held though nobody published it."""


class DriftStatus(StrEnum):
    """What has become of a finding."""

    OPEN = "open"
    """It waits for a repair."""
    REPAIRED = "repaired"
    LEFT = "left"
    """It stays: only what people or others own differs, or nobody published it and no policy takes it away."""
    GONE = "gone"
    """Looked at again, it is as it should be, or no longer known."""


WAITING = (DriftStatus.OPEN, DriftStatus.LEFT)
"""What is still as it was found, as far as anybody knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftCursor:
    """How far the audit of one type of one lane has come."""

    source_id: SourceId
    target_id: TargetId
    kind: str
    type_name: str
    position: str
    """Index key, 32 hex digits: where the next look begins."""
    checked: int
    """Rows looked at in this turn."""
    turn_started_at: datetime
    turn_finished_at: datetime | None
    """Every row was looked at since then; None before the first whole turn."""
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ListingCursor:
    """How far what a target holds of one kind of a lane has been listed."""

    source_id: SourceId
    target_id: TargetId
    kind: str
    after: HeldName | None
    """Where the next look begins; None at the beginning."""
    listed: int
    """Rows in this turn."""
    listed_last_turn: int
    turn_started_at: datetime
    turn_finished_at: datetime | None
    """All that the target held was listed since then; None before the first whole turn."""
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """One entity or relationship that a target holds otherwise than was published."""

    drift_id: str
    source_id: SourceId
    target_id: TargetId
    kind: str
    type_name: str
    key: str
    to_key: str | None
    finding: str
    """``missing``, ``differs``, or ``extra``: the target holds it, and nobody published it."""
    expected_digest: str | None
    found_digest: str | None
    fields: Sequence[dict[str, Any]]
    """Per field that differs: its name, and whether it is ``restored`` or ``kept``."""
    status: DriftStatus
    found_at: datetime
    settled_at: datetime | None = None
    plan_digest: str | None = None
    """Of the repair."""


class Drifts(Protocol):
    """What audits have looked at and found."""

    def drift_cursors(self, source: SourceId, target: TargetId) -> list[DriftCursor]:
        """Return how far each type of a lane has been looked at."""
        ...

    def listing_cursors(self, source: SourceId, target: TargetId) -> list[ListingCursor]:
        """Return how far each kind of a lane has been listed."""
        ...

    def lane_claims(self, source: SourceId, target: TargetId) -> int:
        """Return how often a lane was claimed: as long as it is so often, nobody has written to the target."""
        ...

    def record_look(
        self,
        cursor: DriftCursor | ListingCursor,
        found: Sequence[Drift],
        fine: Sequence[str],
        *,
        claims: int | None = None,
    ) -> None:
        """Record one look in one transaction: the cursor, findings (again is an update), and what is fine by id.

        What was not found again in a whole turn, by the cursor, is gone. Raises ``LaneBusy``, with nothing recorded, if
        the lane was claimed since it had been ``claims`` times: what was seen may be written over by now.
        """
        ...

    def forget_type(self, cursor: DriftCursor, *, now: datetime) -> None:
        """Drop the cursor of a type that is no longer known; findings of it, which extra rows are none of, are gone."""
        ...

    def list_drift(
        self,
        *,
        source: SourceId | None = None,
        target: TargetId | None = None,
        status: DriftStatus | None = None,
        finding: str | None = None,
        limit: int = 1000,
    ) -> list[Drift]:
        """Return findings, newest first."""
        ...

    def count_drift(
        self, source: SourceId, target: TargetId
    ) -> Mapping[tuple[DriftStatus, str], int]:
        """Return how many findings of a lane there are, by status and finding."""
        ...

    def settle_drift(
        self,
        drift_ids: Sequence[str],
        status: DriftStatus,
        *,
        now: datetime,
        plan_digest: str | None = None,
    ) -> None:
        """Settle open findings."""
        ...
