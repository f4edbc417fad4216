"""Workers: what they are, how they stand, and the moves between their statuses as one total function.

::

    active   --drain--> draining: it ends what it has, and is given nothing more
    active, draining --leave, or nothing heard of it for too long--> gone

``gone`` is for good: its tasks go to others, and should it come back, it registers anew. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from penstock.errors import IllegalMove
from penstock.identity.ids import TenantId
from penstock.publish.breaker import Breaker, BreakerPolicy, BreakerStatus

EVERY_TENANT = TenantId("*")
"""The tenant of a worker that works for all of them."""


class WorkerKind(StrEnum):
    """What runs the tasks of a worker."""

    DAGSTER = "dagster"
    """Dagster: one run for each task."""
    OUTSIDE = "outside"
    """A process of its own, which pulls over HTTP."""


class WorkerStatus(StrEnum):
    """How a worker stands."""

    ACTIVE = "active"
    """It is given tasks."""
    DRAINING = "draining"
    """It ends what it has, and is given nothing more."""
    GONE = "gone"
    """It left, or went silent; what it had went to others."""


class WorkerMove(StrEnum):
    """What happens to a worker."""

    HEARTBEAT = "heartbeat"
    DRAIN = "drain"
    LEAVE = "leave"
    LOSE = "lose"
    """Nothing was heard of it for too long."""


_S, _M = WorkerStatus, WorkerMove
WORKER_TRANSITIONS: Mapping[WorkerStatus, Mapping[WorkerMove, WorkerStatus]] = {
    _S.ACTIVE: {
        _M.HEARTBEAT: _S.ACTIVE,
        _M.DRAIN: _S.DRAINING,
        _M.LEAVE: _S.GONE,
        _M.LOSE: _S.GONE,
    },
    _S.DRAINING: {
        _M.HEARTBEAT: _S.DRAINING,
        _M.DRAIN: _S.DRAINING,
        _M.LEAVE: _S.GONE,
        _M.LOSE: _S.GONE,
    },
    _S.GONE: {},
}
"""Every legal move of a worker, by the status that it leaves."""


def next_worker_status(status: WorkerStatus, move: WorkerMove) -> WorkerStatus:
    """Return where ``move`` takes a worker; raises :class:`IllegalMove`, which names the moves that are legal."""
    after = WORKER_TRANSITIONS[status].get(move)
    if after is None:
        legal = ", ".join(WORKER_TRANSITIONS[status]) or "nothing more: register anew"
        raise IllegalMove(f"a worker that is {status} cannot {move}; from {status} it can: {legal}")
    return after


class Bulkhead(BaseModel):
    """How much of the work one kind of workflow, or one tenant, may have and is sure of; in tasks at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    most: int | None = Field(default=None, ge=0)
    """Never more than these; None for no limit."""
    guaranteed: int = Field(default=1, ge=0)
    """While it has fewer, its tasks go before those of all who have theirs, whatever the scores."""


class WorkerPolicy(BaseModel):
    """How tasks are allotted to workers, and when a worker is given up; times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    lease_s: float = Field(default=30.0, gt=1)
    """How long a task is held without being renewed."""
    silent_s: float = Field(default=60.0, gt=1)
    """After which a worker of which nothing is heard is gone."""
    gone_kept_s: float = Field(default=7 * 86_400.0, ge=0)
    """How long a worker that is gone can still be looked up."""
    kinds: Mapping[str, Bulkhead] = Field(default_factory=dict)
    """Bulkheads of workflow kinds; ``*`` is for each of those that are not named."""
    tenants: Mapping[str, Bulkhead] = Field(default_factory=dict)
    """Bulkheads of tenants; ``*`` is for each of those that are not named."""
    most_per_source: int | None = Field(default=None, ge=1)
    """Tasks of one source at once."""
    patience_s: float = Field(default=900.0, gt=0)
    """A task that was ready for longer goes before all that were not, so that no guarantee of others starves it."""
    breaker: BreakerPolicy = BreakerPolicy(window_s=600.0, min_calls=3, failure_rate=0.5)
    """When a worker or a source whose tasks fail is left alone, and how long."""

    def kind(self, name: str) -> Bulkhead:
        """Return the bulkhead of a kind."""
        return self.kinds.get(name) or self.kinds.get("*") or Bulkhead()

    def tenant(self, name: str) -> Bulkhead:
        """Return the bulkhead of a tenant."""
        return self.tenants.get(name) or self.tenants.get("*") or Bulkhead()


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """A worker as the control database holds it."""

    worker_id: str
    tenant_id: TenantId
    """Whose tasks it runs; :data:`EVERY_TENANT` for all."""
    kind: WorkerKind = WorkerKind.OUTSIDE
    capabilities: tuple[str, ...]
    """What it can do: ``collect``, or ``collect:crm`` for one source alone."""
    capacity: int = 1
    """Tasks at once."""
    status: WorkerStatus = WorkerStatus.ACTIVE
    details: Mapping[str, Any] = field(default_factory=dict)
    """What it says of itself: host, version, ..."""
    registered_at: datetime
    heartbeat_at: datetime
    gone_at: datetime | None = None

    def is_silent(self, policy: WorkerPolicy, now: datetime) -> bool:
        """Say whether nothing was heard of it for too long."""
        ends_at = self.heartbeat_at + timedelta(seconds=policy.silent_s)
        return self.status is not WorkerStatus.GONE and ends_at <= now


class BreakerScope(StrEnum):
    """What of the work a breaker is of."""

    WORKER = "worker"
    SOURCE = "source"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkBreaker(Breaker):
    """The breaker of one worker, or of one source: tasks that fail are its failed calls."""

    scope: BreakerScope
    scope_id: str

    @classmethod
    def closed(cls, scope: BreakerScope, scope_id: str, now: datetime) -> WorkBreaker:
        """A breaker that has counted nothing."""
        return cls(
            scope=scope,
            scope_id=scope_id,
            status=BreakerStatus.CLOSED,
            window_started_at=now,
            updated_at=now,
        )

    def shuts(self, running: int, now: datetime) -> str | None:
        """Say why nothing more may be begun beside what is running, or None."""
        named = f"{self.scope} {self.scope_id}"
        said = f": {self.last_error}" if self.last_error else ""
        match self.status_at(now):
            case BreakerStatus.OPEN:
                until = f"{self.open_until:%Y-%m-%d %H:%M:%S} UTC" if self.open_until else "later"
                return f"the breaker of {named}, open until {until}{said}"
            case BreakerStatus.HALF_OPEN:
                return f"the task that finds out whether {named} is well again" if running else None
            case BreakerStatus.CLOSED:
                doubted = self.is_doubted(now) and running
                return (
                    f"another task to find out whether {named} is well{said}" if doubted else None
                )
