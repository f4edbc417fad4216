"""What follows when publishing a batch fails: tried again later, in the target's next window, or given up."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from penstock.ports.attempts import PublishAttempt
from penstock.ports.control import Claim
from penstock.publish.breaker import BREAKER_OPEN, BreakerStatus
from penstock.publish.retry import Attempt, Failure, Permanent, RetryAt, Tier, Transient, decide
from penstock.publish.state import FailureDetails, Move, PublishState
from penstock.use_cases.platform import Platform


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One failure of one publish."""

    step: str
    """``plan`` or ``execute``."""
    code: str
    error: Exception
    asked_s: float | None = None
    """Seconds that the target asked to be left alone."""
    permanent: bool = False
    """No retry mends it."""

    def failure(self) -> Failure:
        """Return it as the retry policy takes it."""
        if self.permanent:
            return Permanent(message=str(self.error))
        return Transient(message=str(self.error), retry_after_s=self.asked_s)


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The move to make, what it changes, and the attempt to record with it."""

    move: Move
    changes: Mapping[str, Any]
    attempt: PublishAttempt


def decided_after(
    platform: Platform, claim: Claim, trouble: Trouble, *, started_at: datetime, jitter: float
) -> Decided:
    """Decide what follows, from the attempts since the batch was last enqueued.

    Tier 1 was used up within the run, so what is left are tier 2 and tier 3. Where the target's breaker is open, it is
    not tried before that closes. An attempt that the breaker cut short does not count: it is made again.
    """
    state, now = claim.state, platform.clock.now()
    earlier = since_enqueued(
        platform.control.list_attempts(state.batch_id, state.target_id), state.enqueued_at
    )
    counted, tier = [a for a in earlier if a.code != BREAKER_OPEN], next_tier(earlier)
    if trouble.code == BREAKER_OPEN:
        again: RetryAt | None = RetryAt(at=now, tier=tier)
    else:
        again = _retry(platform, state, counted, tier, trouble, jitter)
    retries = len(counted) + (again is not None and trouble.code != BREAKER_OPEN)
    attempt = PublishAttempt(
        tier=tier,
        worker_id=claim.worker_id,
        enqueued_at=state.enqueued_at,
        started_at=started_at,
        failed_at=now,
        step=trouble.step,
        code=trouble.code,
        message=str(trouble.error)[:4000],
        retry_at=max(again.at, _reopens_at(platform, state, now)) if again else None,
        retry_tier=again.tier if again else None,
    )
    changes: dict[str, Any] = {"failure_details": _details(trouble, retries)}
    if again is not None:
        changes["retry_due_at"] = attempt.retry_at
    return Decided(move=Move.POSTPONE if again else Move.FAIL, changes=changes, attempt=attempt)


def since_enqueued(
    attempts: Sequence[PublishAttempt], enqueued_at: datetime
) -> list[PublishAttempt]:
    """Return the attempts that count: those since a person last put the batch into the queue."""
    mine = [attempt for attempt in attempts if attempt.enqueued_at == enqueued_at]
    ended = [number for number, attempt in enumerate(mine) if attempt.retry_tier is None]
    return mine[ended[-1] + 1 :] if ended else mine


def next_tier(earlier: Sequence[PublishAttempt]) -> Tier:
    """Return how the attempt that follows ``earlier`` comes about."""
    if not earlier:
        return Tier.FIRST
    last = earlier[-1].retry_tier
    return Tier.DELAYED if last is None else last


def _retry(
    platform: Platform,
    state: PublishState,
    earlier: Sequence[PublishAttempt],
    tier: Tier,
    trouble: Trouble,
    jitter: float,
) -> RetryAt | None:
    now = platform.clock.now()
    history = [Attempt(tier=a.tier, failed_at=a.failed_at) for a in earlier]
    decision = decide(
        platform.retry_policy.model_copy(update={"immediate_tries": 0}),
        [*history, Attempt(tier=tier, failed_at=now)],
        trouble.failure(),
        now=now,
        jitter=jitter,
        next_window=platform.next_window(state.target_id, now),
    )
    return decision if isinstance(decision, RetryAt) else None


def _reopens_at(platform: Platform, state: PublishState, now: datetime) -> datetime:
    breaker = platform.control.get_breaker(state.target_id, now=now)
    if breaker.status_at(now) is BreakerStatus.OPEN and breaker.open_until:
        return breaker.open_until
    return now


def _details(trouble: Trouble, retry_count: int) -> FailureDetails:
    return FailureDetails(
        error_code=trouble.code,
        error_message=str(trouble.error)[:4000],
        failed_operation=trouble.step,
        stack_trace="".join(traceback.format_exception(trouble.error))[-8000:],
        retry_count=retry_count,
    )
