"""When an event that came in is tried again: a pure decision."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field


class HandlingPolicy(BaseModel):
    """How often an event that came in is tried; times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    attempts: int = Field(default=6, ge=1, le=100)
    """After so many failures it is dead, until somebody requeues it."""
    first_delay_s: float = Field(default=0.5, gt=0)
    """Doubles with every failure."""
    max_delay_s: float = Field(default=60.0, gt=0)
    at_once: int = Field(default=500, ge=1, le=5000)
    """Events handled in one go."""
    keep_s: float = Field(default=7 * 24 * 3600.0, gt=0)
    """How long an event that took effect is remembered: as long it is known when it comes again."""


def next_try(
    policy: HandlingPolicy, attempts: int, now: datetime, jitter: float
) -> datetime | None:
    """Return when an event is tried again after so many failed attempts, or None if it is given up.

    The n-th wait is ``min(max_delay_s, first_delay_s * 2 ** (n - 1))``, of which ``jitter``, from 0 to 1, takes away up
    to a half.
    """
    if attempts >= policy.attempts:
        return None
    delay_s = min(policy.max_delay_s, policy.first_delay_s * 2.0 ** min(attempts - 1, 30))
    return now + timedelta(seconds=delay_s * (1 - jitter / 2))
