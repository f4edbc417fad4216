"""Drift as kept: how far each lane has been looked at, and what was found to differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from penstock.identity.ids import SourceId, TargetId


class DriftStatus(StrEnum):
    """What has become of a finding."""

    OPEN = "open"
    """It waits for a repair."""
    REPAIRED = "repaired"
    LEFT = "left"
    """Only what people or others own differs: it stays."""
    GONE = "gone"
    """Looked at again, it is as it should be, or no longer known."""


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
    """When the last whole turn ended."""
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
    """``missing`` or ``differs``."""
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

    def record_look(self, cursor: DriftCursor, found: Sequence[Drift], fine: Sequence[str]) -> None:
        """Record one look in one transaction: the cursor, findings (again is an update), and what is fine by id."""
        ...

    def list_drift(
        self,
        *,
        source: SourceId | None = None,
        target: TargetId | None = None,
        status: DriftStatus | None = None,
        limit: int = 1000,
    ) -> list[Drift]:
        """Return findings, newest first."""
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
