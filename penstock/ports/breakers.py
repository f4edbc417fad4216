"""Circuit breakers as kept: one for each target, shared by all workers."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from penstock.identity.ids import TargetId
from penstock.publish.breaker import BreakerPolicy, BreakerState


class Breakers(Protocol):
    """The state of each target's circuit breaker. Claims pass over the lanes of a target whose breaker is open."""

    def record_call(
        self,
        target: TargetId,
        *,
        ok: bool,
        now: datetime,
        policy: BreakerPolicy,
        error: str | None = None,
    ) -> BreakerState:
        """Count one call's outcome in one transaction, and return the state that follows from it."""
        ...

    def get_breaker(self, target: TargetId) -> BreakerState:
        """Return a target's breaker; one that was never called is closed."""
        ...

    def list_breakers(self) -> list[BreakerState]:
        """Return every breaker that was ever called, by target id."""
        ...

    def reset_breaker(self, target: TargetId, *, now: datetime) -> BreakerState:
        """Close a breaker on an operator's word."""
        ...
