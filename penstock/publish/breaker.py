"""The circuit breaker of one target: a pure state machine that stops hammering what is down.

::

    closed    --failure rate over the limit, after enough calls--> open
    open      --its time is up--> half_open
    half_open --a call succeeds--> closed
    half_open --a call fails--> open, for longer

Nothing here reads a clock: every function takes ``now``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from penstock.identity.ids import TargetId


class BreakerStatus(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing, until ``open_until``."""
    HALF_OPEN = "half_open"
    """One lane at a time, as a probe."""


class BreakerPolicy(BaseModel):
    """When a breaker opens, and for how long; times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    window_s: float = Field(default=60.0, gt=0)
    """Calls are counted over windows of this length."""
    min_calls: int = Field(default=5, ge=1)
    """Fewer calls in a window prove nothing."""
    failure_rate: float = Field(default=0.5, gt=0, le=1)
    """Share of failed calls from which on it opens."""
    open_s: float = Field(default=30.0, gt=0)
    """How long it stays open the first time; doubles each time a probe fails."""
    max_open_s: float = Field(default=600.0, gt=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerState:
    """One target's breaker."""

    target_id: TargetId
    status: BreakerStatus
    window_started_at: datetime
    calls: int = 0
    failures: int = 0
    opened_at: datetime | None = None
    open_until: datetime | None = None
    times_opened: int = 0
    """In a row, without a success in between."""
    last_error: str | None = None
    updated_at: datetime
