"""Attempts: each time that publishing a batch failed, and what was decided then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from penstock.identity.ids import BatchId, TargetId
from penstock.publish.retry import Tier


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishAttempt:
    """One attempt that failed."""

    tier: Tier
    """How it came about."""
    worker_id: str
    enqueued_at: datetime
    """Of the publish state at that time: putting the batch into the queue anew starts its history anew."""
    started_at: datetime
    failed_at: datetime
    step: str
    """``plan`` or ``execute``."""
    code: str
    message: str
    retry_at: datetime | None = None
    """When it is tried again; None where it was given up."""
    retry_tier: Tier | None = None
    """How the next one comes about."""


class Attempts(Protocol):
    """The attempts of each publish. They are recorded with the move that they lead to."""

    def list_attempts(self, batch: BatchId, target: TargetId) -> list[PublishAttempt]:
        """Return all attempts that failed, oldest first; those before the batch was last requeued are among them."""
        ...
