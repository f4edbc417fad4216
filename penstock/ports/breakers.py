"""Circuit breakers as kept: one for each target, shared by all workers."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from penstock.identity.ids import TargetId
from penstock.ports.audit_log import AuditEntry
from penstock.publish.breaker import BreakerPolicy, BreakerState


class Breakers(Protocol):
    """The state of each target's circuit breaker. Claims pass over the lanes of a target whose breaker is open."""

    def record_calls(
        self,
        target: TargetId,
        *,
        successes: int,
        failures: int,
        now: datetime,
        policy: BreakerPolicy,
        error: str | None = None,
    ) -> BreakerState:
        """Count calls' outcomes in one transaction, and return the state that follows from them."""
        ...

    def get_breaker(self, target: TargetId, *, now: datetime) -> BreakerState:
        """Return a target's breaker; one that was never called in vain is closed."""
        ...

    def list_breakers(self) -> list[BreakerState]:
        """Return every breaker that there is a row of, by target id."""
        ...

    def reset_breaker(
        self, target: TargetId, *, now: datetime, act: AuditEntry | None = None
    ) -> tuple[BreakerState, int]:
        """Close a breaker on an operator's word, and make due what was put off because of it; return how many.

        ``act`` is recorded in the same transaction.
        """
        ...
