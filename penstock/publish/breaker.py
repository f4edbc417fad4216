"""The circuit breaker of whatever is called: a pure state machine that stops hammering what is down.

::

    closed    --failure rate over the limit, after enough calls--> open
    open      --its time is up--> half_open
    half_open --a call succeeds--> closed
    half_open --a call fails--> open, for longer

Nothing here reads a clock: every function takes ``now``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from penstock.identity.ids import TargetId

BREAKER_OPEN = "breaker_open"
"""Error code of what was put off because a breaker opened, or was open."""


class BreakerStatus(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    """Everything; one lane at a time while what is called is doubted."""
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
class Breaker:
    """What a breaker has counted and lets through, whoever's it is."""

    status: BreakerStatus
    window_started_at: datetime
    calls: int = 0
    failures: int = 0
    opened_at: datetime | None = None
    open_until: datetime | None = None
    times_opened: int = 0
    """In a row, without a success in between."""
    doubted_until: datetime | None = None
    """While closed: until then one call at a time, because what was called last did not answer."""
    last_error: str | None = None
    updated_at: datetime

    def status_at(self, now: datetime) -> BreakerStatus:
        """What it lets through now: an open one whose time is up is half open."""
        if self.status is BreakerStatus.OPEN and self.open_until and now >= self.open_until:
            return BreakerStatus.HALF_OPEN
        return self.status

    def is_doubted(self, now: datetime) -> bool:
        """Say whether its last call failed, and too few were made to prove anything.

        Until that is settled one lane is enough to find out: more would take more workers down with it.
        """
        return self.doubted_until is not None and now < self.doubted_until

    def cleared(self, now: datetime) -> Self:
        """Return it closed, with nothing counted."""
        return replace(
            self,
            status=BreakerStatus.CLOSED,
            window_started_at=now,
            calls=0,
            failures=0,
            opened_at=None,
            open_until=None,
            times_opened=0,
            doubted_until=None,
            last_error=None,
            updated_at=now,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerState(Breaker):
    """One target's breaker."""

    target_id: TargetId

    @classmethod
    def closed(cls, target: TargetId, now: datetime) -> BreakerState:
        """A breaker that has counted nothing."""
        return cls(
            target_id=target, status=BreakerStatus.CLOSED, window_started_at=now, updated_at=now
        )


_Of = TypeVar("_Of", bound=Breaker)


def after_calls(
    state: _Of,
    policy: BreakerPolicy,
    *,
    successes: int,
    failures: int,
    now: datetime,
    error: str | None = None,
) -> _Of:
    """Return the breaker after some calls' outcomes became known.

    Results that come while it is open are of calls that began before, and change nothing. The n-th time in a row it
    stays open for ``min(max_open_s, open_s * 2 ** (n - 1))`` seconds.
    """
    match state.status_at(now):
        case BreakerStatus.OPEN:
            return state
        case BreakerStatus.HALF_OPEN:
            if failures:
                return _opened(state, policy, now, error)
            return state.cleared(now) if successes else state
        case BreakerStatus.CLOSED:
            return _counted(state, policy, successes, failures, now, error)


def _counted(
    state: _Of,
    policy: BreakerPolicy,
    successes: int,
    failures: int,
    now: datetime,
    error: str | None,
) -> _Of:
    if (now - state.window_started_at).total_seconds() >= policy.window_s:
        state = replace(state, window_started_at=now, calls=0, failures=0)
    ends_at = state.window_started_at + timedelta(seconds=policy.window_s)
    counted = replace(
        state,
        calls=state.calls + successes + failures,
        failures=state.failures + failures,
        last_error=error or state.last_error,
        updated_at=now,
    )
    too_many = failures > 0 and counted.failures >= policy.failure_rate * counted.calls
    if too_many and counted.calls >= policy.min_calls:
        return _opened(counted, policy, now, error)
    return replace(counted, doubted_until=ends_at if too_many else None)


def _opened(state: _Of, policy: BreakerPolicy, now: datetime, error: str | None) -> _Of:
    # 2 ** 30 times the first is beyond any maximum, and no float overflows on the way.
    longer = 2.0 ** min(state.times_opened, 30)
    open_s = min(policy.max_open_s, policy.open_s * longer)
    return replace(
        state,
        status=BreakerStatus.OPEN,
        doubted_until=None,
        opened_at=now,
        open_until=now + timedelta(seconds=open_s),
        times_opened=state.times_opened + 1,
        last_error=error or state.last_error,
        updated_at=now,
    )
