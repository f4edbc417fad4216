"""Approvals: who released or refused what guards held, of which plan, and until when it counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.audit_log import AuditEntry


class Decision(StrEnum):
    """What was decided about a plan's held operations."""

    APPROVE = "approve"
    REJECT = "reject"


class ApprovalStatus(StrEnum):
    """What has become of a decision."""

    ACTIVE = "active"
    """An approval that waits to be used."""
    USED = "used"
    """Its operations were executed."""
    VOID = "void"
    """The plan is no longer what would run: a newer batch, or another plan."""
    EXPIRED = "expired"
    REJECTED = "rejected"
    """The decision was to reject."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Approval:
    """One decision of one person about one plan."""

    approval_id: str
    """32 hex digits."""
    batch_id: BatchId
    target_id: TargetId
    source_id: SourceId
    plan_digest: str
    decision: Decision
    approver: str
    reason: str
    decided_at: datetime
    expires_at: datetime | None
    status: ApprovalStatus
    settled_at: datetime | None = None
    settled_why: str | None = None


class Approvals(Protocol):
    """Decisions about held operations."""

    def decide_hold(
        self, decided: Approval, *, now: datetime, act: AuditEntry | None = None
    ) -> Approval:
        """Record a decision in one transaction with what follows from it.

        ``act`` is recorded with it. An approval puts the batch back in the queue with the intent to release. Raises
        ``IllegalMove`` unless the batch is COMPLETE with this plan and has held operations, and where another decision
        on the plan is active.
        """
        ...

    def active_approval(
        self, batch: BatchId, target: TargetId, plan_digest: str, *, now: datetime
    ) -> Approval | None:
        """Return the approval that releases a plan's held operations now; one that has expired is marked so."""
        ...

    def settle_approval(
        self, approval_id: str, status: ApprovalStatus, *, now: datetime, why: str | None = None
    ) -> None:
        """Mark an active approval as used, void or expired; one that is settled stays as it is."""
        ...

    def list_approvals(
        self,
        *,
        batch: BatchId | None = None,
        source: SourceId | None = None,
        limit: int = 1000,
    ) -> list[Approval]:
        """Return decisions, newest first."""
        ...
