"""Retries: one pure function from what has happened to what happens next.

A failure that may pass is tried again in three tiers, each bounded: at once (tier 1, seconds, within the run), later
(tier 2, minutes, doubling), and in the target's next maintenance window (tier 3). A failure that will not
pass is given up at once. Nothing here waits or reads a clock: the caller does, at ``RetryAt.at``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penstock.errors import PenstockError


class Tier(IntEnum):
    """How an attempt came about."""

    FIRST = 0
    """It was the first."""
    IMMEDIATE = 1
    """Within the run, after seconds."""
    DELAYED = 2
    """From the queue, after minutes."""
    SCHEDULED = 3
    """In a maintenance window of the target."""


class RetryPolicy(BaseModel):
    """How often and how long to try again; delays are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    immediate_tries: int = Field(default=3, ge=0, le=100)
    """After the first attempt, and again after each delayed or scheduled one."""
    immediate_delay_s: float = Field(default=0.5, gt=0)
    immediate_max_delay_s: float = Field(default=10.0, gt=0)
    delayed_tries: int = Field(default=5, ge=0, le=100)
    """After the first attempt, and again after each scheduled one."""
    delayed_delay_s: float = Field(default=60.0, gt=0)
    delayed_max_delay_s: float = Field(default=3600.0, gt=0)
    scheduled_tries: int = Field(default=3, ge=0, le=100)
    factor: float = Field(default=2.0, ge=1, le=100)
    """By which each delay of a tier is longer than the one before."""
    jitter_share: float = Field(default=0.5, ge=0, le=1)
    """The part of a delay that chance may take off, so that workers do not come back all at once."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for tier in ("immediate", "delayed"):
            if getattr(self, f"{tier}_delay_s") > getattr(self, f"{tier}_max_delay_s"):
                raise ValueError(f"{tier}_delay_s is above {tier}_max_delay_s")
        return self


LONGEST_ASKED_S = 30 * 86_400.0
"""The longest that a target is believed when it asks to be left alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One attempt that was made."""

    tier: Tier
    failed_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Transient:
    """It may pass: unavailable, timed out, throttled."""

    message: str
    retry_after_s: float | None = None
    """What the target asked for; it is never tried earlier, up to :data:`LONGEST_ASKED_S`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Permanent:
    """It will not pass: refused by a rule, malformed, not allowed."""

    message: str


Failure = Transient | Permanent


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAt:
    """Try again, not before ``at``."""

    at: datetime
    tier: Tier


@dataclass(frozen=True, kw_only=True, slots=True)
class GiveUp:
    """Try no more: the dead-letter queue is next."""

    reason: str


def decide(
    policy: RetryPolicy,
    history: Sequence[Attempt],
    outcome: Failure,
    *,
    now: datetime,
    jitter: float,
    next_window: datetime | None = None,
) -> RetryAt | GiveUp:
    """Decide what follows the failure ``outcome`` of the last attempt of ``history`` (oldest first).

    ``jitter`` is a random number from 0 up to 1, drawn by the caller. ``next_window`` is when the target's next
    maintenance window begins; without one there is no tier 3. The delay before the n-th try of a tier is
    ``min(max_delay, delay * factor ** (n - 1)) * (1 - jitter_share * jitter)``, or what the target asked
    for if that is longer. A target that asks for longer than tier 1 ever waits goes to tier 2 at once.
    """
    if not 0 <= jitter < 1:
        raise PenstockError(f"jitter {jitter} is not from 0 up to 1: pass random.random()")
    if isinstance(outcome, Permanent):
        return GiveUp(reason=f"it will not pass by itself: {outcome.message}")
    asked_s = min(LONGEST_ASKED_S, max(0.0, outcome.retry_after_s or 0.0))
    immediate, delayed, scheduled = _tries(history)
    patience_s = policy.immediate_max_delay_s
    if immediate < policy.immediate_tries and asked_s <= patience_s:
        delay_s = _delay_s(policy, policy.immediate_delay_s, patience_s, immediate, jitter)
        return _after(now, max(delay_s, asked_s), Tier.IMMEDIATE)
    if delayed < policy.delayed_tries:
        longest_s = policy.delayed_max_delay_s
        delay_s = _delay_s(policy, policy.delayed_delay_s, longest_s, delayed, jitter)
        return _after(now, max(delay_s, asked_s), Tier.DELAYED)
    if next_window is not None and scheduled < policy.scheduled_tries:
        earliest = now + timedelta(seconds=asked_s)
        return RetryAt(at=max(next_window, earliest), tier=Tier.SCHEDULED)
    return GiveUp(reason=f"{len(history)} attempts failed, the last with: {outcome.message}")


def _tries(history: Sequence[Attempt]) -> tuple[int, int, int]:
    """Count the tries that each tier has used: a try of a higher tier gives the lower ones anew."""
    immediate = delayed = scheduled = 0
    for attempt in history:
        match attempt.tier:
            case Tier.FIRST:
                pass
            case Tier.IMMEDIATE:
                immediate += 1
            case Tier.DELAYED:
                immediate, delayed = 0, delayed + 1
            case Tier.SCHEDULED:
                immediate, delayed, scheduled = 0, 0, scheduled + 1
    return immediate, delayed, scheduled


def _delay_s(
    policy: RetryPolicy, first_s: float, longest_s: float, tries: int, jitter: float
) -> float:
    delay_s = min(longest_s, first_s * policy.factor**tries)
    return delay_s * (1 - policy.jitter_share * jitter)


def _after(now: datetime, delay_s: float, tier: Tier) -> RetryAt:
    return RetryAt(at=now + timedelta(seconds=delay_s), tier=tier)
